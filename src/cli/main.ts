/**
 * The process around the command line: arguments in, exit code out. A signal interrupts the command, so that every
 * finalizer runs, and then ends the process as the signal would have.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import { constants } from "node:os"
import { run } from "./command.ts"
import { logger } from "./output.ts"
import { signals } from "./signals.ts"

// Whoever closed standard error has chosen not to be told.
process.stderr.on("error", () => {})

const runMain = Runtime.makeRunMain(({ fiber, teardown }) => {
  let signalCode: number | undefined
  const onSignal = (signal: NodeJS.Signals) => {
    signalCode ??= 128 + constants.signals[signal]
    fiber.interruptUnsafe()
  }
  for (const signal of signals) process.on(signal, onSignal)
  fiber.addObserver((exit) => {
    for (const signal of signals) process.off(signal, onSignal)
    const interrupted = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
    teardown(exit, (code) => {
      // A child of `listen` has the last word on the status.
      process.exitCode ??= interrupted && signalCode !== undefined ? signalCode : code
      // Otherwise the process ends by itself, once what is on its way to a pipe has been written.
      if (signalCode !== undefined) process.exit()
    })
  })
})

runMain(run(process.argv.slice(2)).pipe(Effect.provide([NodeServices.layer, Logger.layer([logger])])))

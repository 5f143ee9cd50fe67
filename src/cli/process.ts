/**
 * The process around a command: its exit code, and its signals. A signal interrupts the command, so that every finalizer
 * runs, and then ends the process as the signal would have.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import { constants } from "node:os"
import { Ended, logger, reportFailure } from "./output.ts"
import { signals } from "./signals.ts"
import { OutputClosed } from "./stdout.ts"

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

/** Tells why the command failed, unless that has been said, and ends the process with the code for it. */
export const main = <A>(command: Effect.Effect<A, Error>): void =>
  runMain(command.pipe(
    Effect.catch((error) => {
      // A reader that has gone has seen enough.
      if (error instanceof OutputClosed) return Effect.void
      return error instanceof Ended ? Effect.fail(error) : reportFailure(error)
    }),
    Effect.provide(Logger.layer([logger]))
  ))

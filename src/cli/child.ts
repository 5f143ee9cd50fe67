/**
 * Runs a command beside the endpoint: it inherits the terminal and the environment, gets the signals this process gets,
 * and this process ends with its status.
 */
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { constants } from "node:os"
import { errnoOf } from "../internal/fileFailed.ts"
import { complain } from "./output.ts"
import { signals } from "./signals.ts"

/** As shells report it (`bash(1)`): 126 found but not started, 127 not found, 128 and the number of a signal. */
const statusOf = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? 128 + (signal === null ? 0 : constants.signals[signal])

const exited = (child: ChildProcess) =>
  Effect.callback<number>((resume) => {
    child.once("error", (error) => {
      const code = errnoOf(error)
      resume(Effect.as(complain(`cannot run ${child.spawnfile}: ${code}`), code === "ENOENT" ? 127 : 126))
    })
    child.once("exit", (code, signal) => resume(Effect.succeed(statusOf(code, signal))))
  })

/**
 * Waits for the command however often this process is told to stop: the signal has been passed on, and the command
 * decides. Its status becomes the exit code of this process.
 */
export const runChild = (program: string, args: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const child = spawn(program, args, { stdio: "inherit" })
      const forward = (signal: NodeJS.Signals) => child.kill(signal)
      for (const signal of signals) process.on(signal, forward)
      return { child, forward }
    }),
    ({ child }) =>
      Effect.uninterruptible(Effect.map(exited(child), (status) => {
        process.exitCode = status
      })),
    ({ forward }) =>
      Effect.sync(() => {
        for (const signal of signals) process.off(signal, forward)
      })
  )

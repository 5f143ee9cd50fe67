/**
 * Lines from many fibers on standard output, in the order they were handed over: one write for all that have gathered
 * during the last one. Each fiber waits until its line has been taken, so what is not read is not buffered here but
 * stays in the inbox. Where a line cannot be written, `run` fails, and the fibers wait until they are interrupted.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { type OutputError, printLines } from "./stdout.ts"

export interface Printer {
  readonly print: (line: string) => Effect.Effect<void>
  /** Writes until a write fails. */
  readonly run: Effect.Effect<never, OutputError>
}

export const make = (): Printer => {
  // Filled by `print`, emptied by the one fiber of `run`.
  let lines: Array<string> = []
  let waiting: Array<() => void> = []
  const woken = Latch.makeUnsafe(false)
  let isWaking = false
  const wake = () => {
    if (isWaking) return
    isWaking = true
    // Opening the latch writes there and then; at the end of this turn there is more to write at once.
    queueMicrotask(() => {
      isWaking = false
      woken.openUnsafe()
    })
  }
  const writeAll: Effect.Effect<void, OutputError> = Effect.suspend(() => {
    if (lines.length === 0) return Effect.void
    const written = waiting
    const text = lines
    lines = []
    waiting = []
    return Effect.flatMap(printLines(text), () => {
      for (const resume of written) resume()
      return writeAll
    })
  })
  return {
    print: (line) =>
      Effect.callback<void>((resume) => {
        lines.push(line)
        waiting.push(() => resume(Effect.void))
        wake()
      }),
    run: Effect.forever(Effect.flatMap(woken.await, () => {
      woken.closeUnsafe()
      return writeAll
    }))
  }
}

/** How far a long transfer is, on standard error, and only where that is a terminal that can be drawn on. */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import { fstatSync } from "node:fs"

export interface Progress {
  /** Draws, unless it has just drawn. */
  readonly update: (lines: number, bytes: number) => Effect.Effect<void>
}

const intervalMillis = 100
const barCells = 30

/** Bytes that standard input will give; undefined where it is no file. */
const inputSize = () => {
  try {
    const facts = fstatSync(0)
    return facts.isFile() && facts.size > 0 ? facts.size : undefined
  } catch {
    return undefined
  }
}

const bar = (part: number) => {
  const filled = Math.round(Math.min(1, part) * barCells)
  return `[${"#".repeat(filled)}${" ".repeat(barCells - filled)}] `
}

/** Cleared with the scope. */
export const progress = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
  const isDumb = !canAnimate && (yield* stdio.stdoutIsTerminal)
  if (isDumb || !(yield* stdio.stderrIsTerminal)) return { update: () => Effect.void } satisfies Progress
  const startedAt = yield* Clock.currentTimeMillis
  const size = inputSize()
  let drawnAt = startedAt
  yield* Effect.addFinalizer(() => Effect.sync(() => drawnAt > startedAt && process.stderr.write("\r\u001B[K")))
  const draw = (now: number, lines: number, bytes: number) => {
    drawnAt = now
    const rate = Math.round(lines / ((now - startedAt) / 1_000))
    process.stderr.write(
      `\r\u001B[K${size === undefined ? "" : bar(bytes / size)}${lines} lines, ${rate} a second`
    )
  }
  return {
    update: (lines, bytes) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        if (now - drawnAt >= intervalMillis) draw(now, lines, bytes)
      })
  } satisfies Progress
})

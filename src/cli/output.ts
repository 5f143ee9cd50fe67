/**
 * What every command shares: one line on standard error for a failure, whole lines on standard output, and the exit
 * codes 0, 1 for a failure and 2 for wrong usage.
 */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { PlatformError } from "effect/PlatformError"
import * as Runtime from "effect/Runtime"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Host } from "../Host.ts"
import { errnoOf } from "../internal/privateFiles.ts"
import { remoteText } from "../internal/remoteText.ts"
import { Namespace } from "../Namespace.ts"

/** Ends the process with `code`. Everything worth saying has been said. */
export class Ended extends Data.TaggedError("Ended")<{ readonly code: number }> {
  override readonly [Runtime.errorExitCode] = this.code
  override readonly [Runtime.errorReported] = false
}

/** The command was used wrongly; `problem` says how it is meant. */
export class WrongUsage extends Data.TaggedError("WrongUsage")<{ readonly problem: string }> {
  override get message() {
    return this.problem
  }
}

const maxLineBytes = 1_000

/** One line on standard error, whatever the text holds. */
export const complain = (text: string) =>
  Console.error(`effect-messaging: ${remoteText(text.replaceAll(/\s*\n\s*/g, " "), maxLineBytes)}`)

/** Tells a failure in one line. Fails with `Ended`. */
export const reportFailure = (error: Error): Effect.Effect<never, Ended> =>
  Effect.andThen(complain(error.message), Effect.fail(new Ended({ code: error instanceof WrongUsage ? 2 : 1 })))

/**
 * Writes lines as fast as the reader takes them. A reader that has gone away ends the stream quietly: that is how
 * `| head` says it has seen enough.
 */
export const printLines = <E, R>(
  lines: Stream.Stream<string, E, R>
): Effect.Effect<void, E | PlatformError, R | Stdio.Stdio> =>
  Effect.flatMap(Stdio.Stdio, (stdio) => Stream.run(Stream.map(lines, (line) => `${line}\n`), stdio.stdout())).pipe(
    Effect.catchIf(
      (error) => errnoOf((error as { reason?: { cause?: unknown } }).reason?.cause) === "EPIPE",
      () => Effect.void
    )
  )

/** A path or an id as a terminal may see it. */
export const shown = (text: string) => remoteText(text, 300)

export const printLine = (line: string) => printLines(Stream.succeed(line))

/** `--to`, or the environment variable of the parent. Fails with `WrongUsage` when neither is there. */
export const target = Effect.fnUntraced(function*(to: Option.Option<string>) {
  const host = yield* Host
  const { environmentVariable } = yield* Namespace
  const address = Option.getOrElse(to, () => host.environment[environmentVariable] ?? "")
  return address === ""
    ? yield* new WrongUsage({ problem: `no target: give --to ADDRESS, or set ${environmentVariable}` })
    : address
})

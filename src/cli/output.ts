/**
 * What every command shares: one line on standard error for a failure, and the exit codes 0, 1 for a failure and 2 for
 * wrong usage.
 */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { Host } from "../Host.ts"
import { remoteText } from "../internal/remoteText.ts"
import { MessagingError } from "../MessagingError.ts"
import { Namespace } from "../Namespace.ts"
import { maxColumns, wrap } from "./stdout.ts"

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

const oneLine = (text: string) => `effect-messaging: ${remoteText(text.replaceAll(/\s*\n\s*/g, " "), maxLineBytes)}`

const onStandardError = (text: string) => {
  const { columns, isTTY } = process.stderr
  return isTTY ? wrap(oneLine(text), Math.min(columns || 80, maxColumns)).join("\n") : oneLine(text)
}

/** One line on standard error, whatever the text holds; on a terminal as many as it takes. */
export const complain = (text: string) => Console.error(onStandardError(text))

/** The command that helps, where one does. */
const hints: { readonly [K in MessagingError["reason"]["_tag"]]?: string } = {
  NameNotUnique: "effect-messaging peers shows who listens, doctor what keeps others out",
  PeerNotFound: "effect-messaging peers shows who listens, doctor what keeps others out",
  PeerUnreachable: "run effect-messaging sweep",
  PeerUntrusted: "effect-messaging doctor says what to do",
  AccessDenied: "effect-messaging doctor says what to do"
}

const hintFor = (error: Error) => {
  const hint = error instanceof MessagingError ? hints[error.reason._tag] : undefined
  return hint === undefined ? "" : ` (${hint})`
}

/** Tells a failure in one line. Fails with `Ended`. */
export const reportFailure = (error: Error): Effect.Effect<never, Ended> =>
  Effect.andThen(
    complain(`${error.message}${hintFor(error)}`),
    Effect.fail(new Ended({ code: error instanceof WrongUsage ? 2 : 1 }))
  )

/** What the library logs, as lines on standard error: standard output is for what was asked for. */
export const logger = Logger.make(({ cause, logLevel, message }) => {
  const texts = (Array.isArray(message) ? message : [message]).filter((part) => typeof part === "string")
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (cause.reasons.length > 0) texts.push(error instanceof Error ? error.message : Cause.pretty(cause))
  process.stderr.write(`${onStandardError(`${logLevel.toLowerCase()}: ${texts.join(": ")}`)}\n`)
})

/** A path or an id as a terminal may see it. */
export const shown = (text: string) => remoteText(text, 300)

/** Text of several lines as a terminal may see it. */
export const shownLines = (text: string) =>
  text.split("\n").map((line) => remoteText(line.replaceAll("\t", "    "), Number.MAX_SAFE_INTEGER)).join("\n")

/** `--to`, or the environment variable of the parent. Fails with `WrongUsage` when neither is there. */
export const target = Effect.fnUntraced(function*(to: Option.Option<string>) {
  const host = yield* Host
  const { environmentVariable } = yield* Namespace
  const address = Option.getOrElse(to, () => host.environment[environmentVariable] ?? "")
  return address === ""
    ? yield* new WrongUsage({ problem: `no target: give --to ADDRESS, or set ${environmentVariable}` })
    : address
})

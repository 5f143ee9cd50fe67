import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Layers from "../Layers.ts"
import type { Message } from "../Message.ts"
import { MessagingError } from "../MessagingError.ts"
import * as flags from "./flags.ts"
import { textOf } from "./input.ts"
import { sendLines, type Summary } from "./lines.ts"
import { shown, target, WrongUsage } from "./output.ts"
import { progress } from "./progress.ts"
import { type Options, sendOne } from "./sendOne.ts"
import { printLine, printText } from "./stdout.ts"

class LineFailed extends Data.TaggedError("LineFailed")<{
  readonly line: number
  readonly until: Options["until"]
  readonly cause: Error
}> {
  /** A program that takes messages without a handler says nothing more after storing them. */
  private get hint() {
    const isTimeout = this.cause instanceof MessagingError && this.cause.reason._tag === "Timeout"
    return isTimeout && this.until === "handled" ? " (for a peer that tells of no handling: --until stored)" : ""
  }
  override get message() {
    return `line ${this.line} was not ${this.until}: ${this.cause.message}${this.hint}`
  }
}

const describe = ({ bytes, lines, misplaced, refused }: Summary, until: string, seconds: number, to: string) =>
  `${until} ${lines} lines (${bytes} bytes) in ${seconds.toFixed(1)} s by ${shown(to)}` +
  (refused === 0 ? "" : `; the inbox was full for ${refused} of them`) +
  (misplaced === 0 ? "" : `, and ${misplaced} are behind later ones: --until handled keeps the order`)

const sendAll = Effect.fnUntraced(function*(to: string, type: Message["type"], json: boolean, options: Options) {
  const startedAt = yield* Clock.currentTimeMillis
  const summary = yield* Effect.scoped(
    Effect.flatMap(progress, (progress) => sendLines(to, type, options, progress))
  )
  const milliseconds = (yield* Clock.currentTimeMillis) - startedAt
  const { failure, ...counts } = summary
  yield* (json ? printLine : printText)(
    json
      ? JSON.stringify({ event: "summary", until: options.until, to, ...counts, milliseconds })
      : describe(summary, options.until, milliseconds / 1_000, to)
  )
  if (failure === undefined) return
  const { error, line } = failure
  return yield* error instanceof WrongUsage ? error : new LineFailed({ line, until: options.until, cause: error })
})

export const send = Command.make("send", {
  to: flags.to,
  type: Flag.Literals("type", ["text", "notification", "query"]).pipe(
    Flag.withMetavar("TYPE"),
    Flag.withDescription("What the message is: text, notification or query. Default: text"),
    Flag.withDefault("text")
  ),
  until: Flag.Literals("until", ["stored", "handled"]).pipe(
    Flag.withMetavar("EVENT"),
    Flag.withDescription(
      "What to wait for: stored in the peer's inbox, or handled by it. Default: stored; with --lines, handled"
    ),
    Flag.optional
  ),
  timeout: flags.timeout,
  lines: Flag.Boolean("lines").pipe(
    Flag.withDescription("Send each line of standard input as a message, in order, and print a summary"),
    Flag.withDefault(false)
  ),
  json: flags.json,
  text: flags.text.pipe(
    Argument.withDescription("The message, or - for standard input; not needed with --lines"),
    Argument.optional
  )
}, ({ json, lines, text, timeout, to, type, until }) =>
  Effect.gen(function*() {
    const options: Options = {
      until: Option.getOrElse(until, () => lines ? "handled" : "stored"),
      timeout: Option.getOrUndefined(timeout)
    }
    if (lines && Option.getOrElse(text, () => "-") !== "-") {
      return yield* new WrongUsage({ problem: "--lines reads standard input: give - or no text" })
    }
    if (!lines && Option.isNone(text)) {
      return yield* new WrongUsage({ problem: "Missing required argument: text (see effect-messaging send --help)" })
    }
    const address = yield* target(to)
    if (lines) return yield* sendAll(address, type, json, options)
    const data = yield* textOf(Option.getOrElse(text, () => ""))
    yield* sendOne(address, { type, data }, json, options)
  }).pipe(Effect.provide(Layers.layerClient()))).pipe(
    Command.withDescription("Put a message in a peer's inbox, and print the receipt"),
    Command.withExamples([
      { command: "effect-messaging send \"build finished\"", description: "Tell the parent of this process" },
      {
        command: "git diff | effect-messaging send --to build -",
        description: "Send standard input to a peer by name"
      },
      {
        command: "tail -f app.log | effect-messaging send --to build --lines",
        description: "Send each line, no faster than the peer handles them"
      }
    ])
  )

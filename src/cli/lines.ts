/**
 * One message a line: as many at once as a window holds, in order, and a peer whose inbox is full is waited for.
 *
 * What the peer refuses for lack of room is sent again before anything that is not under way. What was under way may have
 * been stored meanwhile, if room came up between; that is counted by the ids of the receipts, and told. So that it cannot
 * happen again, lines go one at a time from then on. With receipts for what has been handled there is no more under way
 * than the window holds, and a peer that has its default limits is never full.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as Address from "../Address.ts"
import { Limits } from "../Limits.ts"
import type { Message } from "../Message.ts"
import { Messaging, type Receipt, type SendOptions } from "../Messaging.ts"
import type { MessagingError } from "../MessagingError.ts"
import { Peers } from "../Peers.ts"
import { standardInputLines } from "./input.ts"
import type { Progress } from "./progress.ts"

export interface Summary {
  lines: number
  bytes: number
  /** Lines that had to be sent again, since there was no room for them. */
  refused: number
  /** Lines stored behind one that follows them in the input. */
  misplaced: number
  /** What ended it before the end of the input, and at which line, counted from 1. */
  failure?: { readonly line: number; readonly error: Error }
}

/** Lines under way at once: well below what an inbox holds. */
const window = 256
const windowBytes = 262_144

type Outcome = Result.Result<Receipt, MessagingError>

const isRefused = (outcome: Outcome): outcome is Result.Failure<never, MessagingError> & Outcome =>
  Result.isFailure(outcome) && outcome.failure.reason._tag === "InboxFull"

/** What the peer says, or the tenth of a second that is its default. */
const patience = ({ reason }: MessagingError) =>
  reason._tag === "InboxFull" ? Option.getOrElse(reason.retryAfter, () => Duration.millis(100)) : Duration.zero

/** The place of a line in the peer's inbox. */
const ordinalOf = ({ id }: Receipt): number => Number(/^uds-(\d+)$/.exec(Option.getOrElse(id, () => ""))?.[1])

/** As many as are within the window, and one in any case. */
const fitting = (lines: ReadonlyArray<string>) => {
  const longest = Math.max(1, ...lines.map((line) => line.length))
  return Math.max(1, Math.min(window, Math.floor(windowBytes / longest)))
}

/** Sends standard input to `to`, line by line, and says how far it came. */
export const sendLines = Effect.fnUntraced(function*(
  to: string,
  type: Message["type"],
  options: SendOptions,
  progress: Progress
) {
  const messaging = yield* Messaging
  const limits = yield* Limits
  // A name is looked up once, and not for each line.
  const address = Address.isName(to) ? yield* Effect.flatMap(Peers, (peers) => peers.named(to)) : to
  const timeout = Duration.fromInputUnsafe(options.timeout ?? limits.sendTimeout)
  const summary: Summary = { lines: 0, bytes: 0, refused: 0, misplaced: 0 }
  let wasFull = false

  const send = (line: string) => messaging.send(address, { type, data: line }, options)

  /** Until there is room, or the time for one line is up. */
  const persist = Effect.fnUntraced(function*(line: string, first: Outcome) {
    const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(timeout)
    let last = first
    if (isRefused(last)) summary.refused++
    while (isRefused(last) && (yield* Clock.currentTimeMillis) < until) {
      yield* Effect.sleep(patience(last.failure))
      last = yield* Effect.result(send(line))
    }
    return last
  })

  const count = (lines: ReadonlyArray<string>, results: ReadonlyArray<Outcome | "unsent">) => {
    const before = summary.lines
    results.forEach((result, at) => {
      if (result === "unsent") return
      if (Result.isSuccess(result)) {
        summary.lines++
        summary.bytes += Buffer.byteLength(lines[at] ?? "") + 1
      } else if (summary.failure === undefined) {
        summary.failure = { line: before + at + 1, error: result.failure }
      }
    })
  }

  const countMisplaced = (results: ReadonlyArray<Outcome | "unsent">) => {
    let last = 0
    for (const result of results) {
      if (result === "unsent" || Result.isFailure(result)) continue
      const ordinal = ordinalOf(result.success)
      if (ordinal < last) summary.misplaced++
      else last = ordinal
    }
  }

  /** The first failure stops it: what is behind that line and not under way yet is not sent, and has no outcome. */
  const sendTogether = (lines: ReadonlyArray<string>) => {
    let hasFailed = false
    const unlessFailed = (line: string) =>
      Effect.suspend((): Effect.Effect<Outcome | "unsent"> =>
        hasFailed ? Effect.succeed("unsent" as const) : Effect.map(Effect.result(send(line)), (outcome) => {
          hasFailed ||= Result.isFailure(outcome)
          return outcome
        })
      )
    return Effect.forEach(lines, unlessFailed, { concurrency: wasFull ? 1 : fitting(lines) })
  }

  const sendBatch = Effect.fnUntraced(function*(lines: ReadonlyArray<string>) {
    const outcomes = yield* sendTogether(lines)
    const isOver = outcomes.some((outcome) => outcome !== "unsent" && Result.isFailure(outcome) && !isRefused(outcome))
    if (!isOver && outcomes.some((outcome) => outcome === "unsent" || isRefused(outcome))) {
      for (const [at, line] of lines.entries()) {
        const outcome = outcomes[at] ?? "unsent"
        if (outcome !== "unsent" && Result.isSuccess(outcome)) continue
        const last = yield* persist(line, outcome === "unsent" ? yield* Effect.result(send(line)) : outcome)
        outcomes[at] = last
        if (Result.isFailure(last)) break
      }
      if (!wasFull) countMisplaced(outcomes)
      wasFull = true
    }
    count(lines, outcomes)
    yield* progress.update(summary.lines, summary.bytes)
    if (summary.failure !== undefined) return yield* Effect.fail(summary.failure.error)
  })

  yield* standardInputLines.pipe(
    Stream.runForEachArray(sendBatch),
    Effect.catch((error: Error) =>
      Effect.sync(() => {
        summary.failure ??= { line: summary.lines + 1, error }
      })
    )
  )
  return summary
})

/**
 * One message a line: as many at once as a window holds, in order, and a peer whose inbox is full is waited for.
 *
 * What the peer refuses for lack of room is sent again before anything behind it. Lines of the same window may have been
 * stored meanwhile, if room came up between; that is counted by the ids of the receipts, and told. So that it cannot
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

const isFull = ({ reason }: MessagingError) => reason._tag === "InboxFull"

/** What the peer says, or the tenth of a second that is its default. */
const patience = ({ reason }: MessagingError) =>
  reason._tag === "InboxFull" ? Option.getOrElse(reason.retryAfter, () => Duration.millis(100)) : Duration.zero

/** The place of a line in the peer's inbox. */
const ordinalOf = ({ id }: Receipt): number => Number(/^uds-(\d+)$/.exec(Option.getOrElse(id, () => ""))?.[1])

/** The lines from `at` on that may be under way together: always one, and no more than fit into a window. */
const takeWindow = (lines: ReadonlyArray<string>, at: number, size: number) => {
  let bytes = 0
  let end = at
  while (end < lines.length && end - at < size) {
    bytes += lines[end]?.length ?? 0
    if (end > at && bytes > windowBytes) break
    end++
  }
  return lines.slice(at, end)
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
  let size = window

  const send = (line: string) => messaging.send(address, { type, data: line }, options)

  /** Until there is room, or the time for one line is up. */
  const sendAgain = Effect.fnUntraced(function*(line: string, refusal: MessagingError) {
    const until = (yield* Clock.currentTimeMillis) + Duration.toMillis(timeout)
    let last = refusal
    while ((yield* Clock.currentTimeMillis) < until) {
      yield* Effect.sleep(patience(last))
      const result = yield* Effect.result(send(line))
      if (Result.isSuccess(result) || !isFull(result.failure)) return result
      last = result.failure
    }
    return Result.fail(last)
  })

  const count = (lines: ReadonlyArray<string>, results: ReadonlyArray<Result.Result<Receipt, MessagingError>>) => {
    const before = summary.lines
    results.forEach((result, at) => {
      if (Result.isSuccess(result)) {
        summary.lines++
        summary.bytes += Buffer.byteLength(lines[at] ?? "") + 1
      } else if (summary.failure === undefined) {
        summary.failure = { line: before + at + 1, error: result.failure }
      }
    })
  }

  const countMisplaced = (results: ReadonlyArray<Result.Result<Receipt, MessagingError>>) => {
    let last = 0
    for (const result of results) {
      if (Result.isFailure(result)) continue
      const ordinal = ordinalOf(result.success)
      if (ordinal < last) summary.misplaced++
      else last = ordinal
    }
  }

  const sendWindow = Effect.fnUntraced(function*(lines: ReadonlyArray<string>) {
    const results = yield* Effect.forEach(lines, (line) => Effect.result(send(line)), { concurrency: "unbounded" })
    const hasFailed = () => results.some((result) => Result.isFailure(result) && !isFull(result.failure))
    for (const [at, line] of lines.entries()) {
      const result = results[at]
      if (result === undefined || Result.isSuccess(result) || !isFull(result.failure) || hasFailed()) continue
      size = 1
      summary.refused++
      results[at] = yield* sendAgain(line, result.failure)
      if (Result.isFailure(results[at])) break
    }
    if (summary.refused > 0 && lines.length > 1) countMisplaced(results)
    count(lines, results)
    yield* progress.update(summary.lines, summary.bytes)
  })

  yield* standardInputLines.pipe(
    Stream.runForEachArray((lines) =>
      Effect.gen(function*() {
        for (let at = 0; at < lines.length && summary.failure === undefined;) {
          const next = takeWindow(lines, at, size)
          yield* sendWindow(next)
          at += next.length
        }
        if (summary.failure !== undefined) return yield* Effect.fail(summary.failure.error)
      })
    ),
    Effect.catch((error: Error) =>
      Effect.sync(() => {
        summary.failure ??= { line: summary.lines + 1, error }
      })
    )
  )
  return summary
})

/**
 * One entry of an inbox: its answer, which may have to wait for the asker to read, and the end of its handling, which is
 * told behind the answer.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { Entry, Observer, Outcome, Received, Sender } from "../Inbox.ts"
import type { Message } from "../Message.ts"

const handled: Outcome = { _tag: "Handled" }

/** Shared by all entries of one millisecond: a number that large would be an object of its own in each. */
export interface Instant {
  readonly millis: number
}

/** An entry, and its mutable part: only the inbox that holds it writes to it. */
export class StoredEntry implements Entry {
  status: Entry["status"] = "waiting"
  readonly id: string
  readonly message: Message
  readonly sender: Sender
  readonly bytes: number
  readonly traceparent: string | undefined
  readonly #receivedAt: Instant
  readonly ordinal: number
  readonly #observer: Observer | undefined
  #replied = false
  // Replies that wait for room, and how its handling has ended meanwhile: the answer comes before the end.
  #replying = 0
  #succeeded: boolean | undefined

  constructor(ordinal: number, received: Received, receivedAt: Instant) {
    this.ordinal = ordinal
    this.id = `uds-${ordinal}`
    this.message = received.message
    this.sender = received.sender
    this.bytes = received.bytes
    this.traceparent = received.traceparent
    this.#receivedAt = receivedAt
    this.#observer = received.observer
  }

  // Made when it is asked for, since most entries are not replied to.
  get reply(): Entry["reply"] {
    return (data) => Effect.suspend(() => this.#reply(data))
  }

  #reply(data: string): Effect.Effect<boolean> {
    const room = this.room()
    if (room === undefined) return Effect.succeed(this.answer(data))
    // Others may wait for the same room, and another answer may come first.
    const answerOrWait = Effect.suspend((): Effect.Effect<boolean> => {
      const room = this.room()
      return room === undefined ? Effect.succeed(this.answer(data)) : Effect.flatMap(room, () => answerOrWait)
    })
    return Effect.acquireUseRelease(
      Effect.sync(() => void this.#replying++),
      () => Effect.flatMap(room, () => answerOrWait),
      () =>
        Effect.sync(() => {
          this.#replying--
          this.#tellEnd()
        })
    )
  }

  /** What an answer waits for; undefined where it waits for nothing, or there can be none. */
  room(): Effect.Effect<void> | undefined {
    return this.#replied || this.message.type !== "query" ? undefined : this.#observer?.room?.()
  }

  /** Answers there and then. Says whether the asker waits for it. */
  answer(data: string): boolean {
    if (this.#replied || this.message.type !== "query") return false
    this.#replied = true
    return this.#observer?.onOutcome({ _tag: "Replied", data }) ?? false
  }

  /** The end of its handling, told once. A query that failed unanswered is answered by the failure. */
  settle(succeeded: boolean): void {
    this.status = succeeded ? "processed" : "failed"
    this.#succeeded = succeeded
    this.#tellEnd()
  }

  #tellEnd() {
    const succeeded = this.#succeeded
    if (succeeded === undefined || this.#replying > 0) return
    this.#succeeded = undefined
    const answered = this.#replied
    if (!succeeded) this.#replied = true
    this.#observer?.onOutcome(succeeded ? handled : { _tag: "Failed", answered })
  }

  get receivedAt() {
    return DateTime.makeUnsafe(this.#receivedAt.millis)
  }
}

/**
 * What an endpoint remembers of the messages it has stored for senders of protocol 2: the ack, and what became of them.
 * So a message that is sent again, because its ack was lost, is not stored again and loses no receipt or answer.
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Observer, Outcome } from "../Inbox.ts"
import type { Values } from "../Limits.ts"
import * as fifos from "./fifo.ts"
import type { Placed } from "./fifo.ts"
import { readNumber } from "./messageIds.ts"
import { Numbered } from "./numbered.ts"

/** One connection that is told. */
export interface Listener {
  readonly tell: (outcome: Outcome) => void
  readonly room: () => Effect.Effect<void> | undefined
}

/** Most messages have no outcome that anybody waits for. */
const none: ReadonlyArray<Outcome> = []

/**
 * One stored message. Lives as long as its entry or the memory of its id, whichever is longer; there are as many as an
 * endpoint remembers, so it is one object and no more: three cost a tenth of all that a message costs.
 */
export class Delivery implements Observer, Placed {
  ackId = ""
  /** Undefined while the sender has no connection. */
  listener: Listener | undefined
  /** Written by `settle`, and by the memory when it forgets the answer among them. */
  outcomes = none
  /** There was an answer, and it is forgotten. */
  hasLostAnswer = false
  /** Nobody can ask for it again. */
  isForgotten = false
  // Where it is found; written when it is remembered.
  sender = ""
  key: Key = 0
  place = 0
  /** Whole milliseconds: a number with a fraction would be an object of its own. */
  readonly rememberedAt: number
  readonly #deliveries: Deliveries

  constructor(deliveries: Deliveries, rememberedAt: number) {
    this.#deliveries = deliveries
    this.rememberedAt = Math.trunc(rememberedAt)
  }

  onOutcome(outcome: Outcome) {
    return this.#deliveries.settle(this, outcome)
  }
  room() {
    return this.listener?.room()
  }
}

export interface Deliveries {
  readonly find: (sender: string, messageId: string, now: number) => Delivery | undefined
  readonly remember: (sender: string, messageId: string, delivery: Delivery) => void
  /** Notes the outcome and tells the sender's connection, if it has one. Says whether it has. */
  readonly settle: (delivery: Delivery, outcome: Outcome) => boolean
}

type Key = string | number

/** What is remembered of one sender. Programs number their messages behind a prefix of their own. */
class Remembered {
  readonly #prefix: string
  readonly #numbered = new Numbered<Delivery>()
  readonly #named = new Map<string, Delivery>()

  constructor(firstId: string) {
    this.#prefix = firstId.slice(0, firstId.search(/\d*$/))
  }
  keyOf(messageId: string): Key {
    if (!messageId.startsWith(this.#prefix)) return messageId
    return readNumber(messageId, this.#prefix.length, messageId.length) ?? messageId
  }
  get(key: Key) {
    return typeof key === "number" ? this.#numbered.get(key) : this.#named.get(key)
  }
  /** The key is a new one. */
  set(key: Key, delivery: Delivery) {
    if (typeof key === "number") this.#numbered.set(key, delivery)
    else this.#named.set(key, delivery)
  }
  /** Says whether that was the last. */
  delete(key: Key) {
    if (typeof key === "number") this.#numbered.delete(key)
    else this.#named.delete(key)
    return this.#numbered.size + this.#named.size === 0
  }
}

/** Answers kept for senders that may ask again, in characters; the oldest are forgotten first. */
const outcomeSize = (outcome: Outcome) => outcome._tag === "Replied" ? outcome.data.length : 0

export const make = (
  limits: Pick<Values, "maxRememberedMessages" | "rememberTimeout" | "maxInboxBytes">
): Deliveries => {
  // All written in synchronous steps. What is remembered of each sender, by id; and of all of them, by age, where what
  // stands before `head` is forgotten. A map would keep the order, but finding its oldest entry passes over all that
  // were deleted before it: 16 µs a message.
  const senders = new Map<string, Remembered>()
  let byAge: Array<Delivery | undefined> = []
  let head = 0
  const answered = fifos.make<Delivery>()
  let answerSize = 0
  const age = Duration.toMillis(limits.rememberTimeout)

  const forgetAnswers = (delivery: Delivery) => {
    if (!answered.has(delivery)) return
    answered.remove(delivery)
    for (const outcome of delivery.outcomes) answerSize -= outcomeSize(outcome)
    delivery.outcomes = delivery.outcomes.filter((outcome) => outcome._tag !== "Replied")
    delivery.hasLostAnswer = true
  }
  const note = (delivery: Delivery, outcome: Outcome) => {
    delivery.outcomes = [...delivery.outcomes, outcome]
    if (outcomeSize(outcome) === 0) return
    answered.push(delivery)
    answerSize += outcomeSize(outcome)
    for (let oldest = answered.peek(); answerSize > limits.maxInboxBytes; oldest = answered.peek()) {
      if (oldest === undefined || oldest === delivery) break
      forgetAnswers(oldest)
    }
  }
  const forgetOldest = (now: number) => {
    for (let oldest = byAge[head]; oldest !== undefined; oldest = byAge[head]) {
      if (byAge.length - head <= limits.maxRememberedMessages && now - oldest.rememberedAt < age) break
      byAge[head++] = undefined
      if (senders.get(oldest.sender)?.delete(oldest.key) === true) senders.delete(oldest.sender)
      oldest.isForgotten = true
      forgetAnswers(oldest)
    }
    if (head > 1_024 && head > byAge.length / 2) {
      byAge = byAge.slice(head)
      head = 0
    }
  }
  return {
    find: (sender, messageId, now) => {
      const oldest = byAge[head]
      if (oldest !== undefined && now - oldest.rememberedAt >= age) forgetOldest(now)
      const remembered = senders.get(sender)
      return remembered?.get(remembered.keyOf(messageId))
    },
    remember: (sender, messageId, delivery) => {
      let remembered = senders.get(sender)
      if (remembered === undefined) {
        remembered = new Remembered(messageId)
        senders.set(sender, remembered)
      }
      delivery.sender = sender
      delivery.key = remembered.keyOf(messageId)
      remembered.set(delivery.key, delivery)
      byAge.push(delivery)
      forgetOldest(delivery.rememberedAt)
    },
    settle: (delivery, outcome) => {
      if (!delivery.isForgotten) note(delivery, outcome)
      delivery.listener?.tell(outcome)
      return delivery.listener !== undefined
    }
  }
}

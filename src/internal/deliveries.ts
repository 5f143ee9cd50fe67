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

/**
 * One stored message. Lives as long as its entry or the memory of its id, whichever is longer; there are as many as an
 * endpoint remembers, so it is one object and no more: three cost a tenth of all that a message costs.
 */
export class Delivery implements Observer, Placed {
  ackId = ""
  /** Undefined while the sender has no connection. */
  listener: Listener | undefined
  /** Written by `settle`, and by the memory when it forgets the answer. */
  answer: Extract<Outcome, { readonly _tag: "Replied" }> | undefined
  end: Exclude<Outcome, { readonly _tag: "Replied" }> | undefined
  /** There was an answer, and it is forgotten. */
  hasLostAnswer = false
  /** Nobody can ask for it again. */
  isForgotten = false
  // Where it is found; written when it is remembered.
  series: Series | undefined
  key: string | number = 0
  place = 0
  /** Whole milliseconds: a number with a fraction would be an object of its own. */
  readonly rememberedAt: number
  readonly #deliveries: Deliveries

  constructor(deliveries: Deliveries, rememberedAt: number) {
    this.#deliveries = deliveries
    this.rememberedAt = Math.trunc(rememberedAt)
  }

  /** What is known so far, in order. */
  get outcomes(): ReadonlyArray<Outcome> {
    return [this.answer, this.end].filter((outcome) => outcome !== undefined)
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

/**
 * Messages of one sender whose ids differ only in the number at their end: programs number their messages behind a
 * prefix of their own, and several may send without an address.
 */
class Series {
  readonly sender: string
  readonly prefix: string
  readonly messages = new Numbered<Delivery>()

  constructor(sender: string, prefix: string) {
    this.sender = sender
    this.prefix = prefix
  }
}

/** Where the number begins: behind the zeros that its shortest form has not. */
const numberStart = (messageId: string): number => /(?:0|[1-9]\d*)?$/.exec(messageId)?.index ?? messageId.length

/** The number of an id that belongs to the series. */
const numberIn = (series: Series | undefined, sender: string, messageId: string) =>
  series === undefined || series.sender !== sender || !messageId.startsWith(series.prefix)
    ? undefined
    : readNumber(messageId, series.prefix.length, messageId.length)

/** An id, or a series, among those of all senders. No id has a line feed. */
const nameOf = (sender: string, id: string) => `${id}\n${sender}`

export const make = (
  limits: Pick<Values, "maxRememberedMessages" | "rememberTimeout" | "maxInboxBytes">
): Deliveries => {
  // All written in synchronous steps. What is remembered: in its series, or by sender and id where that ends in no
  // number; and all of it by age, where what stands before `head` is forgotten. A map would keep the order, but finding its
  // oldest entry passes over all that were deleted before it: 16 µs a message.
  const allSeries = new Map<string, Series>()
  const named = new Map<string, Delivery>()
  // The one of the last message, since many come of one together.
  let last: Series | undefined
  let byAge: Array<Delivery | undefined> = []
  let head = 0
  // Those whose answers are kept for senders that may ask again, and the characters of them; the oldest are forgotten
  // first.
  const answered = fifos.make<Delivery>()
  let answerSize = 0
  const age = Duration.toMillis(limits.rememberTimeout)

  const forgetAnswer = (delivery: Delivery) => {
    if (delivery.answer === undefined) return
    answered.remove(delivery)
    answerSize -= delivery.answer.data.length
    delivery.answer = undefined
    delivery.hasLostAnswer = true
  }
  const note = (delivery: Delivery, outcome: Outcome) => {
    if (outcome._tag !== "Replied") {
      delivery.end = outcome
      return
    }
    delivery.answer = outcome
    answered.push(delivery)
    answerSize += outcome.data.length
    for (let oldest = answered.peek(); answerSize > limits.maxInboxBytes; oldest = answered.peek()) {
      if (oldest === undefined || oldest === delivery) break
      forgetAnswer(oldest)
    }
  }
  /** The number of an id in the series that is `last` then; undefined where it is in none. */
  const locate = (sender: string, messageId: string): number | undefined => {
    const known = numberIn(last, sender, messageId)
    if (known !== undefined) return known
    const start = numberStart(messageId)
    const number = readNumber(messageId, start, messageId.length)
    if (number === undefined) return undefined
    const prefix = messageId.slice(0, start)
    last = allSeries.get(nameOf(sender, prefix)) ?? new Series(sender, prefix)
    return number
  }
  const forget = ({ key, series }: Delivery) => {
    if (typeof key === "string") return void named.delete(key)
    series?.messages.delete(key)
    if (series?.messages.size === 0) allSeries.delete(nameOf(series.sender, series.prefix))
  }
  const forgetOldest = (now: number) => {
    for (let oldest = byAge[head]; oldest !== undefined; oldest = byAge[head]) {
      if (byAge.length - head <= limits.maxRememberedMessages && now - oldest.rememberedAt < age) break
      byAge[head++] = undefined
      forget(oldest)
      oldest.isForgotten = true
      forgetAnswer(oldest)
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
      const number = locate(sender, messageId)
      return number === undefined ? named.get(nameOf(sender, messageId)) : last?.messages.get(number)
    },
    remember: (sender, messageId, delivery) => {
      const number = locate(sender, messageId)
      if (number === undefined || last === undefined) {
        delivery.key = nameOf(sender, messageId)
        named.set(delivery.key, delivery)
      } else {
        if (last.messages.size === 0) allSeries.set(nameOf(sender, last.prefix), last)
        delivery.series = last
        delivery.key = number
        last.messages.set(number, delivery)
      }
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

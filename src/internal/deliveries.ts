/**
 * What an endpoint remembers of the messages it has stored for senders of protocol 2: the ack, and what became of them.
 * So a message that is sent again, because its ack was lost, is not stored again and loses no receipt or answer.
 */
import * as Duration from "effect/Duration"
import type { Outcome } from "../Inbox.ts"
import type { Values } from "../Limits.ts"
import * as fifos from "./fifo.ts"

/** Tells one connection; undefined while the sender has none. */
export type Listener = (outcome: Outcome) => void

/** One stored message. Lives as long as its entry or the memory of its id, whichever is longer. */
export interface Delivery {
  ackId: string
  readonly rememberedAt: number
  listener: Listener | undefined
  readonly outcomes: Array<Outcome>
}

export interface Deliveries {
  readonly find: (sender: string, messageId: string, now: number) => Delivery | undefined
  readonly remember: (sender: string, messageId: string, delivery: Delivery) => void
  /** Notes the outcome and tells the sender's connection, if it has one. Says whether it has. */
  readonly settle: (delivery: Delivery, outcome: Outcome) => boolean
}

/** Answers kept for senders that may ask again, in characters; the oldest are forgotten first. */
const outcomeSize = (outcome: Outcome) => outcome._tag === "Replied" ? outcome.data.length : 0

interface Remembered {
  readonly sender: string
  readonly messageId: string
  readonly delivery: Delivery
}

export const make = (
  limits: Pick<Values, "maxRememberedMessages" | "rememberTimeout" | "maxInboxBytes">
): Deliveries => {
  // All written in synchronous steps. What is remembered of each sender, by id; and of all of them, by age, where what
  // stands before `head` is forgotten. A map would keep the order, but finding its oldest entry passes over all that
  // were deleted before it: 16 µs a message.
  const senders = new Map<string, Map<string, Delivery>>()
  let byAge: Array<Remembered | undefined> = []
  let head = 0
  const answered = fifos.make<Delivery>()
  let answerSize = 0
  const age = Duration.toMillis(limits.rememberTimeout)

  const forgetAnswers = (delivery: Delivery) => {
    if (!answered.has(delivery)) return
    answered.remove(delivery)
    for (const outcome of delivery.outcomes) answerSize -= outcomeSize(outcome)
    delivery.outcomes.length = 0
  }
  const forgetOldest = (now: number) => {
    for (let oldest = byAge[head]; oldest !== undefined; oldest = byAge[head]) {
      const { delivery, messageId, sender } = oldest
      if (byAge.length - head <= limits.maxRememberedMessages && now - delivery.rememberedAt < age) break
      byAge[head++] = undefined
      const ids = senders.get(sender)
      ids?.delete(messageId)
      if (ids?.size === 0) senders.delete(sender)
      forgetAnswers(delivery)
    }
    if (head > 1_024 && head > byAge.length / 2) {
      byAge = byAge.slice(head)
      head = 0
    }
  }
  return {
    find: (sender, messageId, now) => {
      const oldest = byAge[head]
      if (oldest !== undefined && now - oldest.delivery.rememberedAt >= age) forgetOldest(now)
      return senders.get(sender)?.get(messageId)
    },
    remember: (sender, messageId, delivery) => {
      const ids = senders.get(sender)
      if (ids === undefined) senders.set(sender, new Map([[messageId, delivery]]))
      else ids.set(messageId, delivery)
      byAge.push({ sender, messageId, delivery })
      forgetOldest(delivery.rememberedAt)
    },
    settle: (delivery, outcome) => {
      delivery.outcomes.push(outcome)
      if (outcomeSize(outcome) > 0) {
        answered.push(delivery)
        answerSize += outcomeSize(outcome)
        for (let oldest = answered.peek(); answerSize > limits.maxInboxBytes; oldest = answered.peek()) {
          if (oldest === undefined || oldest === delivery) break
          forgetAnswers(oldest)
        }
      }
      delivery.listener?.(outcome)
      return delivery.listener !== undefined
    }
  }
}

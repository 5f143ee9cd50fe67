/**
 * What an endpoint remembers of the messages it has stored for senders of protocol 2: the ack, and what became of them.
 * So a message that is sent again, because its ack was lost, is not stored again and loses no receipt or answer.
 */
import * as Duration from "effect/Duration"
import type { Outcome } from "../Inbox.ts"
import type { Values } from "../Limits.ts"

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

// No path and no id holds a line break.
const keyOf = (sender: string, messageId: string) => `${sender}\n${messageId}`

export const make = (
  limits: Pick<Values, "maxRememberedMessages" | "rememberTimeout" | "maxInboxBytes">
): Deliveries => {
  // Both written in synchronous steps; a map keeps the order of insertion, and so of age.
  const remembered = new Map<string, Delivery>()
  const answered = new Set<Delivery>()
  let answerSize = 0
  const age = Duration.toMillis(limits.rememberTimeout)

  const forgetAnswers = (delivery: Delivery) => {
    if (!answered.delete(delivery)) return
    for (const outcome of delivery.outcomes) answerSize -= outcomeSize(outcome)
    delivery.outcomes.length = 0
  }
  const forgetOldest = (now: number) => {
    for (const [key, delivery] of remembered) {
      if (remembered.size <= limits.maxRememberedMessages && now - delivery.rememberedAt < age) return
      remembered.delete(key)
      forgetAnswers(delivery)
    }
  }
  return {
    find: (sender, messageId, now) => {
      forgetOldest(now)
      return remembered.get(keyOf(sender, messageId))
    },
    remember: (sender, messageId, delivery) => {
      remembered.set(keyOf(sender, messageId), delivery)
      forgetOldest(delivery.rememberedAt)
    },
    settle: (delivery, outcome) => {
      delivery.outcomes.push(outcome)
      if (outcomeSize(outcome) > 0) {
        answered.add(delivery)
        answerSize += outcomeSize(outcome)
        for (const oldest of answered) {
          if (answerSize <= limits.maxInboxBytes || oldest === delivery) break
          forgetAnswers(oldest)
        }
      }
      delivery.listener?.(outcome)
      return delivery.listener !== undefined
    }
  }
}

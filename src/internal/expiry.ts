/** Deadlines of many things at once, kept by one timer: it is moved only for a deadline earlier than all before. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

export interface Expiring {
  /** In milliseconds of the monotonic clock; `Infinity` never comes. */
  readonly deadline: number
}

export interface Expiry<A extends Expiring> {
  readonly add: (item: A) => void
  readonly remove: (item: A) => void
  /** What has neither expired nor been removed. */
  readonly items: Iterable<A>
}

/** `onExpired` is told of each item that is still there at its deadline, which has then been removed. */
export const make = <A extends Expiring>(
  clock: Clock.Clock,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  onExpired: (item: A) => void
): Expiry<A> => {
  // Changed in synchronous steps only.
  const items = new Set<A>()
  let timer: Fiber.Fiber<void> | undefined
  let wakesAt = Infinity
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

  const wakeAt = (at: number) => {
    if (at >= wakesAt) return
    timer?.interruptUnsafe()
    wakesAt = at
    // A part of a millisecond would wake it just before the deadline.
    timer = fork(Effect.andThen(Effect.sleep(Duration.millis(Math.ceil(Math.max(0, at - now())))), Effect.sync(look)))
  }
  const look = () => {
    timer = undefined
    wakesAt = Infinity
    const time = now()
    let next = Infinity
    for (const item of items) {
      if (item.deadline <= time) {
        items.delete(item)
        onExpired(item)
      } else if (item.deadline < next) next = item.deadline
    }
    wakeAt(next)
  }

  return {
    add: (item) => {
      items.add(item)
      wakeAt(item.deadline)
    },
    remove: (item) => {
      items.delete(item)
    },
    items
  }
}

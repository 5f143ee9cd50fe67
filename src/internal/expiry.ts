/** Deadlines of many things at once, kept by one timer: it is moved only for a deadline earlier than all before. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

export interface Expiry {
  /** Looks at that time, in milliseconds of the monotonic clock, if not before. `Infinity` never comes. */
  readonly lookAt: (deadline: number) => void
}

/** `look` is given the time, ends what is due, and says when the next is. */
export const make = (
  clock: Clock.Clock,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  look: (now: number) => number
): Expiry => {
  // Changed in synchronous steps only.
  let timer: Fiber.Fiber<void> | undefined
  let wakesAt = Infinity

  const lookAt = (deadline: number) => {
    if (deadline >= wakesAt) return
    timer?.interruptUnsafe()
    wakesAt = deadline
    // A timer that counts whole milliseconds would otherwise wake just before the deadline.
    const wait = Math.ceil(Math.max(0, deadline - monotonicMillis(clock)))
    timer = fork(Effect.andThen(Effect.sleep(Duration.millis(wait)), Effect.sync(wake)))
  }
  const wake = () => {
    timer = undefined
    wakesAt = Infinity
    lookAt(look(monotonicMillis(clock)))
  }
  return { lookAt }
}

/** Setting the wall clock moves no deadline. */
export const monotonicMillis = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

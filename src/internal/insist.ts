/**
 * Removing at the end is tried again. What made it fail may be of the moment, such as `EMFILE`, and nobody will come back
 * for what is left but a sweep.
 */
import * as Effect from "effect/Effect"

/** In all. */
const attempts = 3

/**
 * Runs `attempt` until it succeeds with anything but false, a turn of the event loop apart, at most three times. False
 * stands for what was not there, or not one's own: that is looked for as often, since a failure may look like it.
 */
export const insist = <E, R>(
  attempt: Effect.Effect<boolean | void, E, R>,
  left = attempts
): Effect.Effect<void, never, R> =>
  Effect.flatMap(
    Effect.orElseSucceed(attempt, () => false),
    (removed) =>
      removed !== false || left <= 1 ? Effect.void : Effect.andThen(Effect.yieldNow, insist(attempt, left - 1))
  )

/**
 * How long an endpoint lets those wait whose proof was wrong. The first few failures are answered at once, since a client
 * may hold the token of a former run; from then on each doubles the wait, up to `maxRefusalDelay`, and every second
 * without one takes a failure back. Whoever tries one token after the other is held to about one a second; whoever tries
 * many at once, to what the pool of unproven peers holds. A good proof is never made to wait.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import type { Values } from "../Limits.ts"

/** Failures answered at once. */
const free = 4
/** Milliseconds before the answer to the first failure after them. */
const firstDelay = 10
/** Failures are not counted beyond what gives the longest delay, so that an attack is forgotten in seconds. */
const most = 16

/** Counts a failure and answers with the wait for it. `clock` is monotonic. */
export const make = (
  limits: Pick<Values, "maxRefusalDelay" | "authenticationTimeout">,
  clock: Clock.Clock
): () => Duration.Duration => {
  // A peer that waits for the answer must not take longer than one that says nothing.
  const longest = Math.min(Duration.toMillis(limits.maxRefusalDelay), Duration.toMillis(limits.authenticationTimeout))
  const seconds = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e9
  // Written by whichever connection fails.
  let failures = 0
  let countedAt = seconds()
  return () => {
    const now = seconds()
    failures = Math.min(most, Math.max(0, failures - (now - countedAt)) + 1)
    countedAt = now
    return Duration.millis(failures <= free ? 0 : Math.min(longest, firstDelay * 2 ** (failures - free - 1)))
  }
}

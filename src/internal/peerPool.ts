/**
 * Who may be connected at once. Peers that have proved themselves count against `maxPeers`; the others share a pool of
 * their own, in which a newcomer takes the place of the oldest. So nobody without the token can keep out those who
 * have it.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Values } from "../Limits.ts"
import type { Meter } from "./metrics.ts"

export interface PeerPool {
  /**
   * Runs a connection within the limits; with `maxPeers` proven already it is not run at all. It calls `admit` when it
   * has proved itself, and ends when the answer is false.
   */
  readonly run: (connection: (admit: () => boolean) => Effect.Effect<void>) => Effect.Effect<void>
}

export const make = (
  limits: Pick<Values, "maxPeers" | "maxUnauthenticatedPeers">,
  meter?: Meter
): PeerPool => {
  // Both written in synchronous steps of the connections' own fibers. A set keeps the order of arrival.
  const unproven = new Set<Fiber.Fiber<unknown, unknown>>()
  let proven = 0

  return {
    run: (connection) =>
      Effect.withFiber((fiber) => {
        if (proven >= limits.maxPeers) return Effect.void
        if (unproven.size >= limits.maxUnauthenticatedPeers) {
          const [oldest] = unproven
          if (oldest !== undefined) {
            unproven.delete(oldest)
            oldest.interruptUnsafe(fiber.id)
          }
        }
        let admitted = false
        unproven.add(fiber)
        meter?.connected("unauthenticated", 1)
        const admit = () => {
          if (proven >= limits.maxPeers) return false
          unproven.delete(fiber)
          admitted = true
          proven++
          meter?.connected("unauthenticated", -1)
          meter?.connected("authenticated", 1)
          return true
        }
        const leave = Effect.sync(() => {
          unproven.delete(fiber)
          if (admitted) proven--
          meter?.connected(admitted ? "authenticated" : "unauthenticated", -1)
        })
        return Effect.ensuring(connection(admit), leave)
      })
  }
}

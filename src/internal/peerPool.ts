/**
 * Who may be connected at once. Peers that have proved themselves count against `maxPeers`; the others share a pool of
 * their own, in which a newcomer takes another's place. So nobody without the token can keep out those who have it.
 *
 * Whose place: first that of one who was refused and waits for the answer; then the oldest of those who have said nothing,
 * so that one who is in the middle of proving himself is not turned out by a silent crowd; but once more than half have
 * said something, the oldest of those, so that a talking crowd does not turn out everybody who has just come.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Values } from "../Limits.ts"
import type { Meter } from "./metrics.ts"

/** What an unproven peer has come to: it has sent something, or its proof was wrong. */
export type Progress = "heard" | "refused"

export interface Place {
  /** The peer has proved itself. It must leave when the answer is false: there is no room. */
  readonly admit: () => boolean
  readonly mark: (progress: Progress) => void
}

export interface PeerPool {
  /** Runs a connection within the limits; with `maxPeers` proven already it is not run at all. */
  readonly run: (connection: (place: Place) => Effect.Effect<void>) => Effect.Effect<void>
}

export const make = (
  limits: Pick<Values, "maxPeers" | "maxUnauthenticatedPeers">,
  meter?: Meter
): PeerPool => {
  // All written in synchronous steps of the connections' own fibers. A set keeps the order of arrival.
  const unproven = {
    silent: new Set<Fiber.Fiber<unknown, unknown>>(),
    heard: new Set<Fiber.Fiber<unknown, unknown>>(),
    refused: new Set<Fiber.Fiber<unknown, unknown>>()
  }
  let proven = 0

  const makeRoom = (by: number) => {
    const { heard, refused, silent } = unproven
    if (silent.size + heard.size + refused.size < limits.maxUnauthenticatedPeers) return
    const from = refused.size > 0
      ? refused
      : silent.size === 0 || heard.size > limits.maxUnauthenticatedPeers / 2
      ? heard
      : silent
    const [oldest] = from
    if (oldest === undefined) return
    from.delete(oldest)
    oldest.interruptUnsafe(by)
  }

  return {
    run: (connection) =>
      Effect.withFiber((fiber) => {
        if (proven >= limits.maxPeers) return Effect.void
        makeRoom(fiber.id)
        let stage: keyof typeof unproven | "proven" = "silent"
        unproven.silent.add(fiber)
        meter?.connected("unauthenticated", 1)
        const mark = (progress: Progress) => {
          // One who was turned out ends in a moment, and has no place any more.
          if (stage === "proven" || !unproven[stage].delete(fiber)) return
          stage = progress
          unproven[stage].add(fiber)
        }
        const admit = () => {
          if (proven >= limits.maxPeers) return false
          if (stage !== "proven") unproven[stage].delete(fiber)
          stage = "proven"
          proven++
          meter?.connected("unauthenticated", -1)
          meter?.connected("authenticated", 1)
          return true
        }
        const leave = Effect.sync(() => {
          if (stage === "proven") proven--
          else unproven[stage].delete(fiber)
          meter?.connected(stage === "proven" ? "authenticated" : "unauthenticated", -1)
        })
        return Effect.ensuring(connection({ admit, mark }), leave)
      })
  }
}

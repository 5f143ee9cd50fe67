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

type Stage = "silent" | Progress | "proven"

class Pool {
  readonly limits: Pick<Values, "maxPeers" | "maxUnauthenticatedPeers">
  readonly meter: Meter | undefined
  // All written in synchronous steps of the connections' own fibers. A set keeps the order of arrival.
  readonly silent = new Set<Fiber.Fiber<unknown, unknown>>()
  readonly heard = new Set<Fiber.Fiber<unknown, unknown>>()
  readonly refused = new Set<Fiber.Fiber<unknown, unknown>>()
  proven = 0

  constructor(limits: Pick<Values, "maxPeers" | "maxUnauthenticatedPeers">, meter: Meter | undefined) {
    this.limits = limits
    this.meter = meter
  }

  makeRoom(by: number) {
    const { heard, limits, refused, silent } = this
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
}

class Occupied implements Place {
  readonly #pool: Pool
  readonly #fiber: Fiber.Fiber<unknown, unknown>
  #stage: Stage = "silent"

  constructor(pool: Pool, fiber: Fiber.Fiber<unknown, unknown>) {
    this.#pool = pool
    this.#fiber = fiber
    pool.silent.add(fiber)
    pool.meter?.connected("unauthenticated", 1)
  }

  mark(progress: Progress) {
    const stage = this.#stage
    // One who was turned out ends in a moment, and has no place any more.
    if (stage === "proven" || !this.#pool[stage].delete(this.#fiber)) return
    this.#stage = progress
    this.#pool[progress].add(this.#fiber)
  }

  admit() {
    const { limits, meter, proven } = this.#pool
    const stage = this.#stage
    if (stage === "proven") return true
    if (proven >= limits.maxPeers) return false
    this.#pool[stage].delete(this.#fiber)
    this.#stage = "proven"
    this.#pool.proven++
    meter?.connected("unauthenticated", -1)
    meter?.connected("authenticated", 1)
    return true
  }

  leave() {
    if (this.#stage === "proven") this.#pool.proven--
    else this.#pool[this.#stage].delete(this.#fiber)
    this.#pool.meter?.connected(this.#stage === "proven" ? "authenticated" : "unauthenticated", -1)
    return Effect.void
  }
}

export const make = (
  limits: Pick<Values, "maxPeers" | "maxUnauthenticatedPeers">,
  meter?: Meter
): PeerPool => {
  const pool = new Pool(limits, meter)
  return {
    run: (connection) =>
      Effect.withFiber((fiber) => {
        if (pool.proven >= limits.maxPeers) return Effect.void
        pool.makeRoom(fiber.id)
        const place = new Occupied(pool, fiber)
        return Effect.onExit(connection(place), () => place.leave())
      })
  }
}

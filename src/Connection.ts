/**
 * Accepted peers, from the server's side: what their connections share, and how each is run. What a frame means is the
 * business of the protocol its first frame chooses.
 *
 * Frames are judged in order, each before the next. The first error is the last thing said: nothing after it is read, it
 * is flushed, and the connection is cut when the peer does not take it in time. Replies are written before more is read,
 * so a peer that does not read its replies stops being read.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Redacted from "effect/Redacted"
import type * as Socket from "effect/socket/Socket"
import { Capability } from "./Capability.ts"
import { makeNonces } from "./Handshake.ts"
import { Inbox } from "./Inbox.ts"
import { Accepted, type Endpoint } from "./internal/accepted.ts"
import * as deadlines from "./internal/deadlines.ts"
import * as deliveries from "./internal/deliveries.ts"
import * as metrics from "./internal/metrics.ts"
import { Outboxes } from "./internal/outbox.ts"
import type { Place } from "./internal/peerPool.ts"
import * as refusalDelay from "./internal/refusalDelay.ts"
import * as wires from "./internal/wire.ts"
import { Limits } from "./Limits.ts"

export interface Options {
  /** The endpoint's own path: pongs carry it, and both ends of a handshake bind to it. */
  readonly socketPath: string
  readonly token: Redacted.Redacted<string>
  /** Whether clients of protocol 1 are served. Default true. */
  readonly protocol1?: boolean | undefined
  /** What its connections have to write. Default: their own. */
  readonly outboxes?: Outboxes | undefined
}

/** Formats the time of many replies of one millisecond once. */
const makeIsoAt = () => {
  let formatted = { millis: Number.NaN, iso: "" }
  return (millis: number): string => {
    if (formatted.millis !== millis) formatted = { millis, iso: DateTime.formatIso(DateTime.makeUnsafe(millis)) }
    return formatted.iso
  }
}

/** Milliseconds between two warnings of refused authentication; those between are counted. */
const warningInterval = 10_000

/**
 * Counts and logs why connections end. A refused authentication is worth a warning, since nobody of this user's has cause
 * for one; a guesser must not fill the log with them. No text of the peer's is logged.
 */
const noteRefusals = (meter: metrics.Meter) => {
  // Written by whichever connection ends.
  let warnedAt = Number.NEGATIVE_INFINITY
  let silent = 0
  return (reason: metrics.Reason) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      meter.refused(reason)
      if (reason !== "unauthorized") return Effect.logDebug(`a connection was refused: ${reason}`)
      if (now - warnedAt < warningInterval) {
        silent++
        return Effect.logDebug("a connection was refused: unauthorized")
      }
      const others = silent === 0 ? "" : `, and ${silent} more since the last warning`
      warnedAt = now
      silent = 0
      return Effect.logWarning(`a connection was refused: it did not prove that it knows the token${others}`)
    })
}

/**
 * A handler for accepted sockets that stores messages in the `Inbox` in scope. It ends when the connection has; it never
 * fails. Its `place` is asked once, when the peer has proved itself, whether there is room for one more; when there is not,
 * the connection ends without a reply. It is told when its first bytes arrive, and when its proof was wrong: then the
 * answer may wait, and longer after many of them. What the endpoint remembers of messages is shared by all its connections.
 */
export const make = Effect.fnUntraced(function*(options: Options) {
  const limits = yield* Limits
  const clock = yield* Clock.Clock
  const meter = yield* metrics.make
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  const endpoint: Endpoint = {
    socketPath: options.socketPath,
    token: options.token,
    protocol1: options.protocol1 ?? true,
    capability: yield* Capability,
    inbox: yield* Inbox,
    limits,
    clock,
    deadlines: deadlines.make(limits, clock, fork),
    deliveries: deliveries.make(limits),
    meter,
    outboxes: options.outboxes ?? new Outboxes(),
    newNonce: makeNonces(),
    isoAt: makeIsoAt(),
    note: noteRefusals(meter),
    delayOfRefusal: refusalDelay.make(limits, clock),
    fork
  }

  return (socket: Socket.Socket, place: Place): Effect.Effect<void> =>
    wires.isWire(socket)
      ? new Accepted(endpoint, socket, place).run
      : wires.fromSocket(socket, fork).pipe(
        Effect.flatMap((wire) => new Accepted(endpoint, wire, place).run),
        Effect.scoped,
        Effect.ignore
      )
})

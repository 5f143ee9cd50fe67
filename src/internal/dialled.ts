/** A connection that a client has dialled: its wire, and what is still to be written to it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import { Outbox, type Outboxes } from "./outbox.ts"
import * as wires from "./wire.ts"

/** What the connections of a client share. */
export interface Writing {
  readonly outboxes: Outboxes
  /** Runs what a write waits for. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

/**
 * Lasts as long as the scope; what is not written by then is dropped. A write that fails shows in the reading too, behind
 * what the peer still had to say.
 */
export const dial = Effect.fnUntraced(function*(
  socket: Socket.Socket,
  { fork, outboxes }: Writing
): Effect.fn.Return<
  { readonly wire: wires.Wire; readonly outbox: Outbox },
  Socket.SocketError,
  Scope.Scope
> {
  const wire = wires.isWire(socket) ? socket : yield* wires.fromSocket(socket, fork)
  const outbox = yield* Effect.acquireRelease(
    Effect.sync(() =>
      new Outbox({
        write: (text) => wire.write(text),
        onBlocked: () => {},
        onUnblocked: () => {},
        onWritten: () => {},
        fork
      }, outboxes)
    ),
    (outbox) => Effect.sync(() => outbox.dispose())
  )
  return { wire, outbox }
})

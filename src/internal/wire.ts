/**
 * A connected byte stream as an accepted connection uses it. Effect's `Socket` has a scope for each of its halves and an
 * effect for each write; here a write that the system takes at once costs neither, which together is a quarter of what a
 * short connection costs. Any `Socket` can be used as one.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"

export type Chunks = ReadonlyArray<Uint8Array>

/** Takes what has arrived. Where it answers with an effect, nothing more is read until that has ended. */
export type Hear<E> = (chunks: Chunks) => Effect.Effect<void, E> | undefined

export const TypeId = "~effect-messaging/Wire"

export interface Wire {
  readonly [TypeId]: typeof TypeId
  /** What has arrived; waits for it. Fails when the peer has closed its side, and when the connection is gone. */
  readonly pull: Effect.Effect<Chunks, Socket.SocketError>
  /** Has `hear` take whatever arrives, as it arrives, until reading or what it answers with fails. */
  readonly receive: <E>(hear: Hear<E>) => Effect.Effect<never, E | Socket.SocketError>
  /** Hands the chunk over. Where that is not all there is to it, the effect ends when more may be written, or fails. */
  readonly write: (chunk: string | Uint8Array) => Effect.Effect<void, Socket.SocketError> | undefined
  /** Writes a last chunk; the peer sees the end behind it. */
  readonly end: (chunk: string) => Effect.Effect<void, Socket.SocketError>
  /** Ends the connection both ways, dropping what the peer has not taken. */
  readonly destroy: () => void
}

/** One that receives by pulling. */
export const make = (members: Omit<Wire, typeof TypeId | "receive">): Wire => ({
  [TypeId]: TypeId,
  ...members,
  receive: <E>(hear: Hear<E>) => {
    const readOn: Effect.Effect<never, E | Socket.SocketError> = Effect.flatMap(members.pull, (chunks) => {
      const waiting = hear(chunks)
      return waiting === undefined ? readOn : Effect.flatMap(waiting, () => readOn)
    })
    return readOn
  }
})

export const isWire = (socket: Socket.Socket): socket is Socket.Socket & Wire => TypeId in socket

/** By the halves of the socket, which last as long as the scope. */
export const fromSocket = Effect.fnUntraced(function*(
  socket: Socket.Socket,
  fork: (effect: Effect.Effect<void>) => void
): Effect.fn.Return<Wire, Socket.SocketError, Scope.Scope> {
  const pull = yield* Socket.readerBytes(socket)
  const { write } = yield* socket.writer
  return make({
    pull,
    write,
    end: (chunk) => Effect.scoped(Effect.flatMap(socket.writer, (writer) => writer.write(chunk))),
    destroy: () => fork(Effect.ignore(write(new Socket.CloseEvent())))
  })
})

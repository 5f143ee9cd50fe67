/**
 * A `node:net` connection as an Effect `Socket`, and its end.
 *
 * `NodeSocket.fromDuplex` reads through `readable` events and builds a `SocketError` with a stack trace for each
 * connection that ends; a write to a dead connection waits for ever. Here data goes straight from the socket to the
 * fiber that pulls, an ordinary end costs no stack trace, and a write fails once the connection is gone.
 */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import type * as Net from "node:net"
import * as ownMemory from "./ownMemory.ts"

type Chunks = [Uint8Array, ...Array<Uint8Array>]
type Resume = (result: Effect.Effect<Chunks, Socket.SocketError>) => void

// Ordinary ends carry no information of their own, so every connection shares these.
const closed = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })
const aborted = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "the connection is closed" }) })
const released = Effect.fail(aborted)

/**
 * While the peer does not read, Node keeps three bytes for each character of a text, and one for each byte of a buffer.
 * A shorter text (`StreamBase::WriteString`) is first tried from the stack, without memory of its own.
 */
const bytesOf = (chunk: string | Uint8Array) =>
  typeof chunk === "string" && chunk.length > 16_384 / 3 ? ownMemory.encode(chunk) : chunk

/** Must be called in the tick in which `conn` was made, so that no event is missed. The socket is left paused. */
export const fromNetSocket = (conn: Net.Socket): Socket.Socket => {
  // Written by the event handlers. While nobody pulls, the connection is paused and all that has arrived is in its own
  // buffer: once that holds a piece, Node stops reading.
  let end: Socket.SocketError | undefined
  let waiter: Resume | undefined
  const maxPieceBytes = conn.readableHighWaterMark

  const settle = (error: Socket.SocketError) => {
    end ??= error
    const resume = waiter
    waiter = undefined
    resume?.(Effect.fail(end))
  }
  conn.on("data", (chunk: Uint8Array) => {
    let rest = chunk
    for (let resume = waiter; resume !== undefined && rest.length > 0; resume = waiter) {
      waiter = undefined
      const piece = rest.subarray(0, maxPieceBytes)
      rest = rest.subarray(maxPieceBytes)
      resume(Effect.succeed([piece]))
    }
    // It has been asked for more meanwhile.
    if (waiter !== undefined) return
    conn.pause()
    // A small rest would keep the whole chunk it lies in, beside the one that Node then still reads.
    if (rest.length > 0) conn.unshift(rest.length < maxPieceBytes ? ownMemory.copy(rest) : rest)
  })
  conn.on("end", () => settle(closed))
  conn.on("error", () => settle(aborted))
  conn.on("close", () => settle(closed))

  const pull = Effect.callback<Chunks, Socket.SocketError>((resume) => {
    if (end !== undefined) return resume(Effect.fail(end))
    waiter = resume
    // No more than a piece, so that Node does not read ahead of the rest. Comes as `data` there and then.
    if (conn.readableLength > 0) conn.read(Math.min(maxPieceBytes, conn.readableLength))
    else if (conn.isPaused()) conn.resume()
    return Effect.sync(() => {
      if (waiter === resume) waiter = undefined
    })
  })

  const drained = Effect.callback<void, Socket.SocketError>((resume) => {
    const cleanup = () => {
      conn.off("drain", onDrain)
      conn.off("close", onClose)
    }
    const onDrain = () => {
      cleanup()
      resume(Effect.void)
    }
    const onClose = () => {
      cleanup()
      resume(Effect.fail(gone))
    }
    conn.on("drain", onDrain)
    conn.on("close", onClose)
    return Effect.sync(cleanup)
  })

  const write: Socket.Writer["write"] = (chunk) =>
    Effect.suspend(() => {
      if (Socket.isCloseEvent(chunk)) {
        conn.destroy()
        return Effect.void
      }
      if (!conn.writable) return Effect.fail(gone)
      // Of a chunk above the high water mark `write` says false, also when the system has taken all of it.
      return conn.write(bytesOf(chunk)) || (conn.writable && conn.writableLength === 0) ? Effect.void : drained
    })

  return Socket.make({
    reader: Effect.acquireRelease(
      Effect.succeed({ pull, upgrade: Socket.SocketUpgradeError.unsupported }),
      () =>
        Effect.sync(() => {
          const resume = waiter
          waiter = undefined
          resume?.(released)
        })
    ),
    writer: Effect.acquireRelease(
      Effect.succeed({ write, writeAll: (parts) => Effect.forEach(parts, write, { discard: true }) }),
      () =>
        Effect.sync(() => {
          if (conn.writable) conn.end()
        })
    )
  })
}

/** Flushes and closes; what the peer has not taken within `closeTimeout` is dropped. */
export const closeGracefully = (conn: Net.Socket, closeTimeout: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (conn.closed) return resume(Effect.void)
    const onClose = () => resume(Effect.void)
    conn.once("close", onClose)
    conn.destroySoon()
    return Effect.sync(() => conn.off("close", onClose))
  }).pipe(
    Effect.timeoutOption(closeTimeout),
    Effect.andThen(Effect.sync(() => conn.destroy()))
  )

/**
 * A `node:net` connection as an Effect `Socket`, and as a `Wire`.
 *
 * `NodeSocket.fromDuplex` reads through `readable` events and builds a `SocketError` with a stack trace for each
 * connection that ends; a write to a dead connection waits for ever. Here data goes straight from the socket to the
 * fiber that pulls, an ordinary end costs no stack trace, and a write fails once the connection is gone.
 */
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"
import type * as Net from "node:net"
import * as ownMemory from "./ownMemory.ts"
import * as wires from "./wire.ts"

type Bytes = [Uint8Array, ...Array<Uint8Array>]

/** Whoever reads, until it has what it waits for. */
interface Reader {
  readonly take: (piece: Uint8Array) => void
  readonly fail: (error: Socket.SocketError) => void
}

// Ordinary ends carry no information of their own, so every connection shares these.
const closed = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })
const aborted = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "the connection is closed" }) })

/**
 * While the peer does not read, Node keeps three bytes for each character of a text that is not ASCII, and one for each
 * byte of a buffer. A shorter text (`StreamBase::WriteString`) is first tried from the stack, without memory of its own.
 */
const longText = 16_384 / 3

/** Has `hear` take every piece, until it answers with an effect. */
class Receiver<E> implements Reader {
  readonly #socket: NodeSocket
  readonly #hear: wires.Hear<E>
  readonly #resume: (next: Effect.Effect<never, E | Socket.SocketError>) => void

  constructor(
    socket: NodeSocket,
    hear: wires.Hear<E>,
    resume: (next: Effect.Effect<never, E | Socket.SocketError>) => void
  ) {
    this.#socket = socket
    this.#hear = hear
    this.#resume = resume
  }

  take(piece: Uint8Array) {
    const waiting = this.#heard(piece)
    if (waiting === undefined) return
    this.#socket.leave(this)
    this.#resume(Effect.flatMap(waiting, () => this.#socket.receive(this.#hear)))
  }

  fail(error: Socket.SocketError) {
    this.#resume(Effect.fail(error))
  }

  #heard(piece: Uint8Array) {
    try {
      return this.#hear([piece])
    } catch (defect) {
      // As it would be in a fiber.
      return Effect.die(defect)
    }
  }
}

export class NodeSocket implements Socket.Socket, wires.Wire {
  readonly [Socket.TypeId]: typeof Socket.TypeId = Socket.TypeId
  readonly [wires.TypeId]: typeof wires.TypeId = wires.TypeId
  readonly #conn: Net.Socket
  // Written by the event handlers. While nobody reads, the connection is paused and all that has arrived is in its own
  // buffer: once that holds a piece, Node stops reading.
  #end: Socket.SocketError | undefined
  #reader: Reader | undefined

  /** Must be called in the tick in which `conn` was made, so that no event is missed. The socket is left paused. */
  constructor(conn: Net.Socket) {
    this.#conn = conn
    conn.on("data", (chunk: Uint8Array) => this.#onData(chunk))
    conn.on("end", () => this.#settle(closed))
    conn.on("error", () => this.#settle(aborted))
    conn.on("close", () => this.#settle(closed))
  }

  get pull(): Effect.Effect<Bytes, Socket.SocketError> {
    return Effect.callback((resume) => {
      const reader: Reader = {
        take: (piece) => {
          this.leave(reader)
          resume(Effect.succeed([piece]))
        },
        fail: (error) => resume(Effect.fail(error))
      }
      return this.#read(reader)
    })
  }

  // A fiber that is resumed for each chunk costs 2 µs of a message that travels alone; here only what has to wait is one's.
  receive<E>(hear: wires.Hear<E>): Effect.Effect<never, E | Socket.SocketError> {
    return Effect.callback((resume) => this.#read(new Receiver(this, hear, resume)))
  }

  /** The reader has what it waits for. */
  leave(reader: Reader) {
    if (this.#reader === reader) this.#reader = undefined
  }

  write(chunk: string | Uint8Array) {
    if (!this.#conn.writable) return Effect.fail(gone)
    return this.#hand(chunk) ? undefined : this.#drained
  }

  end(chunk: string) {
    return Effect.suspend(() => {
      const drained = this.write(chunk) ?? Effect.void
      return Effect.ensuring(drained, Effect.sync(() => this.#conn.end()))
    })
  }

  destroy() {
    this.#conn.destroy()
  }

  get reader() {
    return Effect.acquireRelease(
      Effect.succeed({ pull: this.pull, upgrade: Socket.SocketUpgradeError.unsupported }),
      () => Effect.sync(() => this.#dismiss(aborted))
    )
  }

  get writer() {
    const write: Socket.Writer["write"] = (chunk) =>
      Effect.suspend(() => {
        if (!Socket.isCloseEvent(chunk)) return this.write(chunk) ?? Effect.void
        this.destroy()
        return Effect.void
      })
    return Effect.acquireRelease(
      Effect.succeed({ write, writeAll: (parts) => Effect.forEach(parts, write, { discard: true }) } as Socket.Writer),
      () => Effect.sync(() => this.#conn.end())
    )
  }

  #hand(chunk: string | Uint8Array): boolean {
    if (typeof chunk !== "string") return this.#conn.write(chunk)
    const bytes = Buffer.byteLength(chunk)
    if (bytes === chunk.length) return this.#conn.write(chunk, "latin1")
    return this.#conn.write(chunk.length > longText ? ownMemory.encode(chunk, bytes) : chunk)
  }

  /** Until the system has taken all that was written, or the connection is gone. */
  get #drained() {
    const conn = this.#conn
    return Effect.callback<void, Socket.SocketError>((resume) => {
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
  }

  #settle(error: Socket.SocketError) {
    this.#end ??= error
    this.#dismiss(this.#end)
  }

  #dismiss(error: Socket.SocketError) {
    const reader = this.#reader
    this.#reader = undefined
    reader?.fail(error)
  }

  /** Answers with what gives the reading up. */
  #read(reader: Reader): Effect.Effect<void> | undefined {
    if (this.#end !== undefined) return void reader.fail(this.#end)
    this.#reader = reader
    const conn = this.#conn
    // No more than a piece, so that Node does not read ahead of the rest. Comes as `data` there and then.
    while (this.#reader === reader && conn.readableLength > 0) {
      conn.read(Math.min(conn.readableHighWaterMark, conn.readableLength))
    }
    if (this.#reader !== reader) return undefined
    conn.resume()
    return Effect.sync(() => this.leave(reader))
  }

  #onData(chunk: Uint8Array) {
    const conn = this.#conn
    const maxPieceBytes = conn.readableHighWaterMark
    let rest = chunk
    for (let reader = this.#reader; reader !== undefined && rest.length > 0; reader = this.#reader) {
      const piece = rest.length > maxPieceBytes ? rest.subarray(0, maxPieceBytes) : rest
      rest = rest.subarray(piece.length)
      reader.take(piece)
    }
    // It reads on, or another one does.
    if (this.#reader !== undefined) return
    conn.pause()
    // A small rest would keep the whole chunk it lies in, beside the one that Node then still reads.
    if (rest.length > 0) conn.unshift(rest.length < maxPieceBytes ? ownMemory.copy(rest) : rest)
  }
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

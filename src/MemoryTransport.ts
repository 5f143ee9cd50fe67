/**
 * Endpoints of one program that reach each other without I/O: no file, no descriptor, and no timer but those of
 * Effect's clock, so `TestClock` moves everything.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { Buffer } from "node:buffer"
import { Host } from "./Host.ts"
import { Limits } from "./Limits.ts"
import { AddressInUse, DialError, ListenError, NotListening, Transport } from "./Transport.ts"

type Chunk = Uint8Array | string

/** One direction of a connection. */
interface Pipe {
  /** Adds a chunk once there is room; false when the pipe has ended. */
  readonly write: (chunk: Chunk) => Effect.Effect<boolean>
  /** All chunks there are; waits for one. */
  readonly pull: Effect.Effect<[Chunk, ...Array<Chunk>], Socket.SocketError>
  /** No more is written, by whoever waits for room either; what is there stays readable, then `pull` fails. */
  readonly end: (error: Socket.SocketError) => void
  /** Drops what is there. */
  readonly discard: () => void
}

const closed = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })
const aborted = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "the connection is closed" }) })

interface End {
  readonly socket: Socket.Socket
  /** Ends the connection both ways; what the other end has not read yet stays readable. */
  readonly close: Effect.Effect<void>
}

/** Bytes in flight in one direction before a writer waits. A longer chunk goes as a whole, once there is room. */
const bytesInFlight = 8_192
/** What a chunk takes beside its bytes, so that empty ones are not free. */
const bytesPerChunk = 64

const weigh = (chunk: Chunk) =>
  bytesPerChunk + (typeof chunk === "string" ? Buffer.byteLength(chunk) : chunk.byteLength)

const makePipe: Effect.Effect<Pipe> = Effect.map(Queue.unbounded<Chunk, Socket.SocketError>(), (queue) => {
  // Written by whoever writes, pulls or ends; open exactly while there is room, or nothing to wait for any more.
  const room = Latch.makeUnsafe(true)
  let held = 0
  let ended = false
  const settle = () => {
    if (ended || held < bytesInFlight) room.openUnsafe()
    else room.closeUnsafe()
  }
  const write = (chunk: Chunk): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      if (!ended && held >= bytesInFlight) return Effect.andThen(room.await, write(chunk))
      if (!Queue.offerUnsafe(queue, chunk)) return Effect.succeed(false)
      held += weigh(chunk)
      settle()
      return Effect.succeed(true)
    })
  return {
    write,
    pull: Effect.map(Queue.takeAll(queue), (chunks) => {
      for (const chunk of chunks) held -= weigh(chunk)
      settle()
      return chunks
    }),
    end: (error) => {
      ended = true
      Queue.failCauseUnsafe(queue, Cause.fail(error))
      settle()
    },
    discard: () => {
      Queue.shutdownUnsafe(queue)
    }
  }
})

const makeEnd = (incoming: Pipe, outgoing: Pipe): End => {
  const close = Effect.sync(() => {
    outgoing.end(closed)
    incoming.end(aborted)
    incoming.discard()
  })
  const write: Socket.Writer["write"] = (chunk) =>
    Socket.isCloseEvent(chunk)
      ? close
      : Effect.flatMap(outgoing.write(chunk), (accepted) => accepted ? Effect.void : Effect.fail(gone))
  const socket = Socket.make({
    reader: Effect.acquireRelease(
      Effect.succeed({ pull: incoming.pull, upgrade: Socket.SocketUpgradeError.unsupported }),
      () => Effect.sync(() => incoming.end(aborted))
    ),
    writer: Effect.acquireRelease(
      Effect.succeed({ write, writeAll: (parts) => Effect.forEach(parts, write, { discard: true }) }),
      () => Effect.sync(() => outgoing.end(closed))
    )
  })
  return { socket, close }
}

/** Two sockets joined to each other. */
export const makePair: Effect.Effect<readonly [End, End]> = Effect.gen(function*() {
  const there = yield* makePipe
  const back = yield* makePipe
  return [makeEnd(back, there), makeEnd(there, back)]
})

const make = Effect.gen(function*() {
  const limits = yield* Limits
  // Who listens where. Written by `listen` and its release; an entry lives as long as its endpoint.
  const listeners = new Map<string, Queue.Queue<End>>()

  return Transport.of({
    listen: Effect.fnUntraced(function*({ socketPath }) {
      const backlog = yield* Queue.dropping<End>(limits.maxPeers)
      yield* Effect.acquireRelease(
        Effect.suspend(() => {
          if (listeners.has(socketPath)) {
            return Effect.fail(new ListenError({ reason: new AddressInUse({ path: socketPath }) }))
          }
          listeners.set(socketPath, backlog)
          return Effect.void
        }),
        () => Effect.andThen(Effect.sync(() => listeners.delete(socketPath)), Queue.shutdown(backlog))
      )
      return SocketServer.SocketServer.of({
        address: NetAddress.unixPathAddress(socketPath),
        run: (handler) =>
          Effect.scoped(Effect.gen(function*() {
            const sessions = yield* FiberSet.make()
            while (true) {
              const end = yield* Queue.take(backlog)
              yield* FiberSet.run(
                sessions,
                handler(end.socket).pipe(
                  Effect.onExit(() => end.close),
                  Effect.ignoreCause({ log: "Error", message: "a connection's handler failed" })
                ),
                { startImmediately: true }
              )
            }
          }))
      })
    }),
    dial: Effect.fnUntraced(function*(socketPath) {
      const backlog = listeners.get(socketPath)
      if (backlog === undefined) {
        return yield* new DialError({ reason: new NotListening({ path: socketPath, code: "ENOENT" }) })
      }
      const [near, far] = yield* Effect.acquireRelease(makePair, ([near]) => near.close)
      if (!(yield* Queue.offer(backlog, far))) yield* far.close
      return near.socket
    }),
    verify: () => Effect.void,
    probe: (socketPath) => Effect.sync(() => listeners.has(socketPath) ? "live" : "dead"),
    discard: () => Effect.succeed("absent"),
    scan: () => Effect.succeed([]),
    directories: Effect.map(Host, ({ tmpdir }) => ({ runtimeDirectory: Option.none(), tmpdir }))
  })
})

/** One network for all endpoints that share this layer value. */
export const layer: Layer.Layer<Transport> = Layer.effect(Transport, make)

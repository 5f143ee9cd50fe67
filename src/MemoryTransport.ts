/**
 * Endpoints of one program that reach each other without I/O: no file, no descriptor, and no timer but those of
 * Effect's clock, so `TestClock` moves everything.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { Host } from "./Host.ts"
import { Limits } from "./Limits.ts"
import { AddressInUse, DialError, ListenError, NotListening, Transport } from "./Transport.ts"

type Pipe = Queue.Queue<Uint8Array | string, Socket.SocketError>

const closed = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })
const aborted = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "the connection is closed" }) })

interface End {
  readonly socket: Socket.Socket
  /** Ends the connection both ways; what the other end has not read yet stays readable. */
  readonly close: Effect.Effect<void>
}

const makeEnd = (incoming: Pipe, outgoing: Pipe): End => {
  // `fail` fixes what a later pull sees; `shutdown` frees a writer that waits for room.
  const close = Effect.asVoid(
    Effect.all([Queue.fail(outgoing, closed), Queue.fail(incoming, aborted), Queue.shutdown(incoming)])
  )
  const write: Socket.Writer["write"] = (chunk) =>
    Socket.isCloseEvent(chunk)
      ? close
      : Effect.flatMap(Queue.offer(outgoing, chunk), (accepted) => accepted ? Effect.void : Effect.fail(gone))
  const socket = Socket.make({
    reader: Effect.acquireRelease(
      Effect.succeed({ pull: Queue.takeAll(incoming), upgrade: Socket.SocketUpgradeError.unsupported }),
      () => Effect.asVoid(Queue.fail(incoming, aborted))
    ),
    writer: Effect.acquireRelease(
      Effect.succeed({ write, writeAll: (parts) => Effect.forEach(parts, write, { discard: true }) }),
      () => Queue.fail(outgoing, closed)
    )
  })
  return { socket, close }
}

/** Chunks in flight in one direction before a writer waits. */
const chunksInFlight = 16

const makePipe: Effect.Effect<Pipe> = Queue.bounded(chunksInFlight)

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

/**
 * A peer of a `Connection` without I/O: it sends exactly the bytes it is told and reports exactly what it is sent. The
 * connection it talks to runs in a fiber of the test, on the clock of the test.
 */
import { Deferred, Effect, Redacted } from "effect"
import { Socket } from "effect/socket"
import * as Capability from "../../src/Capability.ts"
import * as Connection from "../../src/Connection.ts"
import * as Inbox from "../../src/Inbox.ts"
import type { Progress } from "../../src/internal/peerPool.ts"
import * as MemoryTransport from "../../src/MemoryTransport.ts"

export interface MemoryPeer {
  /** The other end of the pair, for whoever is to be tested. */
  readonly socket: Socket.Socket
  /** Waits while 8 KiB are unread. */
  readonly write: (data: string | Uint8Array) => Effect.Effect<void>
  /** Half-closes: the peer will send no more. */
  readonly end: Effect.Effect<void>
  /** Ends the connection both ways. */
  readonly hangUp: Effect.Effect<void>
  /** The next line without its LF; undefined once the other side has closed and all lines are read. */
  readonly line: Effect.Effect<string | undefined>
  /** All lines until the other side closes. */
  readonly rest: Effect.Effect<ReadonlyArray<string>>
}

/** A peer and the socket it talks to; hung up with the scope. It reads nothing that is not asked for. */
export const connectMemory = Effect.gen(function*() {
  const [near, far] = yield* MemoryTransport.makePair
  yield* Effect.addFinalizer(() => near.close)
  const pull = yield* Socket.readerBytes(near.socket)
  const writer = yield* near.socket.writer
  const decoder = new TextDecoder()
  const lines: Array<string> = []
  let partial = ""
  const line: Effect.Effect<string | undefined> = Effect.suspend(() => {
    if (lines.length > 0) return Effect.succeed(lines.shift())
    return Effect.matchEffect(pull, {
      onFailure: () => Effect.undefined,
      onSuccess: (chunks) => {
        for (const chunk of chunks) partial += decoder.decode(chunk, { stream: true })
        lines.push(...partial.split("\n"))
        partial = lines.pop() ?? ""
        return line
      }
    })
  })
  const rest: Effect.Effect<ReadonlyArray<string>> = Effect.flatMap(
    line,
    (first) => first === undefined ? Effect.succeed([]) : Effect.map(rest, (others) => [first, ...others])
  )
  return {
    socket: far.socket,
    write: (data) => Effect.ignore(writer.write(data)),
    // The pair's writers share one pipe, so releasing any of them half-closes.
    end: Effect.asVoid(Effect.scoped(near.socket.writer)),
    hangUp: near.close,
    line,
    rest
  } satisfies MemoryPeer
})

/** A socket whose peer never reads: a write leaves its text in `written` and does not finish before the end. */
export const neverRead = (written: Array<string>) => (socket: Socket.Socket): Socket.Socket => {
  const gone = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
  const closed = Deferred.makeUnsafe<never, Socket.SocketError>()
  const write: Socket.Writer["write"] = (chunk) =>
    Socket.isCloseEvent(chunk)
      ? Effect.andThen(
        Deferred.fail(closed, gone),
        Effect.scoped(Effect.flatMap(socket.writer, (writer) => writer.write(chunk)))
      )
      : Effect.andThen(Effect.sync(() => written.push(String(chunk))), Deferred.await(closed))
  return Socket.make({
    reader: socket.reader,
    writer: Effect.succeed({ write, writeAll: (chunks) => Effect.forEach(chunks, write, { discard: true }) })
  })
}

export const token = "0123456789abcdef".repeat(4)
export const socketPath = "/run/memory/messaging.sock"

/** One frame with its LF, carrying the token. */
export const frame = (message: Record<string, unknown>): string =>
  `${JSON.stringify({ ...message, meta: { ...(message["meta"] as object | undefined), authToken: token } })}\n`

export const ping = frame({ type: "ping" })
export const text = (data: string) => frame({ type: "text", data })

const instant = (millis: number) => new Date(millis).toISOString()

/** The replies of PROTOCOL.md 3.4, spelled out, as they are `millis` after the start of the test's clock. */
export const pong = (millis = 0, from = socketPath) => `{"type":"pong","from":"${from}","ts":"${instant(millis)}"}`
export const ack = (n: number, millis = 0) =>
  `{"type":"response","data":"ok","ts":"${instant(millis)}","meta":{"id":"uds-${n}"}}`
export const error = (data: string, millis = 0) => `{"type":"error","data":"${data}","ts":"${instant(millis)}"}`

export interface EndpointOptions {
  /** Where the capabilities of senders are looked up. Default: none is published. */
  readonly capability?: Capability.Capability["Service"] | undefined
  /** The path of the endpoint under test. */
  readonly path?: string | undefined
  readonly protocol1?: boolean | undefined
}

export interface ConnectOptions {
  readonly admit?: (() => boolean) | undefined
  readonly mark?: ((progress: Progress) => void) | undefined
  /** What stands between the connection and the pair. */
  readonly through?: ((socket: Socket.Socket) => Socket.Socket) | undefined
}

export interface ServeOptions extends EndpointOptions, ConnectOptions {}

/** What serves connections under test, all with one inbox. The limits are those in scope. */
export const makeEndpoint = Effect.fnUntraced(
  function*({ capability, path = socketPath, protocol1 }: EndpointOptions = {}) {
    const inbox = yield* Inbox.make
    const connection = yield* Connection.make({ socketPath: path, token: Redacted.make(token), protocol1 }).pipe(
      Effect.provideService(Inbox.Inbox, inbox),
      Effect.provideService(Capability.Capability, capability ?? (yield* Capability.makeMemory))
    )
    /** A connection, waiting for its first byte, and the peer it serves. */
    const connect = Effect.fnUntraced(function*({ admit = () => true, mark = () => {}, through }: ConnectOptions = {}) {
      const peer = yield* connectMemory
      const socket = through === undefined ? peer.socket : through(peer.socket)
      const session = yield* Effect.forkScoped(connection(socket, { admit, mark }), { startImmediately: true })
      return { peer, session }
    })
    return { inbox, connect }
  }
)

/** One connection of an endpoint of its own. */
export const serve = Effect.fnUntraced(function*(options: ServeOptions = {}) {
  const { connect, inbox } = yield* makeEndpoint(options)
  return { inbox, ...(yield* connect(options)) }
})

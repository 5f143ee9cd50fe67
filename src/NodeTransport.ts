/**
 * Endpoints on Unix sockets, and on Windows pipes where the steps that need a file system are skipped.
 * `internal/socketPath` takes, keeps and gives back the path; here are connections, and what stands on disk besides.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as net from "node:net"
import * as path from "node:path"
import { tooLong } from "./Address.ts"
import { Host } from "./Host.ts"
import { accept } from "./internal/acceptor.ts"
import { errnoOf } from "./internal/fileFailed.ts"
import { Interposer, type Interposition } from "./internal/interposer.ts"
import { NodeSocket } from "./internal/nodeSocket.ts"
import { Posix } from "./internal/posix.ts"
import * as privateFiles from "./internal/privateFiles.ts"
import * as socketPaths from "./internal/socketPath.ts"
import { bind } from "./internal/socketPath.ts"
import { Limits } from "./Limits.ts"
import {
  ConnectDenied,
  ConnectFailed,
  DialError,
  type Discarded,
  ListenError,
  type ListenOptions,
  type Liveness,
  NotListening,
  SocketNotTrusted,
  Transport
} from "./Transport.ts"

/** `<pid>-<nonce>`, see `Address.defaultPath`. */
const isEndpointDirectory = (name: string) => /^\d+-[0-9a-f]{16,32}$/.test(name)

const isPipe = (socketPath: string) => socketPath.startsWith("\\\\.\\pipe\\")

const wrap = Effect.mapError((reason: ListenError["reason"]) => new ListenError({ reason }))

/** What a dial, or a look at the socket, failed with. */
export const dialReason = (path: string, error: unknown): DialError["reason"] => {
  const code = errnoOf(error)
  switch (code) {
    case "ENOENT":
    case "ECONNREFUSED":
    case "ENOTDIR":
      return new NotListening({ path, code })
    case "EACCES":
    case "EPERM":
      return new ConnectDenied({ path, code })
    default:
      return new ConnectFailed({ path, code })
  }
}

type BeforeCall = Interposition["beforeCall"]

/** A connected socket, destroyed with the scope. */
const connect = Effect.fnUntraced(function*(beforeCall: BeforeCall, socketPath: string) {
  yield* Effect.mapError(
    beforeCall("connect", socketPath),
    (error) => new DialError({ reason: dialReason(socketPath, error) })
  )
  // Listened to from its first tick on, so that no event of the socket is missed or uncaught.
  const { conn, socket } = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const conn = net.createConnection({ path: socketPath, allowHalfOpen: true })
      return { conn, socket: new NodeSocket(conn) }
    }),
    ({ conn }) => Effect.sync(() => conn.destroy())
  )
  yield* Effect.callback<void, DialError>((resume) => {
    const fail = (error: unknown) => resume(Effect.fail(new DialError({ reason: dialReason(socketPath, error) })))
    if (conn.errored !== null) return fail(conn.errored)
    if (!conn.connecting) return resume(Effect.void)
    conn.once("error", fail)
    conn.once("connect", () => resume(Effect.void))
  })
  return socket
})

// Linux answers EAGAIN while the listener's backlog is full; the caller's deadline bounds the wait.
const connectWhenFree = (beforeCall: BeforeCall, socketPath: string) =>
  Effect.retry(connect(beforeCall, socketPath), {
    while: (error) => error.reason._tag === "ConnectFailed" && error.reason.code === "EAGAIN",
    schedule: Schedule.jittered(Schedule.spaced(10))
  })

/** Bytes that Node reads ahead of a connection that is paused, rounded up to one read of at most 65,536. */
const highWaterMark = 16_384

/** A server that does not listen yet. */
const makeServer = () => net.createServer({ allowHalfOpen: true, pauseOnConnect: true, highWaterMark })

const closeServer = (server: net.Server) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
  })

/** Reads `Limits` and `Host`. */
export const make: Effect.Effect<Transport["Service"], never, FileSystem.FileSystem> = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const posix = yield* Posix
  const { beforeCall } = yield* Interposer
  const files = yield* privateFiles.make
  const host = yield* Host
  const limits = yield* Limits

  const dial = Effect.fnUntraced(function*(socketPath: string) {
    const reason = tooLong(socketPath, host.platform)
    if (reason !== undefined) return yield* new DialError({ reason })
    return yield* connectWhenFree(beforeCall, socketPath)
  })

  const probe = (socketPath: string): Effect.Effect<Liveness> =>
    tooLong(socketPath, host.platform) !== undefined ?
      Effect.succeed("unknown") :
      Effect.scoped(connect(beforeCall, socketPath)).pipe(
        Effect.match({
          onSuccess: (): Liveness => "live",
          // A full backlog belongs to a live server.
          onFailure: ({ reason }): Liveness =>
            reason._tag === "NotListening" ? "dead" : "code" in reason && reason.code === "EAGAIN" ? "live" : "unknown"
        }),
        Effect.timeoutOption(limits.probeTimeout),
        Effect.map(Option.getOrElse((): Liveness => "unknown"))
      )

  const verify = Effect.fnUntraced(function*(socketPath: string) {
    if (isPipe(socketPath)) return
    const refuse = (problem: string) => new DialError({ reason: new SocketNotTrusted({ path: socketPath, problem }) })
    const info = yield* Effect.mapError(
      files.inspect(socketPath),
      (error) => new DialError({ reason: dialReason(socketPath, error) })
    )
    if (Option.isNone(info)) {
      return yield* new DialError({ reason: new NotListening({ path: socketPath, code: "ENOENT" }) })
    }
    if (info.value.type !== "Socket") return yield* refuse("it is not a socket")
    if (!files.isOwn(info.value)) return yield* refuse("it belongs to another user")
    yield* Effect.mapError(files.checkAncestors(socketPath), (error) => refuse(error.message))
  })

  const paths = yield* socketPaths.make(probe)

  const listen = Effect.fnUntraced(function*(options: ListenOptions) {
    // The one that listens now, closed with the scope.
    let server = makeServer()
    yield* Effect.addFinalizer(() => closeServer(server))
    const { attach, listener } = yield* accept({
      address: options.socketPath,
      maxWaiting: limits.maxPeers,
      closeTimeout: Duration.toMillis(limits.closeTimeout)
    })
    attach(server)
    yield* wrap(
      isPipe(options.socketPath) ?
        bind(beforeCall, server, options.socketPath) :
        paths.take(server, options, (listening) =>
          Effect.suspend(() => {
            const next = makeServer()
            attach(next)
            return Effect.matchEffect(listening(next), {
              onFailure: (reason) => Effect.andThen(closeServer(next), Effect.fail(reason)),
              onSuccess: () =>
                Effect.sync(() => {
                  // Its connections live on, and are the acceptor's to end.
                  server.close()
                  server = next
                })
            })
          }))
    )
    return listener
  })

  return Transport.of({
    listen,
    dial,
    verify,
    probe,
    discard: (socketPath) =>
      isPipe(socketPath) ? Effect.succeed("absent") : Effect.gen(function*() {
        if (Option.isNone(yield* files.inspect(socketPath))) return "absent"
        const directory = path.dirname(socketPath)
        yield* files.checkPrivate(directory)
        if (!(yield* paths.removeDead(socketPath))) return "kept"
        yield* paths.sweepStaging(directory)
        // Only a directory that an endpoint made for itself; any other is the user's.
        if (isEndpointDirectory(path.basename(directory))) {
          yield* Effect.ignore(posix.removeEmptyDirectory(directory))
        }
        return "removed"
      }).pipe(Effect.orElseSucceed((): Discarded => "kept")),
    scan: (base) =>
      Effect.gen(function*() {
        yield* files.checkPrivate(base)
        const found: Array<string> = []
        for (const name of yield* fs.readDirectory(base)) {
          if (!isEndpointDirectory(name)) continue
          const directory = path.join(base, name)
          yield* Effect.ignore(posix.removeEmptyDirectory(directory))
          const inside = yield* Effect.orElseSucceed(fs.readDirectory(directory), () => [])
          for (const entry of inside) found.push(path.join(directory, entry))
        }
        return found
      }).pipe(Effect.orElseSucceed(() => [])),
    directories: Effect.gen(function*() {
      const named = host.environment["XDG_RUNTIME_DIR"]
      const runtime = named && Option.isSome(host.uid) ? yield* Effect.option(posix.realPath(named)) : Option.none()
      return {
        runtimeDirectory: Option.isSome(runtime) && (yield* Effect.isSuccess(files.checkPrivate(runtime.value)))
          ? runtime
          : Option.none(),
        tmpdir: yield* Effect.orElseSucceed(posix.realPath(host.tmpdir), () => path.resolve(host.cwd, host.tmpdir))
      }
    })
  })
})

export const layer: Layer.Layer<Transport, never, FileSystem.FileSystem> = Layer.effect(Transport, make)

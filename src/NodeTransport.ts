/**
 * Endpoints on Unix sockets, and on Windows pipes where the steps that need a file system are skipped.
 *
 * A path is taken without a moment in which others can reach it: the socket is bound under a private staging name, made
 * 0600, and published by a hard link, which fails where anything is in the way. It is removed only while it is still
 * the same inode. Node unlinks the name it bound when a server closes; that is the staging name, gone by then.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import { Buffer } from "node:buffer"
import * as crypto from "node:crypto"
import * as net from "node:net"
import * as path from "node:path"
import { checkLength, maxPathBytes } from "./Address.ts"
import { Host } from "./Host.ts"
import { accept } from "./internal/acceptor.ts"
import { fromNetSocket } from "./internal/nodeSocket.ts"
import { withPathLock } from "./internal/pathLock.ts"
import { Posix } from "./internal/posix.ts"
import * as privateFiles from "./internal/privateFiles.ts"
import { errnoOf, failed } from "./internal/privateFiles.ts"
import { onProcessExit, removeEmptyDirectory, removeSameInode } from "./internal/processExit.ts"
import { Limits } from "./Limits.ts"
import {
  AddressInUse,
  ConnectDenied,
  ConnectFailed,
  DialError,
  type Discarded,
  ListenError,
  ListenFailed,
  type ListenOptions,
  type Liveness,
  NotListening,
  PathOccupied,
  SocketNotTrusted,
  Transport
} from "./Transport.ts"

/** `<pid>-<nonce>`, see `Address.defaultPath`. */
const isEndpointDirectory = (name: string) => /^\d+-[0-9a-f]{16,32}$/.test(name)

const isPipe = (socketPath: string) => socketPath.startsWith("\\\\.\\pipe\\")

const sameInode = (a: FileSystem.File.Info, b: FileSystem.File.Info) =>
  a.dev === b.dev && Option.isSome(a.ino) && Option.contains(b.ino, a.ino.value)

/** What only those see who can look into the directory: inode numbers are reused, so the time goes with them. */
const inodeOf = ({ dev, ino, mtime }: FileSystem.File.Info) =>
  [dev, Option.getOrElse(ino, () => 0n), Option.getOrElse(mtime, () => new Date(0)).getTime()].join("-")

const wrap = Effect.mapError((reason: ListenError["reason"]) => new ListenError({ reason }))

const dialReason = (path: string, error: unknown): DialError["reason"] => {
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

/** A connected socket, destroyed with the scope. */
const connect = Effect.fnUntraced(function*(socketPath: string) {
  // Listened to from its first tick on, so that no event of the socket is missed or uncaught.
  const { conn, socket } = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const conn = net.createConnection({ path: socketPath, allowHalfOpen: true })
      return { conn, socket: fromNetSocket(conn) }
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
const connectWhenFree = (socketPath: string) =>
  Effect.retry(connect(socketPath), {
    while: (error) => error.reason._tag === "ConnectFailed" && error.reason.code === "EAGAIN",
    schedule: Schedule.jittered(Schedule.spaced(10))
  })

/** A server that does not listen yet; closed with the scope. */
const makeServer = Effect.acquireRelease(
  Effect.sync(() => net.createServer({ allowHalfOpen: true, pauseOnConnect: true })),
  (server) =>
    Effect.callback<void>((resume) => {
      server.close(() => resume(Effect.void))
    })
)

const bind = (server: net.Server, path: string) =>
  Effect.callback<void, ListenFailed>((resume) => {
    // Stays for good: a failed accept, such as EMFILE, must not end the process. The next accept may succeed.
    server.on("error", (error) => resume(Effect.fail(new ListenFailed({ path, code: errnoOf(error) }))))
    server.listen(path, () => resume(Effect.void))
  })

/** A name for binding: it is in use for a moment, in a private directory, and never longer than the final one may be. */
const stagingName = (room: number, taken: string): string => {
  const digits = crypto.randomBytes(4).toString("hex")
  const name = room > digits.length ? `.${digits}` : digits.slice(0, Math.max(1, room))
  return name === taken ? stagingName(room, taken) : name
}

/** Reads `Limits` and `Host`. */
export const make: Effect.Effect<Transport["Service"], never, FileSystem.FileSystem> = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const posix = yield* Posix
  const files = yield* privateFiles.make
  const host = yield* Host
  const limits = yield* Limits

  const tooLong = (socketPath: string) =>
    Result.match(checkLength(socketPath, host.platform), {
      onSuccess: () => undefined,
      onFailure: ({ reason }) => reason._tag === "PathTooLong" ? reason : undefined
    })

  const dial = Effect.fnUntraced(function*(socketPath: string) {
    const reason = tooLong(socketPath)
    if (reason !== undefined) return yield* new DialError({ reason })
    return yield* connectWhenFree(socketPath)
  })

  const probe = (socketPath: string): Effect.Effect<Liveness> =>
    tooLong(socketPath) !== undefined ? Effect.succeed("unknown") : Effect.scoped(connect(socketPath)).pipe(
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

  /** What stands at the path: nothing, a dead socket of one's own, or a reason to leave it alone. */
  const occupant = Effect.fnUntraced(function*(socketPath: string) {
    const info = yield* files.inspect(socketPath)
    if (Option.isNone(info)) return Option.none<FileSystem.File.Info>()
    const { type } = info.value
    if (type !== "Socket") {
      return yield* new PathOccupied({ path: socketPath, occupant: type === "SymbolicLink" ? "a link" : `a ${type}` })
    }
    if (!files.isOwn(info.value)) {
      return yield* new PathOccupied({ path: socketPath, occupant: "another user's socket" })
    }
    const liveness = yield* probe(socketPath)
    if (liveness === "live") return yield* new AddressInUse({ path: socketPath })
    if (liveness === "unknown") {
      return yield* new PathOccupied({ path: socketPath, occupant: "a socket that neither answers nor refuses" })
    }
    return info
  })

  /** Under the lock nobody else removes this dead socket, so what was found dead is what is removed. */
  const removeDead = Effect.fnUntraced(function*(socketPath: string) {
    const dead = yield* occupant(socketPath)
    if (Option.isNone(dead)) return false
    return yield* withPathLock(socketPath, inodeOf(dead.value), host)(Effect.gen(function*() {
      const still = yield* occupant(socketPath)
      if (Option.isNone(still) || !sameInode(still.value, dead.value)) return false
      yield* Effect.mapError(fs.remove(socketPath), failed("remove", socketPath))
      return true
    }))
  })

  /** Gives the staged socket its public name, exclusively. */
  const publish = Effect.fnUntraced(function*(staging: string, socketPath: string): Effect.fn.Return<
    void,
    ListenError["reason"]
  > {
    const linked = yield* Effect.result(fs.link(staging, socketPath))
    if (Result.isSuccess(linked)) return
    if (linked.failure.reason._tag !== "AlreadyExists") return yield* failed("publish", socketPath)(linked.failure)
    yield* removeDead(socketPath)
    // Whoever links first after the removal has won; the next failure finds a live server there.
    return yield* publish(staging, socketPath)
  })

  const unlinkOwn = (socketPath: string, own: FileSystem.File.Info) =>
    Effect.gen(function*() {
      const now = yield* files.inspect(socketPath)
      if (Option.isSome(now) && sameInode(now.value, own)) yield* fs.remove(socketPath)
    }).pipe(Effect.ignore)

  const listenOnSocket = Effect.fnUntraced(function*(server: net.Server, { base, socketPath }: ListenOptions) {
    const reason = tooLong(socketPath)
    if (reason !== undefined) return yield* reason
    const directory = path.dirname(socketPath)
    if (base !== undefined) yield* files.ensurePrivate(base)
    const made = yield* Effect.acquireRelease(
      files.ensurePrivate(directory),
      (made) => Effect.forEach(made.toReversed(), (path) => Effect.ignore(posix.removeEmptyDirectory(path)))
    )
    // Before binding, so that the usual mistakes are told without a trace on disk.
    yield* occupant(socketPath)
    const room = maxPathBytes(host.platform) - Buffer.byteLength(path.join(directory, "/"))
    const staging = path.join(directory, stagingName(room, path.basename(socketPath)))
    yield* bind(server, staging)
    // Released with the server should any later step fail.
    yield* Effect.addFinalizer(() => Effect.ignore(fs.remove(staging, { force: true })))
    yield* Effect.mapError(fs.chmod(staging, 0o600), failed("make private", staging))
    const own = yield* Effect.mapError(fs.lstat(staging), failed("inspect", staging))
    yield* onProcessExit(() => {
      for (const name of [staging, socketPath]) removeSameInode(name, own)
      for (const name of made.toReversed()) removeEmptyDirectory(name)
    })
    yield* Effect.acquireRelease(publish(staging, socketPath), () => unlinkOwn(socketPath, own))
    yield* Effect.mapError(fs.remove(staging), failed("remove", staging))
  })

  const listen = Effect.fnUntraced(function*(options: ListenOptions) {
    const server = yield* makeServer
    // Before it listens, so that no connection is accepted that nobody knows of.
    const listener = yield* accept(server, {
      address: options.socketPath,
      maxWaiting: limits.maxPeers,
      closeTimeout: Duration.toMillis(limits.closeTimeout)
    })
    yield* wrap(
      isPipe(options.socketPath) ? bind(server, options.socketPath) : listenOnSocket(server, options)
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
        yield* files.checkPrivate(path.dirname(socketPath))
        if (!(yield* removeDead(socketPath))) return "kept"
        const directory = path.dirname(socketPath)
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
      const runtime = named && Option.isSome(host.uid) ? yield* Effect.option(fs.realPath(named)) : Option.none()
      return {
        runtimeDirectory: Option.isSome(runtime) && (yield* Effect.isSuccess(files.checkPrivate(runtime.value)))
          ? runtime
          : Option.none(),
        tmpdir: yield* Effect.orElseSucceed(fs.realPath(host.tmpdir), () => path.resolve(host.cwd, host.tmpdir))
      }
    })
  })
})

export const layer: Layer.Layer<Transport, never, FileSystem.FileSystem> = Layer.effect(Transport, make)

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
import { insist } from "./internal/insist.ts"
import { Interposer, type Interposition } from "./internal/interposer.ts"
import { keep, type Standing } from "./internal/keeper.ts"
import { isStagingName } from "./internal/leftovers.ts"
import * as metrics from "./internal/metrics.ts"
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

/**
 * Connections that the system holds until they are accepted; it cuts this to its own limit. Node's 511 are fewer than a
 * crowd of some hundred that keeps coming back, and a connect that finds no room fails.
 */
const backlog = 4_096

const listenFailed = (path: string) => (error: unknown) => new ListenFailed({ path, code: errnoOf(error) })

const bind = (beforeCall: BeforeCall, server: net.Server, path: string) =>
  Effect.andThen(
    Effect.mapError(beforeCall("bind", path), listenFailed(path)),
    Effect.callback<void, ListenFailed>((resume) => {
      // Stays for good: a failed accept, such as EMFILE, must not end the process. The next accept may succeed.
      server.on("error", (error) => resume(Effect.fail(listenFailed(path)(error))))
      server.listen({ path, backlog }, () => resume(Effect.void))
    })
  )

/** A name for binding: it is in use for a moment, in a private directory, and never longer than the final one may be. */
const stagingName = (room: number, taken: string): string => {
  const digits = crypto.randomBytes(4).toString("hex")
  const name = room > digits.length ? `.${digits}` : digits.slice(0, Math.max(1, room))
  return name === taken ? stagingName(room, taken) : name
}

/** Milliseconds in which a socket that was bound listens, many times over. */
const stagingPatience = 100

/** Reads `Limits` and `Host`. */
export const make: Effect.Effect<Transport["Service"], never, FileSystem.FileSystem> = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const posix = yield* Posix
  const { beforeCall } = yield* Interposer
  const files = yield* privateFiles.make
  const host = yield* Host
  const limits = yield* Limits
  const meter = yield* metrics.make

  const tooLong = (socketPath: string) =>
    Result.match(checkLength(socketPath, host.platform), {
      onSuccess: () => undefined,
      onFailure: ({ reason }) => reason._tag === "PathTooLong" ? reason : undefined
    })

  const dial = Effect.fnUntraced(function*(socketPath: string) {
    const reason = tooLong(socketPath)
    if (reason !== undefined) return yield* new DialError({ reason })
    return yield* connectWhenFree(beforeCall, socketPath)
  })

  const probe = (socketPath: string): Effect.Effect<Liveness> =>
    tooLong(socketPath) !== undefined ? Effect.succeed("unknown") : Effect.scoped(connect(beforeCall, socketPath)).pipe(
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
    yield* Effect.mapError(beforeCall("lock", socketPath), listenFailed(socketPath))
    return yield* withPathLock(socketPath, inodeOf(dead.value), host)(Effect.gen(function*() {
      const still = yield* occupant(socketPath)
      if (Option.isNone(still) || !sameInode(still.value, dead.value)) return false
      yield* Effect.mapError(fs.remove(socketPath), failed("remove", socketPath))
      return true
    }))
  })

  /**
   * Removes the private names that killed processes have left in a directory. One that has just been bound refuses for a
   * moment, until it listens; so only what refuses twice is dead.
   */
  const sweepStaging = Effect.fnUntraced(function*(directory: string) {
    const names = (yield* fs.readDirectory(directory)).filter(isStagingName).map((name) => path.join(directory, name))
    const dead = yield* Effect.filter(
      names,
      (name) => Effect.orElseSucceed(Effect.map(occupant(name), Option.isSome), () => false)
    )
    if (dead.length === 0) return
    yield* Effect.sleep(stagingPatience)
    yield* Effect.forEach(dead, (name) => Effect.ignore(removeDead(name)), { discard: true })
  }, (sweeping) => Effect.ignore(sweeping))

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
    insist(Effect.gen(function*() {
      const now = yield* files.inspect(socketPath)
      if (Option.isNone(now) || !sameInode(now.value, own)) return false
      yield* fs.remove(socketPath)
      return true
    }))

  /** `change` has another server take the place of the one that listens. */
  const listenOnSocket = Effect.fnUntraced(function*(
    server: net.Server,
    { base, socketPath }: ListenOptions,
    change: (listening: (next: net.Server) => Effect.Effect<void, ListenError["reason"]>) => Effect.Effect<
      void,
      ListenError["reason"]
    >
  ) {
    const reason = tooLong(socketPath)
    if (reason !== undefined) return yield* reason
    const directory = path.dirname(socketPath)
    // Made by this endpoint, at the start or since, and removed with it if they are then empty.
    const made: Array<string> = []
    const ensureDirectories = Effect.gen(function*() {
      if (base !== undefined) yield* files.ensurePrivate(base)
      yield* files.ensurePrivate(directory, made)
    })
    // Before they are made, so that those are removed as well that were made before a check failed.
    yield* Effect.addFinalizer(() =>
      Effect.forEach(
        [...new Set(made.toReversed())],
        (path) => insist(Effect.as(posix.removeEmptyDirectory(path), true))
      )
    )
    yield* ensureDirectories
    // Before binding, so that the usual mistakes are told without a trace on disk.
    yield* occupant(socketPath)
    yield* sweepStaging(directory)
    const room = maxPathBytes(host.platform) - Buffer.byteLength(path.join(directory, "/"))
    // What to remove: never anything but what stands there with this inode.
    let own: FileSystem.File.Info | undefined
    yield* Effect.addFinalizer(() => own === undefined ? Effect.void : unlinkOwn(socketPath, own))

    const place = Effect.fnUntraced(function*(
      server: net.Server,
      publish: (staging: string, socketPath: string) => Effect.Effect<void, ListenError["reason"]>
    ) {
      const staging = path.join(directory, stagingName(room, path.basename(socketPath)))
      // As one step, since the name is there before the bind is known.
      yield* Effect.acquireRelease(
        bind(beforeCall, server, staging),
        () => insist(Effect.as(fs.remove(staging, { force: true }), true))
      )
      yield* Effect.mapError(fs.chmod(staging, 0o600), failed("make private", staging))
      const former = own
      const staged = yield* Effect.mapError(fs.lstat(staging), failed("inspect", staging))
      yield* onProcessExit(() => removeSameInode(staging, staged))
      own = staged
      yield* Effect.uninterruptible(Effect.onError(publish(staging, socketPath), () =>
        Effect.sync(() => {
          own = former
        })))
      yield* Effect.mapError(fs.remove(staging), failed("remove", staging))
    }, Effect.scoped)

    yield* onProcessExit(() => {
      if (own !== undefined) removeSameInode(socketPath, own)
      for (const name of made.toReversed()) removeEmptyDirectory(name)
    })
    yield* place(server, publish)
    const look = Effect.map(
      files.inspect(socketPath),
      (info): Standing =>
        Option.isNone(info) ? "nothing" : own !== undefined && sameInode(info.value, own) ? "own" : "another's"
    )
    // Nobody can give a name back to a socket that has lost it, so another one is bound. What is connected stays so.
    const again = change((next) =>
      Effect.andThen(
        ensureDirectories,
        place(
          next,
          (staging, socketPath) => Effect.mapError(fs.link(staging, socketPath), failed("publish", socketPath))
        )
      )
    )
    yield* Effect.forkScoped(
      keep({
        what: "socket",
        file: socketPath,
        interval: limits.republishInterval,
        meter,
        look,
        publish: Effect.uninterruptible(again)
      }),
      { startImmediately: true }
    )
  })

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
        listenOnSocket(server, options, (listening) =>
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
        if (!(yield* removeDead(socketPath))) return "kept"
        yield* sweepStaging(directory)
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

/**
 * The path of a Unix socket: taken, kept and given back.
 *
 * A path is taken without a moment in which others can reach it: the socket is bound under a private staging name, made
 * 0600, and published by a hard link, which fails where anything is in the way. It is removed only while it is still
 * the same inode. Node unlinks the name it bound when a server closes; that is the staging name, gone by then.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import type * as net from "node:net"
import * as path from "node:path"
import { maxPathBytes, tooLong } from "../Address.ts"
import { Host } from "../Host.ts"
import { Limits } from "../Limits.ts"
import {
  AddressInUse,
  type ListenError,
  ListenFailed,
  type ListenOptions,
  PathOccupied,
  type Transport
} from "../Transport.ts"
import { errnoOf, failed } from "./fileFailed.ts"
import { insist } from "./insist.ts"
import { Interposer, type Interposition } from "./interposer.ts"
import { keep, type Standing } from "./keeper.ts"
import { isStagingName, stagingName } from "./leftovers.ts"
import * as metrics from "./metrics.ts"
import { withPathLock } from "./pathLock.ts"
import { Posix } from "./posix.ts"
import * as privateFiles from "./privateFiles.ts"
import { onProcessExit, removeEmptyDirectory, removeSameInode } from "./processExit.ts"

/** Has another server listen, by `listening`, and take the place of the one that did. */
export type Change = (
  listening: (next: net.Server) => Effect.Effect<void, ListenError["reason"]>
) => Effect.Effect<void, ListenError["reason"]>

export interface SocketPaths {
  /**
   * Has `server` listen at the path until the scope closes, and `change` bind another when the path has disappeared.
   * A dead socket of one's own is replaced; anything else in the way is left as it is. Does not close a server.
   */
  readonly take: (
    server: net.Server,
    options: ListenOptions,
    change: Change
  ) => Effect.Effect<void, ListenError["reason"], Scope.Scope>
  /** Removes a dead socket of one's own. Answers whether it did; fails where something else is in the way. */
  readonly removeDead: (socketPath: string) => Effect.Effect<boolean, ListenError["reason"]>
  /** Removes the private names that killed processes have left in a directory. */
  readonly sweepStaging: (directory: string) => Effect.Effect<void>
}

const sameInode = (a: FileSystem.File.Info, b: FileSystem.File.Info) =>
  a.dev === b.dev && Option.isSome(a.ino) && Option.contains(b.ino, a.ino.value)

/** What only those see who can look into the directory: inode numbers are reused, so the time goes with them. */
const inodeOf = ({ dev, ino, mtime }: FileSystem.File.Info) =>
  [dev, ...Option.toArray(ino), ...Option.toArray(mtime).map((time) => time.getTime())].join("-")

/**
 * Connections that the system holds until they are accepted; it cuts this to its own limit. Node's 511 are fewer than a
 * crowd of some hundred that keeps coming back, and a connect that finds no room fails.
 */
const backlog = 4_096

const listenFailed = (path: string) => (error: unknown) => new ListenFailed({ path, code: errnoOf(error) })

/** Has `server` listen at `path`, which is a staging name or a pipe. */
export const bind = (beforeCall: Interposition["beforeCall"], server: net.Server, path: string) =>
  Effect.andThen(
    Effect.mapError(beforeCall("bind", path), listenFailed(path)),
    Effect.callback<void, ListenFailed>((resume) => {
      // Stays for good: a failed accept, such as EMFILE, must not end the process. The next accept may succeed.
      server.on("error", (error) => resume(Effect.fail(listenFailed(path)(error))))
      server.listen({ path, backlog }, () => resume(Effect.void))
    })
  )

/** Milliseconds in which a socket that was bound listens, many times over. */
const stagingPatience = 100

/** Reads `Limits` and `Host`. `probe` tells whether somebody listens. */
export const make = Effect.fnUntraced(function*(
  probe: Transport["Service"]["probe"]
): Effect.fn.Return<SocketPaths, never, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const posix = yield* Posix
  const { beforeCall } = yield* Interposer
  const files = yield* privateFiles.make
  const host = yield* Host
  const limits = yield* Limits
  const meter = yield* metrics.make

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

  // Under the lock nobody else removes this dead socket, so what was found dead is what is removed.
  const removeDead: SocketPaths["removeDead"] = Effect.fnUntraced(function*(socketPath: string) {
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

  // One that has just been bound refuses for a moment, until it listens; so only what refuses twice is dead.
  const sweepStaging: SocketPaths["sweepStaging"] = Effect.fnUntraced(function*(directory: string) {
    const names = (yield* fs.readDirectory(directory)).filter(isStagingName).map((name) => path.join(directory, name))
    const dead = yield* Effect.filter(names, (name) => Effect.isSuccess(occupant(name)))
    if (dead.length === 0) return
    yield* Effect.sleep(stagingPatience)
    yield* Effect.forEach(dead, (name) => Effect.ignore(removeDead(name)))
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
      // A look that fails may say that nothing is there, so it is looked again.
      if (Option.isNone(now) || !sameInode(now.value, own)) return false
      yield* fs.remove(socketPath)
      return true
    }))

  const take: SocketPaths["take"] = Effect.fnUntraced(function*(
    server: net.Server,
    { base, socketPath }: ListenOptions,
    change: Change
  ) {
    const reason = tooLong(socketPath, host.platform)
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
        (path) => insist(posix.removeEmptyDirectory(path))
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
        () => insist(fs.remove(staging, { force: true }))
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

  return { take, removeDead, sweepStaging }
})

/**
 * The private file that makes an endpoint addressable: its socket path and the token that opens it, readable by its
 * user only (PROTOCOL.md sections 5.2, 5.3 and 5.5).
 *
 * Tokens are `Redacted` from birth to use and are compared in constant time. A file is published whole or not at all,
 * and removed only by the endpoint whose token it holds.
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Order from "effect/Order"
import type { PlatformError } from "effect/PlatformError"
import * as PubSub from "effect/PubSub"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as path from "node:path"
import { Host } from "./Host.ts"
import * as capabilityDirectory from "./internal/capabilityDirectory.ts"
import {
  CapabilityError,
  CapabilityNotFound,
  type CapabilityRecord,
  CapabilityRefused,
  CapabilityTooLarge,
  decode,
  encode,
  fileName,
  holds,
  matches,
  newRecord
} from "./internal/capabilityRecord.ts"
import { failed, FileFailed } from "./internal/fileFailed.ts"
import { insist } from "./internal/insist.ts"
import { keep, type Standing } from "./internal/keeper.ts"
import * as leftovers from "./internal/leftovers.ts"
import * as metrics from "./internal/metrics.ts"
import { Posix, readUntrusted } from "./internal/posix.ts"
import * as privateFiles from "./internal/privateFiles.ts"
import { DirectoryNotPrivate } from "./internal/privateFiles.ts"
import { onProcessExit, removeOwnText } from "./internal/processExit.ts"
import { Limits } from "./Limits.ts"

export {
  CapabilityError,
  CapabilityNotFound,
  type CapabilityRecord,
  CapabilityRefused,
  CapabilityTooLarge,
  DirectoryNotPrivate,
  FileFailed,
  fileName,
  matches
}

/** What an endpoint tells of itself beyond its path. */
export interface PublishOptions {
  /** By which peers may find it, and people know it. Default none. */
  readonly name?: string | undefined
}

/** Publishes and finds capabilities: files of this user and namespace, or memory for tests. */
export class Capability extends Context.Service<Capability, {
  /**
   * Publishes a capability with a new token for `socketPath`; it is withdrawn when the scope closes, if it is still
   * one's own. Fails with `CapabilityError`, reasons `DirectoryNotPrivate`, `CapabilityTooLarge` and `FileFailed`, and
   * then leaves no file.
   */
  readonly publish: (
    socketPath: string,
    options?: PublishOptions
  ) => Effect.Effect<CapabilityRecord, CapabilityError, Scope.Scope>
  /**
   * The capability of the endpoint at `socketPath`. Fails with `CapabilityError`, reasons `CapabilityNotFound`,
   * `CapabilityRefused`, `DirectoryNotPrivate` and `FileFailed`.
   */
  readonly lookup: (socketPath: string) => Effect.Effect<CapabilityRecord, CapabilityError>
  /**
   * Every capability that can be trusted, by socket path. Others are left out, and left alone. Fails with
   * `CapabilityError`, reasons `DirectoryNotPrivate` and `FileFailed`; without a directory there are none.
   */
  readonly list: Effect.Effect<ReadonlyArray<CapabilityRecord>, CapabilityError>
  /**
   * Tells, without saying what, that capabilities may have come or gone. Hints may be missed and may come for nothing;
   * it ends when the directory cannot be watched.
   */
  readonly hints: Stream.Stream<void>
  /**
   * Removes the file of `record` if it still holds the same token. Answers whether it did. Fails with `CapabilityError`,
   * reason `FileFailed`.
   */
  readonly remove: (record: CapabilityRecord) => Effect.Effect<boolean, CapabilityError>
  /** Removes the temporary files of processes that were killed while they published. `publish` does so as well. */
  readonly sweep: Effect.Effect<void>
}>()("effect-messaging/Capability") {}

type Place = (temporary: string, file: string) => Effect.Effect<void, PlatformError>

const bySocketPath = Order.mapInput(Order.String, ({ socketPath }: CapabilityRecord) => socketPath)

const refuse = (path: string, problem: CapabilityRefused["problem"]) =>
  new CapabilityError({ reason: new CapabilityRefused({ path, problem }) })
const notFound = (socketPath: string) => new CapabilityError({ reason: new CapabilityNotFound({ socketPath }) })
const wrap = Effect.mapError((reason: CapabilityError["reason"]) => new CapabilityError({ reason }))

/**
 * Capabilities as files, in `<config home>/messaging-capabilities`. Reads `maxCapabilityBytes` and `republishInterval`.
 */
export const make: Effect.Effect<Capability["Service"], never, FileSystem.FileSystem> = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const posix = yield* Posix
  const files = yield* privateFiles.make
  const host = yield* Host
  const limits = yield* Limits
  const meter = yield* metrics.make

  const { directory } = yield* capabilityDirectory.make

  const read = Effect.fnUntraced(function*(file: string) {
    const opened = yield* readUntrusted(posix, file, limits.maxCapabilityBytes).pipe(
      Effect.mapError((reason) => reason.code === "ELOOP" ? refuse(file, "a link") : new CapabilityError({ reason }))
    )
    if (!opened.isRegular) return yield* refuse(file, "not a regular file")
    if (Option.isSome(host.uid) && opened.uid !== host.uid.value) return yield* refuse(file, "foreign owner")
    if (Option.isSome(host.uid) && (opened.mode & 0o077) !== 0) return yield* refuse(file, "open to others")
    if (opened.bytes.length > limits.maxCapabilityBytes) return yield* refuse(file, "too large")
    const decoded = decode(Buffer.from(opened.bytes).toString("utf8"))
    return Option.isSome(decoded) ? decoded.value : yield* refuse(file, "not a capability")
  })

  const lookup = Effect.fnUntraced(function*(socketPath: string) {
    const home = yield* directory
    if (!(yield* wrap(files.checkPrivateIfAny(home)))) return yield* notFound(socketPath)
    const file = path.join(home, fileName(socketPath))
    const record = yield* read(file).pipe(
      Effect.catchReason(
        "CapabilityError",
        "FileFailed",
        (reason, error) => Effect.fail(reason.code === "ENOENT" ? notFound(socketPath) : error)
      )
    )
    return record.socketPath === socketPath ? record : yield* refuse(file, "for another socket path")
  })

  const remove = Effect.fnUntraced(function*(record: CapabilityRecord) {
    const current = yield* Effect.result(lookup(record.socketPath))
    if (Result.isFailure(current) || !matches(current.success.token, Redacted.value(record.token))) return false
    const file = path.join(yield* directory, fileName(record.socketPath))
    yield* wrap(Effect.mapError(fs.remove(file, { force: true }), failed("remove", file)))
    return true
  })

  /** A private temporary file gets the name by `place`: readers see the whole file or none. */
  const write = Effect.fnUntraced(function*(file: string, bytes: Uint8Array, place: Place) {
    const temporary = leftovers.temporaryName(file, host.pid)
    yield* Effect.scoped(Effect.gen(function*() {
      // Exclusive, so that no link is followed.
      const opened = yield* fs.open(temporary, { flag: "wx", mode: 0o600 })
      yield* Effect.onError(
        Effect.andThen(opened.writeAll(bytes), opened.sync),
        () => insist(fs.remove(temporary))
      )
    })).pipe(
      Effect.andThen(Effect.onError(
        place(temporary, file),
        () => insist(fs.remove(temporary))
      )),
      Effect.mapError(failed("write", file)),
      wrap
    )
  })

  const sweepTemporary = Effect.fnUntraced(function*(home: string) {
    for (const name of yield* fs.readDirectory(home)) {
      const pid = leftovers.pidOfTemporary(name)
      if (pid === undefined || !leftovers.hasEnded(pid)) continue
      const file = path.join(home, name)
      const info = yield* files.inspect(file)
      if (Option.isSome(info) && info.value.type === "File" && files.isOwn(info.value)) yield* fs.remove(file)
    }
  }, (sweeping) => Effect.ignore(sweeping))

  /** Fails where anything stands at the name, which a rename would replace. */
  const placeNew: Place = (temporary, file) => Effect.andThen(fs.link(temporary, file), fs.remove(temporary))

  const keepPublished = (record: CapabilityRecord, home: string, bytes: Uint8Array) =>
    keep({
      what: "capability",
      file: path.join(home, fileName(record.socketPath)),
      interval: limits.republishInterval,
      meter,
      look: lookup(record.socketPath).pipe(
        Effect.map(({ token }): Standing => matches(record.token, Redacted.value(token)) ? "own" : "another's"),
        Effect.catchReasons("CapabilityError", {
          CapabilityNotFound: () => Effect.succeed<Standing>("nothing"),
          CapabilityRefused: () => Effect.succeed<Standing>("another's")
        })
      ),
      publish: Effect.andThen(
        wrap(files.ensurePrivate(home)),
        write(path.join(home, fileName(record.socketPath)), bytes, placeNew)
      ).pipe(Effect.uninterruptible)
    })

  return Capability.of({
    lookup,
    remove,
    sweep: Effect.flatMap(
      directory,
      (home) => Effect.ignore(Effect.andThen(files.checkPrivate(home), sweepTemporary(home)))
    ),
    publish: Effect.fnUntraced(function*(socketPath: string, options: PublishOptions = {}) {
      const home = yield* directory
      const record = newRecord(socketPath, host.pid, host.cwd, options.name, yield* Clock.currentTimeMillis)
      const bytes = yield* wrap(encode(record, limits.maxCapabilityBytes))
      yield* wrap(files.ensurePrivate(home))
      yield* sweepTemporary(home)
      const file = path.join(home, fileName(socketPath))
      yield* onProcessExit(() => removeOwnText(file, limits.maxCapabilityBytes, holds(record)))
      yield* Effect.acquireRelease(
        write(file, bytes, fs.rename),
        () => insist(remove(record))
      )
      yield* Effect.forkScoped(keepPublished(record, home, bytes), { startImmediately: true })
      return record
    }),
    hints: Stream.unwrap(Effect.map(directory, (home) => fs.watch(home))).pipe(
      Stream.map(() => undefined),
      Stream.catch(() => Stream.empty)
    ),
    list: Effect.gen(function*() {
      const home = yield* directory
      if (!(yield* wrap(files.checkPrivateIfAny(home)))) return []
      const entries = yield* wrap(Effect.mapError(fs.readDirectory(home), failed("list", home)))
      const found = yield* Effect.forEach(
        entries.filter((entry) => /^[0-9a-f]{64}\.json$/.test(entry)),
        (entry) =>
          Effect.map(
            Effect.option(read(path.join(home, entry))),
            Option.filter((record) => fileName(record.socketPath) === entry)
          ),
        { concurrency: 16 }
      )
      return Arr.sort(Arr.getSomes(found), bySocketPath)
    })
  })
})

/** Capability files of the namespace in force. */
export const layer: Layer.Layer<Capability, never, FileSystem.FileSystem> = Layer.effect(Capability, make)

/** Capabilities in memory, shared by the endpoints of one program: no file, for tests. */
export const makeMemory: Effect.Effect<Capability["Service"]> = Effect.gen(function*() {
  const host = yield* Host
  // Written by `publish` and `remove` in synchronous steps; an entry lives as long as its endpoint's scope.
  const records = new Map<string, CapabilityRecord>()
  const hints = yield* PubSub.sliding<void>(1)
  const hint = PubSub.publish(hints, undefined)
  const remove = (record: CapabilityRecord) =>
    Effect.tap(
      Effect.sync(() => records.get(record.socketPath) === record && records.delete(record.socketPath)),
      hint
    )
  return Capability.of({
    remove,
    sweep: Effect.void,
    hints: Stream.fromPubSub(hints),
    publish: (socketPath, options = {}) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.acquireRelease(
          Effect.tap(
            Effect.sync(() => {
              const record = newRecord(socketPath, host.pid, host.cwd, options.name, now)
              records.set(socketPath, record)
              return record
            }),
            hint
          ),
          remove
        )),
    lookup: (socketPath) =>
      Effect.suspend(() => {
        const record = records.get(socketPath)
        return record === undefined ? Effect.fail(notFound(socketPath)) : Effect.succeed(record)
      }),
    list: Effect.sync(() => Arr.sort(records.values(), bySocketPath))
  })
})

/** As `makeMemory`. */
export const layerMemory: Layer.Layer<Capability> = Layer.effect(Capability, makeMemory)

/** The system's interfaces with a question before every operation: how shall it fail, if at all? */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import { type PlatformError, systemError, type SystemErrorTag } from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import type { HostFacts } from "../Host.ts"
import { dialReason } from "../NodeTransport.ts"
import { DialError, ListenError, ListenFailed, Transport } from "../Transport.ts"
import { FileFailed } from "./fileFailed.ts"
import type { Interposition } from "./interposer.ts"
import type { PosixOperations } from "./posix.ts"

/** Answers with the errno to fail with, or nothing. */
export type Before = (name: string, path: string) => Effect.Effect<string | undefined>

const systemErrorOf = (code: string, syscall: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`${code}: injected, ${syscall}`), { code, syscall })

/** How the platform's own adapter classes error codes. */
const tags: Readonly<Record<string, SystemErrorTag>> = {
  ENOENT: "NotFound",
  EACCES: "PermissionDenied",
  EPERM: "PermissionDenied",
  EEXIST: "AlreadyExists",
  EISDIR: "BadResource",
  ENOTDIR: "BadResource",
  ELOOP: "BadResource",
  EBUSY: "Busy"
}

const fileError = (code: string, method: string, path: string) =>
  systemError({
    _tag: tags[code] ?? "Unknown",
    module: "FileSystem",
    method,
    pathOrDescriptor: path,
    cause: systemErrorOf(code, method)
  })

/** Fails with what `fail` makes of the errno, or goes on with `real`. */
const guarded = <A, E, R, E2>(
  before: Effect.Effect<string | undefined>,
  fail: (code: string) => E2,
  real: Effect.Effect<A, E, R>
): Effect.Effect<A, E | E2, R> =>
  Effect.flatMap(before, (code): Effect.Effect<A, E | E2, R> => code === undefined ? real : Effect.fail(fail(code)))

const isFile = (value: unknown): value is FileSystem.File =>
  Predicate.hasProperty(value, "writeAll") && Predicate.hasProperty(value, "readAlloc")

/** Every member that is an effect or a stream, or gives one, asks first; so does every file that is opened. */
const guardMembers = <T extends object>(before: Before, kind: string, real: T, shown?: string): T => {
  const guardValue = (value: unknown, method: string, path: string): unknown => {
    const ask = before(`${kind}.${method}`, path)
    const fail = (code: string) => fileError(code, method, path)
    if (Effect.isEffect(value)) {
      return Effect.map(
        guarded(ask, fail, value as Effect.Effect<unknown, PlatformError>),
        (result) => isFile(result) ? guardMembers(before, "File", result, path) : result
      )
    }
    if (Stream.isStream(value)) {
      return Stream.unwrap(guarded(ask, fail, Effect.succeed(value as Stream.Stream<unknown, PlatformError>)))
    }
    return value
  }
  return new Proxy(real, {
    get: (target, key) => {
      const member: unknown = Reflect.get(target, key, target)
      if (typeof key === "symbol") return member
      if (!Predicate.isFunction(member)) return guardValue(member, key, shown ?? "")
      return (...args: ReadonlyArray<unknown>) =>
        guardValue(Reflect.apply(member, target, args), key, shown ?? args.filter(Predicate.isString).join(" "))
    }
  })
}

export const posixWith = (before: Before, real: PosixOperations): PosixOperations => {
  const guard = <A, R>(name: string, operation: string, path: string, effect: Effect.Effect<A, FileFailed, R>) =>
    guarded(before(`Posix.${name}`, path), (code) => new FileFailed({ operation, path, code }), effect)
  return {
    openUntrusted: (path) =>
      Effect.map(guard("openUntrusted", "open", path, real.openUntrusted(path)), (file) => ({
        inspect: guard("inspect", "inspect", path, file.inspect),
        read: (maxBytes) => guard("read", "read", path, file.read(maxBytes))
      })),
    lookAt: (paths) => {
      const inmost = paths.at(-1) ?? ""
      return guard("lookAt", "inspect", inmost, real.lookAt(paths))
    },
    realPath: (path) => guard("realPath", "resolve", path, real.realPath(path)),
    removeEmptyDirectory: (path) => guard("removeEmptyDirectory", "remove", path, real.removeEmptyDirectory(path))
  }
}

/** As the system does it: a connection on which a read or a write has failed is of no further use. */
const socketWith = (before: Before, path: string, socket: Socket.Socket): Socket.Socket => {
  const hangUp = Effect.ignore(
    Effect.scoped(Effect.flatMap(socket.writer, (writer) => writer.write(new Socket.CloseEvent())))
  )
  const guard = <A>(name: string, effect: Effect.Effect<A, Socket.SocketError>) =>
    guarded(
      Effect.tap(before(`Socket.${name}`, path), (code) => code === undefined ? Effect.void : hangUp),
      (code) => {
        const cause = systemErrorOf(code, name)
        const reason = name === "read" ? new Socket.SocketReadError({ cause }) : new Socket.SocketWriteError({ cause })
        return new Socket.SocketError({ reason })
      },
      effect
    )
  return Socket.make({
    reader: Effect.map(socket.reader, (reader) => ({ ...reader, pull: guard("read", reader.pull) })),
    writer: Effect.map(socket.writer, (writer) => ({
      write: (chunk) => Socket.isCloseEvent(chunk) ? writer.write(chunk) : guard("write", writer.write(chunk)),
      writeAll: (chunks) => guard("write", writer.writeAll(chunks))
    }))
  })
}

const dialError = (path: string) => (code: string) => new DialError({ reason: dialReason(path, { code }) })

const transportWith = (before: Before, host: HostFacts, real: Transport["Service"]): Transport["Service"] => {
  const ask = (name: string, path: string) => before(`Transport.${name}`, path)
  /** For what has no error: its answer when it cannot tell. */
  const orElse = <A>(name: string, path: string, effect: Effect.Effect<A>, answer: A) =>
    Effect.flatMap(ask(name, path), (code) => code === undefined ? effect : Effect.succeed(answer))
  return Transport.of({
    listen: (options) =>
      guarded(
        ask("listen", options.socketPath),
        (code) => new ListenError({ reason: new ListenFailed({ path: options.socketPath, code }) }),
        Effect.map(real.listen(options), (listener) => ({
          ...listener,
          run: (handler) => listener.run((socket) => handler(socketWith(before, options.socketPath, socket)))
        }))
      ),
    dial: (path) =>
      guarded(
        ask("dial", path),
        dialError(path),
        Effect.map(real.dial(path), (socket) => socketWith(before, path, socket))
      ),
    verify: (path) => guarded(ask("verify", path), dialError(path), real.verify(path)),
    probe: (path) => orElse("probe", path, real.probe(path), "unknown"),
    discard: (path) => orElse("discard", path, real.discard(path), "kept"),
    scan: (base) => orElse("scan", base, real.scan(base), []),
    directories: orElse("directories", "", real.directories, {
      runtimeDirectory: Option.none(),
      tmpdir: host.tmpdir
    })
  })
}

/** `outer` is asked too: what it puts in place stands on the system's side of this one. */
export const interposition = (before: Before, host: HostFacts, outer: Interposition): Interposition => ({
  fileSystem: (real) => guardMembers(before, "FileSystem", outer.fileSystem(real)),
  transport: (real) => transportWith(before, host, outer.transport(real)),
  beforeCall: (call, path) =>
    guarded(before(`Net.${call}`, path), (code) => systemErrorOf(code, call), outer.beforeCall(call, path))
})

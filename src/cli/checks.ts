/**
 * The checks of `doctor`, in the order in which a start, and then a message, would meet the faults. None changes anything
 * but the round trip, which is an endpoint of its own for a moment.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import * as path from "node:path"
import * as Address from "../Address.ts"
import { Capability, fileName } from "../Capability.ts"
import { Host } from "../Host.ts"
import * as capabilityDirectory from "../internal/capabilityDirectory.ts"
import { failed, type FileFailed } from "../internal/fileFailed.ts"
import { isSupportedNode, requiredNode, unsupportedNode } from "../internal/nodeVersion.ts"
import * as privateFiles from "../internal/privateFiles.ts"
import * as Layers from "../Layers.ts"
import { Limits } from "../Limits.ts"
import { Messaging } from "../Messaging.ts"
import { Namespace } from "../Namespace.ts"
import { Transport } from "../Transport.ts"
import { denied, directoryFault, fault, type Finding, isDenied, ok, permit, quoted } from "./diagnosis.ts"
import { millisecondsOf } from "./ping.ts"

const node = Effect.map(Host, ({ nodeVersion }) =>
  isSupportedNode(nodeVersion)
    ? [ok("node", `Node ${nodeVersion}, at least ${requiredNode}`)]
    : [fault("node", "not usable", unsupportedNode(nodeVersion), "nvm install --lts")])

export const make = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const host = yield* Host
  const limits = yield* Limits
  const { environmentVariable, namespace } = yield* Namespace
  const capability = yield* Capability
  const transport = yield* Transport
  const files = yield* privateFiles.make
  const capabilities = yield* (yield* capabilityDirectory.make).directory
  const { runtimeDirectory, tmpdir } = yield* transport.directories
  const defaultPath = Address.defaultPath(
    { ...host, tmpdir },
    namespace,
    "0".repeat(Address.nonceDigits),
    runtimeDirectory
  )
  const uid = Option.getOrElse(host.uid, () => 0)
  const isPipes = host.platform === "win32"

  /** The path itself if it is there, or what of it is. */
  const nearest = (place: string): Effect.Effect<string, FileFailed> =>
    Effect.flatMap(
      files.inspect(place),
      (info) =>
        Option.isSome(info) || place === path.dirname(place) ? Effect.succeed(place) : nearest(path.dirname(place))
    )

  const directory = (what: string, place: string) =>
    Effect.gen(function*() {
      const there = yield* nearest(place)
      yield* there === place ? files.checkPrivate(place) : files.checkAncestors(path.join(there, "new"))
      yield* Effect.mapError(fs.access(there, { readable: true, writable: true }), failed("write to", there))
      return ok("directories", there === place ? `${what} ${place}` : `${what} ${place}: the first endpoint makes it`)
    }).pipe(Effect.catch((error) => Effect.succeed(directoryFault("directories", place, uid, error))))

  const runtime = Effect.gen(function*() {
    const named = host.environment["XDG_RUNTIME_DIR"]
    if (!named || Option.isSome(runtimeDirectory)) return []
    const problem = yield* Effect.flip(files.checkPrivate(named)).pipe(Effect.option)
    return Option.match(problem, {
      onNone: () => [],
      // The temporary directory takes its place.
      onSome: (error) => [ok("directories", `XDG_RUNTIME_DIR is not used: ${error.message}`)]
    })
  })

  const directories = Effect.gen(function*() {
    if (isPipes) return [ok("directories", "pipes need none")]
    const base = Result.match(defaultPath, { onFailure: Option.none, onSuccess: ({ base }) => base })
    return [
      ...yield* runtime,
      ...Option.isSome(base) ? [yield* directory("sockets in", base.value)] : [],
      yield* directory("capabilities in", capabilities)
    ]
  })

  const pathLength = Effect.sync(() => {
    if (Result.isFailure(defaultPath)) {
      return [fault("path length", "too long", defaultPath.failure.message, "export TMPDIR=/tmp")]
    }
    const { base, socketPath } = defaultPath.success
    const room = `${Buffer.byteLength(socketPath)} of ${Address.maxPathBytes(host.platform)} bytes`
    const [first] = Address.bases({ ...host, tmpdir }, namespace, runtimeDirectory)
    const instead = Option.isSome(base) && base.value !== first ? `; ${first} would be too long` : ""
    return [ok("path length", `${room} for an endpoint in ${Option.getOrElse(base, () => "a pipe")}${instead}`)]
  })

  const isSet = () => (host.environment[environmentVariable] ?? "") !== ""
  const unset = `unset ${environmentVariable}`
  const parent = () => Address.parse(host.environment[environmentVariable] ?? "", host.platform)

  /** Whether a parent listens where the variable says. */
  const reach = Effect.fnUntraced(function*(socketPath: string) {
    const info = isPipes ? Option.none() : yield* files.inspect(socketPath)
    if (!isPipes && Option.isNone(info)) {
      return fault("variable", "missing", `nothing is at ${socketPath}: the parent has ended`, unset)
    }
    if (Option.isSome(info)) {
      if (info.value.type !== "Socket") return fault("variable", "not usable", `${socketPath} is not a socket`, unset)
      if (!files.isOwn(info.value)) {
        return fault("variable", "foreign owner", `${socketPath} belongs to another user`, unset)
      }
      yield* files.checkAncestors(socketPath)
    }
    return yield* Effect.scoped(transport.dial(socketPath)).pipe(
      Effect.as(ok("variable", `a parent listens at ${socketPath}`)),
      Effect.catch(({ reason }) => {
        switch (reason._tag) {
          case "NotListening": {
            const text = `nobody listens at ${socketPath}: the parent died`
            return Effect.succeed(fault("variable", "stale", text, `effect-messaging sweep; ${unset}`))
          }
          case "ConnectDenied":
            return Effect.succeed(denied("variable", socketPath, reason.code, unset))
          default:
            return Effect.succeed(fault("variable", "not usable", reason.message, unset))
        }
      }),
      Effect.timeoutOrElse({
        duration: limits.probeTimeout,
        orElse: () => Effect.succeed(fault("variable", "refused", `${socketPath} does not answer`, unset))
      })
    )
  })

  const variable = Effect.gen(function*() {
    if (!isSet()) return [ok("variable", `${environmentVariable} is not set: no parent listens`)]
    const address = parent()
    if (Result.isFailure(address)) {
      const { reason } = address.failure
      return [fault("variable", reason._tag === "PathTooLong" ? "too long" : "not usable", reason.message, unset)]
    }
    const { socketPath } = address.success
    return [
      yield* Effect.catch(
        reach(socketPath),
        (error) =>
          Effect.succeed(
            error._tag === "FileFailed" && isDenied(error.code)
              ? denied("variable", error.path, error.code, unset)
              : directoryFault("variable", path.dirname(socketPath), uid, error)
          )
      )
    ]
  })

  /** A file that is not trusted, and why, as far as its looks tell. */
  const inspectFile = Effect.fnUntraced(function*(file: string) {
    const remove = `rm ${quoted(file)}`
    const info = yield* files.inspect(file)
    if (Option.isNone(info)) return undefined
    if (info.value.type !== "File") {
      return fault("capability", "not usable", `${file} is not a regular file`, `rm -r ${quoted(file)}`)
    }
    if (!files.isOwn(info.value)) {
      return fault("capability", "foreign owner", `${file} belongs to another user`, `rm -f ${quoted(file)}`)
    }
    return Option.isSome(host.uid) && (info.value.mode & 0o077) !== 0
      ? fault("capability", "too broad", `${file} is open to other users`, `chmod 600 ${quoted(file)}`)
      : fault("capability", "not usable", `${file} is no capability`, remove)
  })

  const ofParent = Effect.gen(function*() {
    const address = parent()
    if (!isSet() || Result.isFailure(address)) return []
    const { socketPath } = address.success
    const found = yield* Effect.result(capability.lookup(socketPath))
    if (Result.isSuccess(found)) return [ok("capability", `${socketPath} speaks protocol ${found.success.protocol}`)]
    // What is there and refused is told with the other files.
    return found.failure.reason._tag === "CapabilityNotFound"
      ? [
        fault(
          "capability",
          "missing",
          `no capability file names ${socketPath}: it has ended, or is another user's`,
          unset
        )
      ]
      : []
  })

  const ofAll = Effect.gen(function*() {
    if (Option.isNone(yield* files.inspect(capabilities))) return [ok("capability", "none is published")]
    yield* files.checkPrivate(capabilities)
    const entries = yield* Effect.mapError(fs.readDirectory(capabilities), failed("list", capabilities))
    const trusted = new Set((yield* capability.list).map(({ socketPath }) => fileName(socketPath)))
    const named = entries.filter((entry) => entry.endsWith(".json"))
    const refused = yield* Effect.forEach(
      named.filter((entry) => !trusted.has(entry)),
      (entry) => inspectFile(path.join(capabilities, entry))
    )
    const faults = refused.filter((finding) => finding !== undefined)
    return [ok("capability", `${trusted.size} can be trusted`), ...faults]
  }).pipe(Effect.catch((error) =>
    Effect.succeed([
      error._tag === "CapabilityError"
        ? fault("capability", "not usable", error.message, permit(capabilities))
        : directoryFault("capability", capabilities, uid, error)
    ])
  ))

  const roundTrip = Effect.gen(function*() {
    const messaging = yield* Messaging
    const { socketPath } = Option.getOrThrow(messaging.address)
    const taken = yield* messaging.ping({ socketPath })
    return [ok("round trip", `${millisecondsOf(taken)} ms through an endpoint of its own`)]
  }).pipe(
    Effect.provide(Layers.layer({ name: "doctor" })),
    Effect.catch((error) => {
      const reason = "reason" in error ? error.reason : error
      const place = "path" in reason ? reason.path : capabilities
      if (reason._tag === "DirectoryNotPrivate" || reason._tag === "FileFailed") {
        return Effect.succeed([directoryFault("round trip", place, uid, reason)])
      }
      if ("code" in reason && isDenied(reason.code)) {
        return Effect.succeed([denied("round trip", place, reason.code, permit(place))])
      }
      const problem = reason._tag === "PathTooLong" ? "too long" : "not usable"
      return Effect.succeed([fault("round trip", problem, error.message, permit(place))])
    })
  )

  const staleEndpoints = Effect.gen(function*() {
    const records = yield* Effect.orElseSucceed(capability.list, () => [])
    const bases = isPipes ? [] : Address.bases({ ...host, tmpdir }, namespace, runtimeDirectory)
    const sockets = yield* Effect.forEach(bases, transport.scan)
    const all = new Set([...records.map(({ socketPath }) => socketPath), ...sockets.flat()])
    const dead = yield* Effect.filter(
      all,
      (socketPath) => Effect.map(transport.probe(socketPath), (liveness) => liveness === "dead"),
      { concurrency: 16 }
    )
    return dead.length === 0
      ? [ok("stale endpoints", "none")]
      : dead.map((socketPath) =>
        fault("stale endpoints", "stale", `${socketPath} was left by a process that died`, "effect-messaging sweep")
      )
  })

  const peers = Effect.gen(function*() {
    const messaging = yield* Messaging
    const records = yield* Effect.orElseSucceed(capability.list, () => [])
    const live = yield* Effect.filter(
      records,
      ({ socketPath }) => Effect.map(transport.probe(socketPath), (liveness) => liveness !== "dead"),
      { concurrency: 16 }
    )
    const findings = yield* Effect.forEach(
      live,
      (record) =>
        Effect.match(messaging.ping(record, { timeout: limits.probeTimeout }), {
          onSuccess: (taken) => ok("peers", `${record.socketPath} answers in ${millisecondsOf(taken)} ms`),
          onFailure: ({ reason }) =>
            reason._tag === "AccessDenied"
              ? denied("peers", reason.path, reason.code, restart(Option.getOrUndefined(record.pid)))
              : fault("peers", "refused", reason.message, restart(Option.getOrUndefined(record.pid)))
        }),
      { concurrency: 16 }
    )
    return findings.length === 0 ? [ok("peers", "nobody listens")] : findings
  }).pipe(Effect.provide(Layers.layerClient()), Effect.orDie)

  return [
    node,
    directories,
    pathLength,
    variable,
    Effect.map(Effect.all([ofParent, ofAll]), (findings) => findings.flat()),
    roundTrip,
    staleEndpoints,
    peers
  ] as ReadonlyArray<Effect.Effect<ReadonlyArray<Finding>>>
})

/** Ends the endpoint that does not answer; whoever runs it starts it again. */
const restart = (pid: number | undefined) => pid === undefined ? "effect-messaging peers" : `kill ${pid}`

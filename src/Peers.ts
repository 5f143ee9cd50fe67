/**
 * Who is there: the endpoints of this user and namespace, found by their capability files and by asking their sockets.
 *
 * A pid proves nothing, since the system gives it to the next process; only a connect tells the living from the dead.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Address from "./Address.ts"
import { Capability, type CapabilityError, type CapabilityRecord } from "./Capability.ts"
import { Host } from "./Host.ts"
import { Namespace } from "./Namespace.ts"
import { Transport } from "./Transport.ts"

/** A live endpoint, as it describes itself. */
export interface Peer {
  readonly socketPath: string
  readonly protocol: number
  readonly pid: Option.Option<number>
  readonly name: Option.Option<string>
  readonly cwd: Option.Option<string>
  readonly startedAt: Option.Option<DateTime.Utc>
}

export class Peers extends Context.Service<Peers, {
  /** The endpoints that answer a connect now, this process's own among them, by socket path. */
  readonly list: Effect.Effect<ReadonlyArray<Peer>, CapabilityError>
  /**
   * Removes what dead endpoints of one's own have left: socket, directory and capability file. Answers with their
   * socket paths. What answers, or neither answers nor refuses, stays.
   */
  readonly sweep: Effect.Effect<ReadonlyArray<string>, CapabilityError>
}>()("effect-messaging/Peers") {}

/** Connects tried at the same time. */
const concurrency = 16

const describe = ({ cwd, name, pid, protocol, socketPath, startedAt }: CapabilityRecord): Peer => ({
  socketPath,
  protocol,
  pid,
  name,
  cwd,
  startedAt
})

export const make: Effect.Effect<Peers["Service"], never, Capability | Transport> = Effect.gen(function*() {
  const capability = yield* Capability
  const transport = yield* Transport
  const host = yield* Host
  const { namespace } = yield* Namespace

  const probed = Effect.flatMap(capability.list, (records) =>
    Effect.forEach(
      records,
      (record) => Effect.map(transport.probe(record.socketPath), (liveness) => ({ record, liveness })),
      { concurrency }
    ))

  const sweepDirectories = Effect.gen(function*() {
    const { runtimeDirectory, tmpdir } = yield* transport.directories
    const found = yield* Effect.forEach(Address.bases({ ...host, tmpdir }, namespace, runtimeDirectory), transport.scan)
    const removed: Array<string> = []
    for (const socketPath of new Set(found.flat())) {
      if ((yield* transport.discard(socketPath)) === "removed") removed.push(socketPath)
    }
    return removed
  })

  return Peers.of({
    list: Effect.map(
      probed,
      (all) => all.filter(({ liveness }) => liveness === "live").map(({ record }) => describe(record))
    ),
    sweep: Effect.gen(function*() {
      const swept = new Set<string>()
      for (const { liveness, record } of yield* probed) {
        if (liveness !== "dead") continue
        if ((yield* transport.discard(record.socketPath)) === "kept") continue
        if (yield* capability.remove(record)) swept.add(record.socketPath)
      }
      // What was killed before it had a capability file.
      for (const socketPath of yield* sweepDirectories) swept.add(socketPath)
      return [...swept].sort()
    })
  })
})

export const layer: Layer.Layer<Peers, never, Capability | Transport> = Layer.effect(Peers, make)

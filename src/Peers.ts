/**
 * Who is there: the endpoints of this user and namespace, found by their capability files and by asking their sockets.
 *
 * A pid proves nothing, since the system gives it to the next process; only an answer tells the living from the dead. An
 * endpoint of protocol 2 has to prove that it knows its token, one of protocol 1 only to accept a connection.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import * as Address from "./Address.ts"
import { Capability, type CapabilityError, type CapabilityRecord } from "./Capability.ts"
import * as Framing from "./Framing.ts"
import { Host } from "./Host.ts"
import { greet, Reader } from "./internal/greeting.ts"
import { Limits } from "./Limits.ts"
import { protocol2 } from "./Message.ts"
import { NameNotUnique } from "./MessagingError.ts"
import { Namespace } from "./Namespace.ts"
import { Transport } from "./Transport.ts"

/** A live endpoint, as it describes itself. */
export interface Peer {
  /** Where it listens. */
  readonly socketPath: string
  /** The highest version of the protocol that it speaks. */
  readonly protocol: number
  /** Its process, by its own word; none where it does not say, as below. */
  readonly pid: Option.Option<number>
  /** What it calls itself. Several may have the same name. */
  readonly name: Option.Option<string>
  /** Its working directory when it started. */
  readonly cwd: Option.Option<string>
  /** When it started, by its own clock. */
  readonly startedAt: Option.Option<DateTime.Utc>
}

/** An endpoint has come or gone. One that restarts goes and comes, however quickly. */
export type Change =
  | { readonly _tag: "Arrived"; readonly peer: Peer }
  | { readonly _tag: "Departed"; readonly peer: Peer }

/** The endpoints of this user and namespace. */
export class Peers extends Context.Service<Peers, {
  /**
   * The endpoints that answer within `probeTimeout`, this process's own among them, by socket path. Fails with
   * `CapabilityError`.
   */
  readonly list: Effect.Effect<ReadonlyArray<Peer>, CapabilityError>
  /**
   * First an arrival for each endpoint there is, then arrivals and departures as they happen: told by the capability
   * directory, and every `watchInterval` by asking again for those that died without a word. Fails with `CapabilityError`.
   */
  readonly changes: Stream.Stream<Change, CapabilityError>
  /**
   * The live endpoint with this name. Fails with `NameNotUnique` unless exactly one has it, and with `CapabilityError`.
   */
  readonly named: (name: string) => Effect.Effect<Peer, NameNotUnique | CapabilityError>
  /**
   * Removes what dead endpoints of one's own have left: socket, directory and capability file. Answers with their
   * socket paths. What answers, or neither answers nor refuses, stays. Fails with `CapabilityError`.
   */
  readonly sweep: Effect.Effect<ReadonlyArray<string>, CapabilityError>
}>()("effect-messaging/Peers") {}

/** Peers asked at the same time. */
const concurrency = 32

const describe = ({ cwd, name, pid, protocol, socketPath, startedAt }: CapabilityRecord): Peer => ({
  socketPath,
  protocol,
  pid,
  name,
  cwd,
  startedAt
})

/** Peers by the capabilities and the transport in force. Reads `probeTimeout` and `watchInterval`. */
export const make: Effect.Effect<Peers["Service"], never, Capability | Transport> = Effect.gen(function*() {
  const capability = yield* Capability
  const transport = yield* Transport
  const host = yield* Host
  const limits = yield* Limits
  const { namespace } = yield* Namespace

  /** Has the endpoint prove itself, as a client would, and hangs up. */
  const proves = (record: CapabilityRecord) =>
    Effect.gen(function*() {
      const socket = yield* transport.dial(record.socketPath)
      const pull = yield* Socket.readerBytes(socket)
      const writer = yield* socket.writer
      yield* greet(record, undefined, new Reader(pull, Framing.makeDecoder(limits)).read, writer.write)
    }).pipe(Effect.scoped, Effect.timeout(limits.probeTimeout), Effect.isSuccess)

  const isLive = (record: CapabilityRecord) =>
    record.protocol >= protocol2
      ? proves(record)
      : Effect.map(transport.probe(record.socketPath), (liveness) => liveness === "live")

  const live = Effect.flatMap(capability.list, (records) => Effect.filter(records, isLive, { concurrency }))

  const list = Effect.map(live, (records) => records.map(describe))

  const changes = Stream.unwrap(Effect.sync(() => {
    // What the last look found, by token: an endpoint that restarts has a new one. Only the stream's fiber touches it.
    let known = new Map<string, Peer>()
    const look = Effect.map(live, (records): ReadonlyArray<Change> => {
      const found = new Map(records.map((record) => [Redacted.value(record.token), describe(record)]))
      const departed = [...known].filter(([token]) => !found.has(token))
      const arrived = [...found].filter(([token]) => !known.has(token))
      known = found
      return [
        ...departed.map(([, peer]) => ({ _tag: "Departed", peer }) as const),
        ...arrived.map(([, peer]) => ({ _tag: "Arrived", peer }) as const)
      ]
    })
    const ticks = Stream.fromSchedule(Schedule.spaced(limits.watchInterval))
    return Stream.concat(Stream.succeed(undefined), Stream.merge(capability.hints, ticks)).pipe(
      // One look for all the hints that came during the last one.
      Stream.buffer({ capacity: 1, strategy: "sliding" }),
      Stream.mapEffect(() => look),
      Stream.flattenIterable
    )
  }))

  const named = Effect.fnUntraced(function*(name: string) {
    const peers = yield* list
    const [peer, ...others] = peers.filter((peer) => Option.contains(peer.name, name))
    if (peer === undefined) {
      const candidates = peers.flatMap((peer) => Option.toArray(peer.name))
      return yield* new NameNotUnique({ name, problem: "unknown", candidates })
    }
    if (others.length > 0) {
      const candidates = [peer, ...others].map(Address.format)
      return yield* new NameNotUnique({ name, problem: "ambiguous", candidates })
    }
    return peer
  })

  const sweepDirectories = Effect.gen(function*() {
    const { runtimeDirectory, tmpdir } = yield* transport.directories
    const found = yield* Effect.forEach(
      Address.bases({ ...host, tmpdir }, namespace, runtimeDirectory),
      transport.scan
    )
    const removed: Array<string> = []
    for (const socketPath of new Set(found.flat())) {
      if ((yield* transport.discard(socketPath)) === "removed") removed.push(socketPath)
    }
    return removed
  })

  const sweep = Effect.gen(function*() {
    const records = yield* capability.list
    const dead = yield* Effect.filter(
      records,
      (record) => Effect.map(transport.probe(record.socketPath), (liveness) => liveness === "dead"),
      { concurrency }
    )
    const swept = new Set<string>()
    for (const record of dead) {
      if ((yield* transport.discard(record.socketPath)) === "kept") continue
      if (yield* capability.remove(record)) swept.add(record.socketPath)
    }
    // What was killed before it had a capability file.
    yield* capability.sweep
    for (const socketPath of yield* sweepDirectories) swept.add(socketPath)
    return [...swept].sort()
  })

  return Peers.of({ list, changes, named, sweep })
})

/** As `make`. */
export const layer: Layer.Layer<Peers, never, Capability | Transport> = Layer.effect(Peers, make)

/**
 * The messages that have arrived and not been taken, in order, bounded by entries and by wire bytes.
 *
 * Every change happens in one synchronous step, so no fiber ever sees an entry counted twice or not at all, also when
 * a reader is interrupted. The inbox lives in memory: entries not taken when the process ends are lost.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { encodeFrame, type Frame, type FramingError, makeDecoder } from "./Framing.ts"
import { Limits, type Values } from "./Limits.ts"
import { decodeResult, type Message, withoutToken } from "./Message.ts"

/** Who sent a message. */
export interface Sender {
  /** The socket path the sender states; undefined when it states none. */
  readonly address: string | undefined
  /** Whether the sender proved that the address is its own. Protocol 1 cannot prove it. */
  readonly verified: boolean
}

/** A message accepted by the inbox. */
export interface Entry {
  /** `uds-<n>`, counted from 1 in order of arrival; the id the sender was told. */
  readonly id: string
  /** Without the token it travelled with. */
  readonly message: Message
  readonly receivedAt: DateTime.Utc
  readonly sender: Sender
  /** What the message counts against `maxInboxBytes`: its bytes on the wire. */
  readonly bytes: number
  /** `waiting` until a reader takes the entry. */
  readonly status: "waiting" | "taken"
}

/** The inbox is at a limit and the message was not stored. Taking an entry makes room. */
export class InboxFull extends Schema.TaggedError<InboxFull>()("InboxFull", {
  limit: Schema.Literals(["maxInboxEntries", "maxInboxBytes"]),
  value: Schema.Int
}) {
  override get message() {
    return `inbox full: ${this.limit} is ${this.value}`
  }
}

export interface Received {
  readonly message: Message
  readonly sender: Sender
  readonly bytes: number
}

export interface Size {
  readonly entries: number
  readonly bytes: number
}

export class Inbox extends Context.Service<Inbox, {
  /**
   * Stores a message of this process. Fails with `InboxFull`, or with `FramingError` where the message could not have
   * arrived over a socket either.
   */
  readonly offer: (message: Message) => Effect.Effect<Entry, InboxFull | FramingError>
  /** Stores what a connection has received, in one synchronous step. `now` is in Unix milliseconds. */
  readonly offerUnsafe: (received: Received, now: number) => Result.Result<Entry, InboxFull>
  /** The oldest entry; waits for one. An interrupted wait takes nothing. */
  readonly take: Effect.Effect<Entry>
  /** All entries, oldest first; never waits. */
  readonly drain: Effect.Effect<ReadonlyArray<Entry>>
  /** Takes entries one at a time: what the consumer has not asked for still counts against the limits. */
  readonly stream: Stream.Stream<Entry>
  /**
   * Entries as they arrive, from subscription on, without taking them. A subscriber that falls more than
   * `maxInboxEntries` behind misses the oldest.
   */
  readonly arrivals: Stream.Stream<Entry>
  readonly size: Effect.Effect<Size>
}>()("effect-messaging/Inbox") {}

/** The mutable part of an entry; only `make` below writes to it. */
class StoredEntry implements Entry {
  status: "waiting" | "taken" = "waiting"
  readonly id: string
  readonly message: Message
  readonly sender: Sender
  readonly bytes: number
  private readonly receivedAtMillis: number

  constructor(id: string, received: Received, receivedAtMillis: number) {
    this.id = id
    this.message = received.message
    this.sender = received.sender
    this.bytes = received.bytes
    this.receivedAtMillis = receivedAtMillis
  }

  get receivedAt() {
    return DateTime.makeUnsafe(this.receivedAtMillis)
  }
}

/** The message as it would be had it come over a socket: without unknown keys, or any that an application must not see. */
const asReceived = (frame: string, limits: Values) =>
  Effect.gen(function*() {
    const frames: Array<Frame> = []
    const problem = makeDecoder(limits).push(Buffer.from(frame), frames)
    const [first] = frames
    const decoded = first === undefined ? undefined : decodeResult(first.value)
    if (first === undefined || decoded === undefined || Result.isFailure(decoded)) {
      // `encodeFrame` has checked the same.
      return yield* Effect.die(problem ?? "a frame of our own is not a message")
    }
    return { message: withoutToken(decoded.success), bytes: first.bytes }
  })

const self: Sender = { address: undefined, verified: true }

/** The inbox lives as long as the scope; then `arrivals` end. Reads `maxInboxEntries` and `maxInboxBytes`. */
export const make: Effect.Effect<Inbox["Service"], never, Scope.Scope> = Effect.gen(function*() {
  const limits = yield* Limits
  // One queue for each subscriber of `arrivals`, there as long as it listens. A PubSub would do, but when published to
  // synchronously it drops the newest for a subscriber that is behind, where the oldest matter least.
  const subscribers = new Set<Queue.Queue<Entry, Cause.Done>>()
  yield* Effect.addFinalizer(() => Effect.forEach(subscribers, Queue.end, { discard: true }))
  const subscribe = Effect.acquireRelease(
    Effect.tap(
      Queue.sliding<Entry, Cause.Done>(limits.maxInboxEntries),
      (queue) => Effect.sync(() => subscribers.add(queue))
    ),
    (queue) => Effect.andThen(Effect.sync(() => subscribers.delete(queue)), Queue.shutdown(queue))
  )
  // Open exactly while an entry waits. Slots before `head` are empty and leave with the next compaction.
  const filled = Latch.makeUnsafe(false)
  let entries: Array<StoredEntry | undefined> = []
  let head = 0
  let bytes = 0
  let nextId = 1

  const offerUnsafe = (received: Received, now: number): Result.Result<Entry, InboxFull> => {
    if (entries.length - head >= limits.maxInboxEntries) {
      return Result.fail(new InboxFull({ limit: "maxInboxEntries", value: limits.maxInboxEntries }))
    }
    if (bytes + received.bytes > limits.maxInboxBytes) {
      return Result.fail(new InboxFull({ limit: "maxInboxBytes", value: limits.maxInboxBytes }))
    }
    const entry = new StoredEntry(`uds-${nextId++}`, received, now)
    entries.push(entry)
    bytes += entry.bytes
    for (const queue of subscribers) Queue.offerUnsafe(queue, entry)
    filled.openUnsafe()
    return Result.succeed(entry)
  }

  const takeUnsafe = (): StoredEntry | undefined => {
    const entry = entries[head]
    if (entry === undefined) return undefined
    entries[head++] = undefined
    bytes -= entry.bytes
    entry.status = "taken"
    if (head === entries.length) {
      entries = []
      head = 0
      filled.closeUnsafe()
    } else if (head >= 1024) {
      // One move of at most the waiting entries for every 1,024 taken.
      entries = entries.slice(head)
      head = 0
    }
    return entry
  }

  const take: Effect.Effect<Entry> = Effect.suspend(() => {
    const entry = takeUnsafe()
    return entry === undefined ? Effect.andThen(filled.await, take) : Effect.succeed(entry)
  })

  return Inbox.of({
    offer: Effect.fnUntraced(function*(message: Message) {
      const frame = yield* Effect.fromResult(encodeFrame(message, limits))
      const now = yield* Clock.currentTimeMillis
      return yield* Effect.fromResult(offerUnsafe({ ...yield* asReceived(frame, limits), sender: self }, now))
    }),
    offerUnsafe,
    take,
    drain: Effect.sync(() => {
      const taken: Array<Entry> = []
      for (let entry = takeUnsafe(); entry !== undefined; entry = takeUnsafe()) taken.push(entry)
      return taken
    }),
    stream: Stream.fromPull(Effect.succeed(Effect.map(take, (entry) => [entry] as const))),
    arrivals: Stream.unwrap(Effect.map(subscribe, Stream.fromQueue)),
    size: Effect.sync(() => ({ entries: entries.length - head, bytes }))
  })
})

export const layer: Layer.Layer<Inbox> = Layer.effect(Inbox, make)

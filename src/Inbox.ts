/**
 * The messages that have arrived and not been taken, in order, bounded by entries and by wire bytes.
 *
 * Every change happens in one synchronous step, so no fiber ever sees an entry counted twice or not at all, also when
 * a reader is interrupted. The inbox lives in memory: entries not taken when the process ends are lost.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
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
import * as consumer from "./internal/consumer.ts"
import * as metrics from "./internal/metrics.ts"
import { type Instant, StoredEntry } from "./internal/storedEntry.ts"
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
  /** When it arrived, by this process's clock. */
  readonly receivedAt: DateTime.Utc
  /** Whom it is from. */
  readonly sender: Sender
  /** What the message counts against `maxInboxBytes`: its bytes on the wire, at least 16 for each object and array. */
  readonly bytes: number
  /** The sender's span (W3C Trace Context), as it was sent; `consume` makes it the parent of its own. */
  readonly traceparent: string | undefined
  /**
   * `waiting` until a reader takes the entry; `processing` while a handler of `consume` has it, then `processed` or
   * `failed`.
   */
  readonly status: "waiting" | "taken" | "processing" | "processed" | "failed"
  /**
   * Answers a query, once: the first answer counts. Says whether this one was it and somebody waits for it; a message
   * that is not a query, and a sender of protocol 1, wait for none. Waits while the sender leaves `maxUnreadBytes` unread,
   * until it reads or `writeTimeout` has cut it off; a wait that is interrupted has answered nothing.
   */
  readonly reply: (data: string) => Effect.Effect<boolean>
}

/** What became of an entry, for the sender that asked to be told. */
export type Outcome =
  | { readonly _tag: "Handled" }
  | { readonly _tag: "Replied"; readonly data: string }
  /** `answered` tells of a query whether it had its answer before. */
  | { readonly _tag: "Failed"; readonly answered: boolean }

/** A handler's value is the answer to a query, if it is a string; for other messages it is ignored. */
export type Handler<E, R> = (entry: Entry) => Effect.Effect<string | void, E, R>

/** How `consume` handles entries. */
export interface ConsumeOptions {
  /**
   * Entries handled at the same time. Default 1, which keeps the order of arrival, and so the order per sender. One whose
   * handler has ended does not count while its answer waits for a peer to read, up to `maxTotalUnreadBytes` of answers.
   */
  readonly concurrency?: number | undefined
}

/** The inbox is at a limit and the message was not stored. Taking an entry makes room. */
export class InboxFull extends Schema.TaggedError<InboxFull>()("InboxFull", {
  /** The limit that is reached. */
  limit: Schema.Literals(["maxInboxEntries", "maxInboxBytes"]),
  /** Its value, in entries or bytes. */
  value: Schema.Int
}) {
  override get message() {
    return `inbox full: ${this.limit} is ${this.value}`
  }
}

/** Whoever passes on to the sender what becomes of an entry. */
export interface Observer {
  /** Called at most once for each kind of outcome. Says whether the sender waits for it; must not throw. */
  readonly onOutcome: (outcome: Outcome) => boolean
  /** What to wait for before an answer that the sender has no room for now; undefined where it has. */
  readonly room?: () => Effect.Effect<void> | undefined
}

/** What a connection has read, ready to be stored. */
export interface Received {
  /** The message as the application may see it. */
  readonly message: Message
  /** Whom it is from. */
  readonly sender: Sender
  /** The bytes that it counts against `maxInboxBytes`. */
  readonly bytes: number
  /** The sender's span, as it was sent. */
  readonly traceparent?: string | undefined
  /** Told what becomes of the entry. */
  readonly observer?: Observer | undefined
}

/** What an inbox holds. */
export interface Size {
  /** Entries that wait or are being handled, which `maxInboxEntries` limits. */
  readonly entries: number
  /** Their bytes, which `maxInboxBytes` limits. */
  readonly bytes: number
}

/** The messages that have arrived at this endpoint. */
export class Inbox extends Context.Service<Inbox, {
  /**
   * Stores a message of this process. Fails with `InboxFull`, or with `FramingError` where the message could not have
   * arrived over a socket either.
   */
  readonly offer: (message: Message) => Effect.Effect<Entry, InboxFull | FramingError>
  /** Stores what a connection has received, in one synchronous step, at `now` Unix milliseconds. Fails with `InboxFull`. */
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
  /**
   * Handles entries for ever. A handler's success marks the entry processed and tells the sender that asked for it; its
   * value answers a query. A failure or defect tells the sender `failed`, is logged, and does not stop the loop. When
   * the loop is interrupted, what it has in hand goes back to the front of the inbox. An entry counts against the limits
   * until it has been handled.
   */
  readonly consume: <E, R>(handler: Handler<E, R>, options?: ConsumeOptions) => Effect.Effect<never, never, R>
  /** How much it holds now. */
  readonly size: Effect.Effect<Size>
  /** As `size`, now. */
  readonly sizeUnsafe: () => Size
}>()("effect-messaging/Inbox") {}

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
    return { message: withoutToken(decoded.success), bytes: first.weight }
  })

const self: Sender = { address: undefined, verified: true }

/** The inbox lives as long as the scope; then `arrivals` end. Reads `maxInboxEntries` and `maxInboxBytes`. */
export const make: Effect.Effect<Inbox["Service"], never, Scope.Scope> = Effect.gen(function*() {
  const limits = yield* Limits
  const meter = yield* metrics.make
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
  // Entries in the hands of `consume`: they count, and do not wait.
  let processing = 0
  let nextId = 1
  let instant: Instant = { millis: Number.NaN }
  const sizeUnsafe = (): Size => ({ entries: entries.length - head + processing, bytes })
  const isFilled = () => entries.length > head
  const measure = () => meter.inbox(entries.length - head + processing, bytes)

  // Opening the latch runs whoever waits, there and then. Not inside the caller, which is a connection's frame loop: the
  // reply comes before the application.
  let isWaking = false
  const wakeReaders = () => {
    if (isWaking) return
    isWaking = true
    queueMicrotask(() => {
      isWaking = false
      if (!isFilled()) return
      filled.openUnsafe()
      for (const wake of source.consumers) wake()
    })
  }

  const offerUnsafe = (received: Received, now: number): Result.Result<Entry, InboxFull> => {
    if (entries.length - head + processing >= limits.maxInboxEntries) {
      return Result.fail(new InboxFull({ limit: "maxInboxEntries", value: limits.maxInboxEntries }))
    }
    if (bytes + received.bytes > limits.maxInboxBytes) {
      return Result.fail(new InboxFull({ limit: "maxInboxBytes", value: limits.maxInboxBytes }))
    }
    if (instant.millis !== now) instant = { millis: now }
    const entry = new StoredEntry(nextId++, received, instant)
    entries.push(entry)
    bytes += entry.bytes
    for (const queue of subscribers) Queue.offerUnsafe(queue, entry)
    measure()
    wakeReaders()
    return Result.succeed(entry)
  }

  /** Takes the oldest entry out of the line; it still counts. */
  const shiftUnsafe = (): StoredEntry | undefined => {
    const entry = entries[head]
    if (entry === undefined) return undefined
    entries[head++] = undefined
    if (head === entries.length) {
      entries = []
      head = 0
      filled.closeUnsafe()
    } else if (head >= 1024 && head * 2 >= entries.length) {
      // At most one move of an entry for each that is taken, however many wait.
      entries = entries.slice(head)
      head = 0
    }
    return entry
  }

  const takeUnsafe = (): StoredEntry | undefined => {
    const entry = shiftUnsafe()
    if (entry === undefined) return undefined
    bytes -= entry.bytes
    entry.status = "taken"
    measure()
    return entry
  }

  const waitFor = <A>(next: () => A | undefined): Effect.Effect<A> =>
    Effect.suspend(() => {
      const found = next()
      return found === undefined ? Effect.andThen(filled.await, waitFor(next)) : Effect.succeed(found)
    })
  const take: Effect.Effect<Entry> = waitFor(takeUnsafe)

  /** Hands the oldest entry to a handler, which must end with `finish`. */
  const begin = () => {
    const entry = shiftUnsafe()
    if (entry === undefined) return undefined
    processing++
    entry.status = "processing"
    return entry
  }

  const finish = (entry: StoredEntry, succeeded: boolean) => {
    processing--
    bytes -= entry.bytes
    measure()
    entry.settle(succeeded)
  }

  /** Back to its place among those that wait, which is at the front unless several come back. */
  const putBack = (entry: StoredEntry) => {
    processing--
    entry.status = "waiting"
    let at = head
    for (let next = entries[at]; next !== undefined && next.ordinal < entry.ordinal; next = entries[at]) at++
    entries.splice(at, 0, entry)
    wakeReaders()
  }

  const source: consumer.Source<StoredEntry> = {
    begin,
    finish,
    putBack,
    isFilled,
    maxWaitingCharacters: limits.maxTotalUnreadBytes,
    consumers: new Set()
  }

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
    consume: (handler, options) => consumer.consume(source, handler, options?.concurrency ?? 1),
    size: Effect.sync(sizeUnsafe),
    sizeUnsafe
  })
})

/** An inbox that lives as long as the layer. One layer value is built once in a program: two endpoints would share it. */
export const layer: Layer.Layer<Inbox> = Layer.effect(Inbox, make)

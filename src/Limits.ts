/**
 * Every number that bounds the library, in one reference with defaults. The defaults are those of PROTOCOL.md.
 *
 * Nothing in the library is unbounded: each buffer, queue, count and wait names its limit here. A layer built with a
 * wrong value fails with `InvalidLimit` before anything is touched.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** The limits: what each bounds, its unit and default, and what happens there. */
export interface Values {
  /** Bytes of one frame, its LF not counted. Default 65,536. One more: `frame too long`, the connection ends. */
  readonly maxFrameBytes: number
  /** Containers inside each other in one frame. Default 64. Deeper: `invalid frame`, the connection ends. */
  readonly maxJsonDepth: number
  /**
   * Objects and arrays in one frame. Default 4,096, one for each 16 bytes of the default frame: ordinary JSON has fewer,
   * and they keep a frame below a megabyte of memory. One more: `invalid frame`, the connection ends; `send` refuses it.
   */
  readonly maxJsonNodes: number
  /** Entries waiting in the inbox. Default 1,000. At the limit the next message is refused, `inbox full`. */
  readonly maxInboxEntries: number
  /**
   * Wire bytes waiting in the inbox, at least 16 for each object and array of a message. Default 2,097,152. Beyond it a
   * message is refused, `inbox full`.
   */
  readonly maxInboxBytes: number
  /** Peers that have proved themselves, at once. Default 128. One more is closed at once, without a reply. */
  readonly maxPeers: number
  /** Peers that have not proved themselves yet. Default 128. One more takes the place of the oldest of them. */
  readonly maxUnauthenticatedPeers: number
  /**
   * Reply bytes a peer may leave unread in this process. Default 1,048,576. At the limit no more is read from it, and
   * answers wait; at twice the limit a receipt ends the connection.
   */
  readonly maxUnreadBytes: number
  /**
   * The same for all peers together. Default 4,194,304. At the limit none may leave more than an equal share. Beyond as
   * many characters of answers that wait, `Inbox.consume` begins no more entries in their places.
   */
  readonly maxTotalUnreadBytes: number
  /** Bytes of a capability file. Default 4,096. A larger one is not read. */
  readonly maxCapabilityBytes: number
  /** Bytes kept of an error text that a peer sent. Default 256. The rest is cut. */
  readonly maxRemoteErrorBytes: number
  /**
   * Message ids remembered, to answer a repeated message with its first ack; also, where `maxInboxEntries` are not more,
   * messages of which one connection waits for a receipt or an answer. Default 10,000. The oldest go first.
   */
  readonly maxRememberedMessages: number
  /** Messages sent to one peer and not answered yet. Default 1,024. Beyond it `send` waits. */
  readonly maxInFlightMessages: number
  /** Bytes of them. Default 1,048,576, and at least `maxFrameBytes`. Beyond it `send` waits. */
  readonly maxInFlightBytes: number
  /** From accept to the first good frame. Default 2 seconds, absolute. Then `authentication timeout`. */
  readonly authenticationTimeout: Duration.Duration
  /**
   * Longest wait before a failed authentication is answered, reached when an endpoint sees many of them; the first four
   * are answered at once. Default 1 second, and never more than `authenticationTimeout`. Good ones never wait.
   */
  readonly maxRefusalDelay: Duration.Duration
  /** Without a byte from an authenticated peer. Default 30 seconds. Then `idle timeout`. */
  readonly idleTimeout: Duration.Duration
  /** From the first byte of a frame to its LF. Default 5 seconds. Then `frame timeout`. */
  readonly frameTimeout: Duration.Duration
  /** A peer not reading its replies. Default 5 seconds. Then it is cut off without a word. */
  readonly writeTimeout: Duration.Duration
  /** For a peer to take its last frame once the connection is ending. Default 1 second. Then it is cut off. */
  readonly closeTimeout: Duration.Duration
  /** One `send` or `ping`, from call to answer. Default 5 seconds, absolute. Then `Timeout`. */
  readonly sendTimeout: Duration.Duration
  /** A connection to a peer that nobody uses. Default 10 seconds, well below the peer's `idleTimeout`. Then closed. */
  readonly connectionTimeout: Duration.Duration
  /** Between pings on a connection that waits for answers. Default 10 seconds. */
  readonly keepAliveInterval: Duration.Duration
  /** How long a message id is remembered. Default 10 minutes. */
  readonly rememberTimeout: Duration.Duration
  /** What a full inbox tells a sender of protocol 2 to wait. Default 100 milliseconds. */
  readonly retryAfter: Duration.Duration
  /** Between looks for peers that died without a word, while `Peers.changes` runs. Default 2 seconds. */
  readonly watchInterval: Duration.Duration
  /**
   * Between looks whether the own socket and capability file are still there, should the watch of their directories miss
   * it. Default 10 seconds, growing to 32 times that while something else stands in their place.
   */
  readonly republishInterval: Duration.Duration
  /** One connect probe for liveness. Default 3 seconds. Then the peer counts as neither alive nor dead. */
  readonly probeTimeout: Duration.Duration
}

/** What can be set; durations in any form Effect accepts, such as `"2 seconds"` or milliseconds. */
export type Options = {
  readonly [K in keyof Values]?: (Values[K] extends number ? number : Duration.Input) | undefined
}

/** A limit was given a value that cannot work. Nothing has been started. */
export class InvalidLimit extends Schema.TaggedError<InvalidLimit>()("InvalidLimit", {
  /** The name of the limit. */
  field: Schema.String,
  /** The value as text. */
  value: Schema.String,
  /** What the value must be. */
  rule: Schema.String
}) {
  override get message() {
    return `limit ${this.field} is ${this.value}, but ${this.rule}`
  }
}

/** The limits that are in force where nothing else is said. */
export const defaults: Values = {
  maxFrameBytes: 65_536,
  maxJsonDepth: 64,
  maxJsonNodes: 4_096,
  maxInboxEntries: 1_000,
  maxInboxBytes: 2_097_152,
  maxPeers: 128,
  maxUnauthenticatedPeers: 128,
  maxUnreadBytes: 1_048_576,
  maxTotalUnreadBytes: 4_194_304,
  maxCapabilityBytes: 4_096,
  maxRemoteErrorBytes: 256,
  maxRememberedMessages: 10_000,
  maxInFlightMessages: 1_024,
  maxInFlightBytes: 1_048_576,
  authenticationTimeout: Duration.seconds(2),
  maxRefusalDelay: Duration.seconds(1),
  idleTimeout: Duration.seconds(30),
  frameTimeout: Duration.seconds(5),
  writeTimeout: Duration.seconds(5),
  closeTimeout: Duration.seconds(1),
  sendTimeout: Duration.seconds(5),
  connectionTimeout: Duration.seconds(10),
  keepAliveInterval: Duration.seconds(10),
  rememberTimeout: Duration.minutes(10),
  retryAfter: Duration.millis(100),
  watchInterval: Duration.seconds(2),
  republishInterval: Duration.seconds(10),
  probeTimeout: Duration.seconds(3)
}

/** The limits in force. Needs no layer; `layer` overrides some of them. */
export class Limits extends Context.Reference<Values>("effect-messaging/Limits", {
  defaultValue: () => defaults
}) {}

const invalid = (field: string, value: unknown, rule: string) =>
  new InvalidLimit({ field, value: Duration.isDuration(value) ? Duration.format(value) : String(value), rule })

const duration = (field: string, input: Duration.Input): Effect.Effect<Duration.Duration, InvalidLimit> =>
  Option.match(Duration.fromInput(input), {
    onNone: () => Effect.fail(invalid(field, input, "it must be a duration such as \"2 seconds\" or milliseconds")),
    onSome: (parsed) =>
      Duration.isFinite(parsed) && Duration.toMillis(parsed) > 0
        ? Effect.succeed(parsed)
        : Effect.fail(invalid(field, input, "it must be longer than zero and finite"))
  })

const count = (field: string, value: number, input: unknown): Effect.Effect<number, InvalidLimit> =>
  Number.isSafeInteger(value) && value >= 1
    ? Effect.succeed(value)
    : Effect.fail(invalid(field, input, "it must be a whole number of at least 1"))

/** Rules between two limits; an error names the first of the pair. */
const order: ReadonlyArray<readonly [larger: keyof Values, smaller: keyof Values]> = [
  ["idleTimeout", "authenticationTimeout"],
  ["maxInboxBytes", "maxFrameBytes"],
  ["maxInFlightBytes", "maxFrameBytes"]
]

const amount = (value: number | Duration.Duration) => Duration.isDuration(value) ? Duration.toMillis(value) : value
const show = (value: number | Duration.Duration) => Duration.isDuration(value) ? Duration.format(value) : String(value)

const isLimit = (field: string): field is keyof Values => Object.hasOwn(defaults, field)

/** The defaults with `options` over them. Fails with `InvalidLimit` on the first value that cannot work. */
export const make: (options?: Options) => Effect.Effect<Values, InvalidLimit> = Effect.fnUntraced(function*(
  options: Options = {}
) {
  const overrides: { -readonly [K in keyof Values]?: number | Duration.Duration } = {}
  for (const [field, input] of Object.entries(options)) {
    if (input === undefined) continue
    if (!isLimit(field)) return yield* invalid(field, input, `the limits are ${Object.keys(defaults).join(", ")}`)
    overrides[field] = Duration.isDuration(defaults[field])
      ? yield* duration(field, input)
      : yield* count(field, typeof input === "number" ? input : Number.NaN, input)
  }
  // `duration` and `count` above gave each field the kind its default has.
  const values = { ...defaults, ...overrides } as Values
  for (const [larger, smaller] of order) {
    if (amount(values[larger]) < amount(values[smaller])) {
      return yield* invalid(larger, values[larger], `it must be at least ${smaller}, which is ${show(values[smaller])}`)
    }
  }
  return values
})

/** Replaces the limits given. Fails with `InvalidLimit`. */
export const layer = (options?: Options): Layer.Layer<never, InvalidLimit> => Layer.effect(Limits, make(options))

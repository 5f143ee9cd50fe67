/**
 * The vocabulary of the wire: the message, its constructors, and the replies of a server, exactly as PROTOCOL.md
 * sections 2 and 3 spell them. Knows nothing of sockets, time or tokens beyond the name of their field.
 */
import * as Schema from "effect/Schema"
import { isFiniteJson } from "./internal/json.ts"

/** Messages an application sends, replies of a server, and the two halves of a ping. */
export const MessageType = Schema.Literals(["text", "notification", "query", "response", "error", "ping", "pong"])
export type MessageType = typeof MessageType.Type

/** JSON values by key. `authToken` is the protocol's own and never reaches an application. */
export const Meta = Schema.Record(Schema.String, Schema.Json)
export type Meta = typeof Meta.Type

/**
 * One message. Unknown top-level keys are dropped when decoding.
 *
 * `from` is the sender's socket path as the sender states it: a claim, see `Inbox.Sender`. `ts` is ISO-8601 text.
 */
export const Message = Schema.Struct({
  type: MessageType,
  data: Schema.optionalKey(Schema.String),
  from: Schema.optionalKey(Schema.String),
  ts: Schema.optionalKey(Schema.String),
  meta: Schema.optionalKey(Meta)
})
export interface Message extends Schema.Schema.Type<typeof Message> {}

/** What a message may carry besides its text. */
export interface Options {
  /** JSON values for the peer's program. Default none. */
  readonly meta?: Meta | undefined
  /** The sender's socket path. Set by `Messaging.send` to the own one when absent. */
  readonly from?: string | undefined
  /** When the message was made, as ISO-8601 text. Default none. */
  readonly ts?: string | undefined
}

/** An id is printable; only two of its characters need escaping, and hardly any id has them. */
const quoted = (id: string) => /["\\]/.test(id) ? JSON.stringify(id) : `"${id}"`

const make = (type: MessageType) => (data: string, options?: Options): Message => ({
  type,
  data,
  ...(options?.from === undefined ? {} : { from: options.from }),
  ...(options?.ts === undefined ? {} : { ts: options.ts }),
  ...(options?.meta === undefined ? {} : { meta: options.meta })
})

/** Something said to the peer. */
export const text = make("text")
/** Something the peer may want to know and need not act on. */
export const notification = make("notification")
/** Something the peer is asked. */
export const query = make("query")

/** Reads a message from a parsed value by the schema. Fails with Effect's `SchemaError`, which may quote the value. */
export const decodeResult = Schema.decodeUnknownResult(Message)

const types: ReadonlySet<unknown> = new Set(MessageType.literals)
const isOptionalString = (value: unknown) => value === undefined || typeof value === "string"

/**
 * As `decodeResult`, for a value that `JSON.parse` has made, not nested too deep, and that may be taken over: undefined
 * where it is no message.
 * Reading the schema costs 0.6 µs a message, a tenth of all that a message costs; a property test holds this to it.
 */
export const fromJson = (value: Readonly<Record<string, unknown>>): Message | undefined => {
  const { data, from, meta, ts, type } = value
  if (!types.has(type) || !isOptionalString(data) || !isOptionalString(from) || !isOptionalString(ts)) return undefined
  if (meta !== undefined) {
    if (typeof meta !== "object" || meta === null || Array.isArray(meta) || !isFiniteJson(meta)) return undefined
  }
  const message: { -readonly [K in keyof Message]: unknown } = { type }
  if (data !== undefined) message.data = data
  if (from !== undefined) message.from = from
  if (ts !== undefined) message.ts = ts
  if (meta !== undefined) message.meta = meta
  return message as Message
}

/** Every frame carries the token; answers come in the order of the requests. */
export const protocol1 = 1
/** Both ends prove themselves once; every request has an id that its answers name. */
export const protocol2 = 2

const messageId = /^[\x20-\x7e]{1,64}$/
/** Whether a value may be a `messageId`: 1 to 64 printable ASCII characters, unique among the sender's messages. */
export const isMessageId = (value: unknown): value is string => typeof value === "string" && messageId.test(value)

const ofProtocol1: ReadonlySet<string> = new Set(["authToken"])
const ofProtocol2: ReadonlySet<string> = new Set(["authToken", "messageId", "receipt", "traceparent"])

/** The message as the application may see it: without the token it travelled with. */
export const withoutToken = (message: Message): Message => withoutKeys(message, ofProtocol1)

/** The message as the application may see it: without what protocol 2 put into `meta`. */
export const withoutEnvelope = (message: Message): Message => withoutKeys(message, ofProtocol2)

const withoutKeys = (message: Message, keys: ReadonlySet<string>): Message => {
  const { data, from, meta, ts, type } = message
  if (meta === undefined) return message
  let kept: { [key: string]: Schema.Json } | undefined
  for (const key in meta) {
    const value = meta[key]
    if (value === undefined || keys.has(key)) continue
    kept ??= {}
    kept[key] = value
  }
  const rest: { -readonly [K in keyof Message]: Message[K] } = { type }
  if (data !== undefined) rest.data = data
  if (from !== undefined) rest.from = from
  if (ts !== undefined) rest.ts = ts
  if (kept !== undefined) rest.meta = kept
  return rest
}

/** The token a parsed frame carries as its own `meta.authToken`, if that is a string at all. */
export const tokenOf = (frame: Readonly<Record<string, unknown>>): string | undefined => {
  const meta = Object.hasOwn(frame, "meta") ? frame["meta"] : undefined
  if (typeof meta !== "object" || meta === null || !Object.hasOwn(meta, "authToken")) return undefined
  const token = (meta as Record<string, unknown>)["authToken"]
  return typeof token === "string" ? token : undefined
}

/** Error texts a server sends. A client may match on them, so they never change. */
export const errorTexts = {
  unauthorized: "unauthorized",
  invalidFrame: "invalid frame",
  authenticationTimeout: "authentication timeout",
  idleTimeout: "idle timeout",
  frameTimeout: "frame timeout",
  inboxFull: "inbox full",
  failed: "failed",
  frameTooLarge: (maxBytes: number, bytesSeen: number) => `NDJSON frame exceeded ${maxBytes} bytes (${bytesSeen})`
} as const

/**
 * The three replies of protocol 1, each a whole frame with its LF. Keys stand in the order of PROTOCOL.md 3.4, which
 * clients rely on; `ts` is ISO-8601 and needs no escaping.
 */
export const replies = {
  ack: (id: string, ts: string) => `{"type":"response","data":"ok","ts":"${ts}","meta":{"id":"${id}"}}\n`,
  pong: (from: string, ts: string) => `{"type":"pong","from":${JSON.stringify(from)},"ts":"${ts}"}\n`,
  error: (text: string, ts: string) => `{"type":"error","data":${JSON.stringify(text)},"ts":"${ts}"}\n`
} as const

/**
 * What a server says in protocol 2, each a whole frame with its LF. A reply to a request names its `messageId`; an
 * answer to a query names it as `inReplyTo`.
 */
export const replies2 = {
  challenge: (nonce: string, proof: string) => `{"type":"challenge","nonce":"${nonce}","proof":"${proof}"}\n`,
  ack: (id: string, messageId: string, duplicate: boolean, ts: string) =>
    `{"type":"response","data":"ok","ts":"${ts}","meta":{"id":"${id}","messageId":${quoted(messageId)}` +
    `${duplicate ? ",\"duplicate\":true" : ""}}}\n`,
  pong: (from: string, messageId: string, ts: string, inbox: { readonly entries: number; readonly bytes: number }) =>
    `{"type":"pong","from":${JSON.stringify(from)},"ts":"${ts}","meta":{"messageId":${quoted(messageId)},` +
    `"inbox":{"entries":${inbox.entries},"bytes":${inbox.bytes}}}}\n`,
  full: (messageId: string, retryAfterMillis: number, ts: string) =>
    `{"type":"error","data":"${errorTexts.inboxFull}","ts":"${ts}","meta":{"messageId":${quoted(messageId)},` +
    `"retryAfter":${retryAfterMillis}}}\n`,
  handled: (messageId: string, ts: string) =>
    `{"type":"response","data":"handled","ts":"${ts}","meta":{"messageId":${quoted(messageId)}}}\n`,
  failed: (messageId: string, ts: string) =>
    `{"type":"error","data":"${errorTexts.failed}","ts":"${ts}","meta":{"messageId":${quoted(messageId)}}}\n`,
  answer: (data: string, inReplyTo: string, ts: string) =>
    `{"type":"response","data":${JSON.stringify(data)},"ts":"${ts}","meta":{"inReplyTo":${quoted(inReplyTo)}}}\n`,
  noAnswer: (inReplyTo: string, ts: string) =>
    `{"type":"error","data":"${errorTexts.failed}","ts":"${ts}","meta":{"inReplyTo":${quoted(inReplyTo)}}}\n`
} as const

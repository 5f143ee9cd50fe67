/**
 * A capability as data: what it tells, the form it has in a file (PROTOCOL.md section 5.3), and why one is not found, not
 * used or not written. Touches no file.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as crypto from "node:crypto"
import { protocol1, protocol2 } from "../Message.ts"
import { FileFailed } from "./fileFailed.ts"
import { DirectoryNotPrivate } from "./privateFiles.ts"

/** What an endpoint tells about itself, and the token that opens it. */
export interface CapabilityRecord {
  /** Where the endpoint listens. */
  readonly socketPath: string
  /** 64 hex digits, new at each start. Whoever has it can use the endpoint. */
  readonly token: Redacted.Redacted<string>
  /** The highest version of the protocol that the endpoint speaks; 1 when the file does not say. */
  readonly protocol: number
  /** The process that published it. It proves nothing: the system gives the number to the next process. */
  readonly pid: Option.Option<number>
  /** When it was published, by the publisher's clock. */
  readonly startedAt: Option.Option<DateTime.Utc>
  /** What the endpoint calls itself. Several may have the same. */
  readonly name: Option.Option<string>
  /** The publisher's working directory. */
  readonly cwd: Option.Option<string>
}

/** No capability file names the socket path: nothing was published there, or it has ended. */
export class CapabilityNotFound extends Schema.TaggedError<CapabilityNotFound>()("CapabilityNotFound", {
  /** The path that was looked up. */
  socketPath: Schema.String
}) {
  override get message() {
    return `no capability for ${this.socketPath}`
  }
}

/** A capability file is not to be trusted, and was not used. */
export class CapabilityRefused extends Schema.TaggedError<CapabilityRefused>()("CapabilityRefused", {
  /** The capability file. */
  path: Schema.String,
  /** What it is, or is open to, that it must not be. */
  problem: Schema.Literals([
    "a link",
    "not a regular file",
    "foreign owner",
    "open to others",
    "too large",
    "not a capability",
    "for another socket path"
  ])
}) {
  override get message() {
    return `capability file ${this.path} is refused (${this.problem}): remove it, and restart the endpoint it names`
  }
}

/** The endpoint's description does not fit a capability file. Nothing was written. */
export class CapabilityTooLarge extends Schema.TaggedError<CapabilityTooLarge>()("CapabilityTooLarge", {
  /** The bytes that the file would have. */
  bytes: Schema.Int,
  /** The limit `maxCapabilityBytes`, in bytes. */
  maxBytes: Schema.Int
}) {
  override get message() {
    return `a capability file of ${this.bytes} bytes exceeds the limit of ${this.maxBytes}: choose a shorter name`
  }
}

/** Why a capability could not be published, found, listed or removed. */
export class CapabilityError extends Schema.TaggedError<CapabilityError>()("CapabilityError", {
  /** What happened, and to which file. */
  reason: Schema.Union([CapabilityNotFound, CapabilityRefused, CapabilityTooLarge, DirectoryNotPrivate, FileFailed])
}) {
  override get message() {
    return this.reason.message
  }
}

const Token = Schema.String.pipe(Schema.check(Schema.isPattern(/^[0-9a-f]{64}$/)))

/** The file as it stands on disk, in this order. Unknown keys are ignored, so that later versions can add some. */
const CapabilityFile = Schema.fromJsonString(Schema.Struct({
  socketPath: Schema.String,
  authToken: Schema.RedactedFromValue(Token),
  protocol: Schema.optionalKey(Schema.Int),
  pid: Schema.optionalKey(Schema.Int),
  startedAt: Schema.optionalKey(Schema.String),
  name: Schema.optionalKey(Schema.String),
  cwd: Schema.optionalKey(Schema.String)
}))
const decodeFile = Schema.decodeUnknownOption(CapabilityFile)
const encodeFile = Schema.encodeEffect(CapabilityFile)

/** Whether `given` is the token: in constant time, as bytes, whole. */
export const matches = (token: Redacted.Redacted<string>, given: string): boolean => {
  const expected = Buffer.from(Redacted.value(token))
  const bytes = Buffer.from(given)
  const sameLength = bytes.length === expected.length
  // A wrong length takes the same comparison, of the token with itself.
  return crypto.timingSafeEqual(expected, sameLength ? bytes : expected) && sameLength
}

/** `<sha256 hex of the socket path>.json`. */
export const fileName = (socketPath: string): string =>
  `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`

/** None when the text is not a capability; the decoder's own error may quote it, so it goes no further. */
export const decode = (text: string): Option.Option<CapabilityRecord> =>
  Option.map(decodeFile(text), ({ authToken, cwd, name, pid, protocol, socketPath, startedAt }) => ({
    socketPath,
    token: authToken,
    protocol: protocol ?? protocol1,
    pid: Option.fromNullishOr(pid),
    startedAt: Option.flatMap(Option.fromNullishOr(startedAt), DateTime.make),
    name: Option.fromNullishOr(name),
    cwd: Option.fromNullishOr(cwd)
  }))

/** The file's content, or the error that it would be refused by readers. */
export const encode = Effect.fnUntraced(function*(record: CapabilityRecord, maxBytes: number) {
  const text = yield* Effect.orDie(encodeFile({
    socketPath: record.socketPath,
    authToken: record.token,
    protocol: record.protocol,
    ...Option.match(record.pid, { onNone: () => ({}), onSome: (pid) => ({ pid }) }),
    ...Option.match(record.startedAt, {
      onNone: () => ({}),
      onSome: (at) => ({ startedAt: DateTime.formatIso(at) })
    }),
    ...Option.match(record.name, { onNone: () => ({}), onSome: (name) => ({ name }) }),
    ...Option.match(record.cwd, { onNone: () => ({}), onSome: (cwd) => ({ cwd }) })
  }))
  const bytes = Buffer.from(text)
  if (bytes.length <= maxBytes) return bytes
  return yield* new CapabilityTooLarge({ bytes: bytes.length, maxBytes })
})

/** Whether the text of a file holds the token of `record`. */
export const holds = ({ token }: CapabilityRecord) => (text: string): boolean =>
  Option.exists(decode(text), (found) => matches(token, Redacted.value(found.token)))

/** With a new token. */
export const newRecord = (
  socketPath: string,
  pid: number,
  cwd: string,
  name: string | undefined,
  now: number
): CapabilityRecord => ({
  socketPath,
  token: Redacted.make(crypto.randomBytes(32).toString("hex")),
  protocol: protocol2,
  pid: Option.some(pid),
  startedAt: DateTime.make(now),
  name: Option.fromNullishOr(name),
  cwd: cwd === "" ? Option.none<string>() : Option.some(cwd)
})

/**
 * Frames on a byte stream: one UTF-8 JSON object a line (PROTOCOL.md section 1). Bytes in, messages or one typed error
 * out; no socket, clock or log.
 *
 * Any split of the same bytes into chunks gives the same frames. Good frames before a bad one are delivered, nothing
 * after it is, and memory stays within `maxFrameBytes` however the bytes arrive. `effect/encoding/Ndjson` differs where
 * the protocol is exact (a lone CR, a line of spaces, a BOM, an unterminated tail), so the byte path is our own.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Buffer, isAscii, isUtf8 } from "node:buffer"
import { cleanse, explainNotJson, hasTooManyNodes } from "./internal/json.ts"
import * as ownMemory from "./internal/ownMemory.ts"
import { Limits, type Values } from "./Limits.ts"
import * as Message from "./Message.ts"

/** A frame is longer than `maxFrameBytes`, whether or not its end has arrived. The stream ends. */
export class FrameTooLarge extends Schema.TaggedError<FrameTooLarge>()("FrameTooLarge", {
  /** The limit `maxFrameBytes`, in bytes. */
  maxBytes: Schema.Int,
  /** The bytes of the frame that had arrived; the whole frame may be longer. */
  bytesSeen: Schema.Int
}) {
  override get message() {
    return `frame of ${this.bytesSeen} bytes or more exceeds the limit of ${this.maxBytes} bytes`
  }
}

/** A frame is not a message. Its bytes are not repeated here, since they may hold a token. The stream ends. */
export class InvalidFrame extends Schema.TaggedError<InvalidFrame>()("InvalidFrame", {
  /** Which rule the frame breaks; it reads on after "frame is". */
  problem: Schema.Literals([
    "not UTF-8",
    "not JSON",
    "not an object",
    "nested too deep",
    "of too many objects",
    "not a message"
  ])
}) {
  override get message() {
    return `frame is ${this.problem}`
  }
}

/** A value given to `encode` is not a message that JSON can hold. Nothing of it is sent. */
export class InvalidMessage extends Schema.TaggedError<InvalidMessage>()("InvalidMessage", {
  /** Where the message breaks which rule; it never repeats what the message holds. */
  problem: Schema.String
}) {
  override get message() {
    return `message cannot be sent: ${this.problem}`
  }
}

/** Why a stream of frames ended, or why a message could not become a frame. */
export class FramingError extends Schema.TaggedError<FramingError>()("FramingError", {
  /** What is wrong. */
  reason: Schema.Union([FrameTooLarge, InvalidFrame, InvalidMessage])
}) {
  override get message() {
    return this.reason.message
  }
}

/** One line that holds a JSON object, not yet checked against the message schema. */
export interface Frame {
  /** The parsed object, without the keys that name a prototype. */
  readonly value: Readonly<Record<string, unknown>>
  /** Bytes on the wire, LF not counted. */
  readonly bytes: number
  /** What it counts where frames are kept: its bytes, or 16 for each object and array if that is more. */
  readonly weight: number
}

/**
 * The state of one byte stream. It belongs to whoever feeds it; after an error it must not be fed again. `A` is what a
 * shortcut reads of lines that it knows.
 */
export interface Decoder<A = never> {
  /** Appends the frames that `chunk` completes to `out`. The chunk's memory may be kept while it holds half a frame. */
  readonly push: (chunk: Uint8Array, out: Array<Frame | A>) => FramingError | undefined
  /** The ordinal of the frame that has begun and not ended, if one has; it never repeats. */
  readonly partialFrame: () => number | undefined
}

/**
 * What is made of a line, which stands in `text` between `start` and `end`, in the place of its frame; nothing of what it
 * does not know.
 */
export type Shortcut<A> = (text: string, start: number, end: number) => A | undefined

const LF = 0x0a
const OPEN_BRACE = 0x7b
/** Bytes that are sooner copied than left in a chunk of up to 65,536. */
const smallPiece = 4_096
const blank = /^[ \t\r]*$/

const invalidFrame = (problem: InvalidFrame["problem"]) => new FramingError({ reason: new InvalidFrame({ problem }) })

/** The least a V8 object takes is several times this; in ordinary JSON an object has more than this many bytes. */
const bytesPerNode = 16

/** The limits of one frame. */
export type FrameLimits = Pick<Values, "maxFrameBytes" | "maxJsonDepth" | "maxJsonNodes">

const parse = <A>(
  line: string,
  bytes: number,
  limits: FrameLimits,
  out: Array<Frame | A>
): FramingError | undefined => {
  if (line.charCodeAt(0) !== OPEN_BRACE && blank.test(line)) return undefined
  if (hasTooManyNodes(line, limits.maxJsonNodes)) return invalidFrame("of too many objects")
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    // The parser's own error quotes the input, so it goes no further.
    return invalidFrame("not JSON")
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return invalidFrame("not an object")
  const nodes = cleanse(value, limits.maxJsonDepth)
  if (nodes === -1) return invalidFrame("nested too deep")
  out.push({ value: value as Record<string, unknown>, bytes, weight: Math.max(bytes, bytesPerNode * nodes) })
  return undefined
}

const nothing = Buffer.alloc(0)

/** A class and not closures, since each connection has one: they would take 900 bytes. */
class LineDecoder<A> implements Decoder<A> {
  readonly #limits: FrameLimits
  readonly #shortcut: Shortcut<A> | undefined
  // Half a frame: the first piece is kept where it lies, unless it is small; further pieces are gathered in a buffer of
  // our own, so that a peer sending single bytes costs one buffer and not thousands of chunks.
  #held: Buffer = nothing
  #heldBytes = 0
  #gathering = false
  #ordinal = 0

  constructor(limits: FrameLimits, shortcut: Shortcut<A> | undefined) {
    this.#limits = limits
    this.#shortcut = shortcut
  }

  partialFrame() {
    return this.#heldBytes > 0 ? this.#ordinal : undefined
  }

  push(chunk: Uint8Array, out: Array<Frame | A>): FramingError | undefined {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const last = view.lastIndexOf(LF)
    if (last === -1) return this.#hold(view)
    let start = 0
    if (this.#heldBytes > 0) {
      start = view.indexOf(LF) + 1
      const problem = this.#complete(view.subarray(0, start - 1), out)
      if (problem !== undefined) return problem
    }
    const problem = this.#lines(view.subarray(start, last), out)
    if (problem !== undefined) return problem
    return last + 1 < view.length ? this.#hold(view.subarray(last + 1)) : undefined
  }

  #tooLarge(bytesSeen: number) {
    return new FramingError({ reason: new FrameTooLarge({ maxBytes: this.#limits.maxFrameBytes, bytesSeen }) })
  }

  /** The line between `start` and `end`, of so many bytes. */
  #read(text: string, start: number, end: number, bytes: number, out: Array<Frame | A>): FramingError | undefined {
    const known = this.#shortcut?.(text, start, end)
    if (known === undefined) return parse(text.slice(start, end), bytes, this.#limits, out)
    out.push(known)
    return undefined
  }

  #readBytes(line: Buffer, out: Array<Frame | A>): FramingError | undefined {
    if (!isUtf8(line)) return invalidFrame("not UTF-8")
    const text = line.toString("utf8")
    return this.#read(text, 0, text.length, line.length, out)
  }

  /** Behind what is held; the caller has checked the length. */
  #append(piece: Buffer): void {
    const needed = this.#heldBytes + piece.length
    if (!this.#gathering || this.#held.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.min(this.#limits.maxFrameBytes, Math.max(65_536, 2 * needed)))
      this.#held.copy(grown, 0, 0, this.#heldBytes)
      this.#held = grown
      this.#gathering = true
    }
    piece.copy(this.#held, this.#heldBytes)
    this.#heldBytes = needed
  }

  #hold(piece: Buffer): FramingError | undefined {
    const needed = this.#heldBytes + piece.length
    if (needed > this.#limits.maxFrameBytes) return this.#tooLarge(needed)
    if (this.#heldBytes > 0) {
      this.#append(piece)
    } else {
      // A small piece would keep the whole chunk it lies in.
      this.#held = piece.length <= smallPiece ? ownMemory.copy(piece) : piece
      this.#heldBytes = piece.length
      this.#gathering = false
      this.#ordinal++
    }
    return undefined
  }

  #complete(head: Buffer, out: Array<Frame | A>): FramingError | undefined {
    const bytes = this.#heldBytes + head.length
    if (bytes > this.#limits.maxFrameBytes) return this.#tooLarge(bytes)
    let frame: Buffer
    if (this.#gathering) {
      this.#append(head)
      frame = this.#held.subarray(0, bytes)
    } else {
      frame = Buffer.concat([this.#held, head], bytes)
    }
    this.#held = nothing
    this.#heldBytes = 0
    return this.#readBytes(frame, out)
  }

  /** Whole lines that lie in one chunk: decoded to text in one go, then cut by the platform's own search. */
  #lines(region: Buffer, out: Array<Frame | A>): FramingError | undefined {
    const ascii = isAscii(region)
    if (!ascii && !isUtf8(region)) return this.#damagedLines(region, out)
    const text = ascii ? region.toString("latin1") : region.toString("utf8")
    for (let start = 0; start <= text.length;) {
      const found = text.indexOf("\n", start)
      const end = found === -1 ? text.length : found
      const bytes = ascii ? end - start : Buffer.byteLength(text.slice(start, end))
      if (bytes > this.#limits.maxFrameBytes) return this.#tooLarge(bytes)
      const problem = this.#read(text, start, end, bytes, out)
      if (problem !== undefined) return problem
      start = end + 1
    }
    return undefined
  }

  /** The slow way, line by line, so that good frames before the damaged one are still delivered. */
  #damagedLines(region: Buffer, out: Array<Frame | A>): FramingError | undefined {
    for (let start = 0; start <= region.length;) {
      const found = region.indexOf(LF, start)
      const line = region.subarray(start, found === -1 ? region.length : found)
      if (line.length > this.#limits.maxFrameBytes) return this.#tooLarge(line.length)
      const problem = this.#readBytes(line, out)
      if (problem !== undefined) return problem
      start += line.length + 1
    }
    return undefined
  }
}

/**
 * A decoder at the beginning of a byte stream. It holds at most `maxFrameBytes` of a frame that has not ended.
 *
 * `shortcut` is shown each line that is UTF-8 and not too long, before it is read as JSON. It must not make anything of a
 * line that is no frame.
 */
export const makeDecoder = <A = never>(
  limits: FrameLimits,
  shortcut?: Shortcut<A>
): Decoder<A> => new LineDecoder(limits, shortcut)

/** Maps each batch to an array; a failure is delivered after what came before it in the same batch. */
const mapBatches = <A, B, E, R, E2>(
  self: Stream.Stream<A, E, R>,
  step: (batch: Arr.NonEmptyReadonlyArray<A>, out: Array<B>) => E2 | undefined
): Stream.Stream<B, E | E2, R> =>
  Stream.transformPull(self, (upstream) =>
    Effect.sync(() => {
      let failure: E2 | undefined
      const pull: Pull.Pull<Arr.NonEmptyReadonlyArray<B>, E | E2> = Effect.suspend(() =>
        failure !== undefined ? Effect.fail(failure) : Effect.flatMap(upstream, (batch) => {
          const out: Array<B> = []
          failure = step(batch, out)
          return Arr.isArrayNonEmpty(out) ? Effect.succeed(out) : pull
        })
      )
      return pull
    }))

/** Bytes to frames through `decoder`, one batch of frames for each batch of chunks that completes any. */
export const frames =
  (decoder: Decoder) => <E, R>(bytes: Stream.Stream<Uint8Array, E, R>): Stream.Stream<Frame, E | FramingError, R> =>
    mapBatches(bytes, (chunks, out: Array<Frame>) => {
      for (const chunk of chunks) {
        const problem = decoder.push(chunk, out)
        if (problem !== undefined) return problem
      }
      return undefined
    })

/**
 * Bytes to messages, batch by batch. Lines of only spaces, tabs and CR are skipped; bytes after the last LF are
 * dropped; unknown keys and keys that name a prototype are dropped.
 *
 * Fails with `FramingError`, reason `FrameTooLarge` or `InvalidFrame`; an upstream failure passes unchanged. The limits
 * `maxFrameBytes`, `maxJsonDepth` and `maxJsonNodes` apply.
 */
export const decode = <E, R>(
  bytes: Stream.Stream<Uint8Array, E, R>
): Stream.Stream<Message.Message, E | FramingError, R> =>
  Stream.unwrap(
    Effect.map(Limits, (limits) =>
      mapBatches(frames(makeDecoder(limits))(bytes), (batch, out: Array<Message.Message>) => {
        for (const frame of batch) {
          const message = Message.fromJson(frame.value)
          if (message === undefined) {
            return invalidFrame("not a message")
          }
          out.push(message)
        }
        return undefined
      }))
  )

const isMessageType = Schema.is(Message.MessageType)
const isOptionalString = (value: unknown): value is string | undefined =>
  value === undefined || typeof value === "string"

/**
 * One message as one frame with its LF, or the reason why it cannot be one. Never throws, whatever `meta` holds. Fails
 * with `FramingError`, reason `FrameTooLarge` or `InvalidMessage`, which never repeats the message. `envelope` is the
 * protocol's own part of `meta` and wins over the message's; `from` is used where the message has none and is not a ping.
 */
export const encodeFrame = (
  message: Message.Message,
  limits: FrameLimits,
  envelope?: Message.Meta,
  from?: string
): Result.Result<string, FramingError> => {
  const invalid = (problem: string) => Result.fail(new FramingError({ reason: new InvalidMessage({ problem }) }))
  let frame: string
  try {
    const { data, from: stated, meta, ts, type } = message
    if (
      !isMessageType(type) || !isOptionalString(data) || !isOptionalString(stated) || !isOptionalString(ts) ||
      (meta !== undefined && (typeof meta !== "object" || meta === null || Array.isArray(meta)))
    ) return invalid("it does not fit the message schema (type, data, from, ts, meta)")
    if (meta !== undefined) {
      const problem = explainNotJson(meta, "meta", limits.maxJsonDepth - 1, { left: limits.maxJsonNodes - 1 })
      if (problem !== undefined) return invalid(problem)
    }
    const whole = envelope === undefined ? meta : meta === undefined ? envelope : { ...meta, ...envelope }
    frame = JSON.stringify({ type, data, from: type === "ping" ? stated : stated ?? from, ts, meta: whole })
  } catch {
    // A getter or a proxy of the caller's. What it threw may hold anything, so it is not repeated.
    return invalid("one of its properties throws when it is read")
  }
  const bytes = Buffer.byteLength(frame)
  return bytes > limits.maxFrameBytes
    ? Result.fail(
      new FramingError({ reason: new FrameTooLarge({ maxBytes: limits.maxFrameBytes, bytesSeen: bytes }) })
    )
    : Result.succeed(`${frame}\n`)
}

const encoder = new TextEncoder()

/**
 * Messages to bytes, one chunk for each batch. Fails with `FramingError`, reason `FrameTooLarge` or `InvalidMessage`,
 * after the messages before the bad one.
 */
export const encode = <E, R>(
  messages: Stream.Stream<Message.Message, E, R>
): Stream.Stream<Uint8Array, E | FramingError, R> =>
  Stream.unwrap(Effect.map(Limits, (limits) =>
    mapBatches(messages, (batch, out: Array<Uint8Array>) => {
      let text = ""
      let failure: FramingError | undefined
      for (const message of batch) {
        const frame = encodeFrame(message, limits)
        if (Result.isFailure(frame)) {
          failure = frame.failure
          break
        }
        text += frame.success
      }
      if (text !== "") out.push(encoder.encode(text))
      return failure
    })))

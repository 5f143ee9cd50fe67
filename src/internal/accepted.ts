/**
 * One accepted connection, over any `Socket`. Its fiber waits for bytes, judges what they are, and writes the replies
 * before it waits again; all within the turn in which they arrive, unless the peer does not read. What else happens to
 * it, a missed deadline or a reply of another fiber, is done beside that fiber.
 */
import type * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Socket from "effect/socket/Socket"
import type { Capability } from "../Capability.ts"
import * as Framing from "../Framing.ts"
import type { Inbox } from "../Inbox.ts"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import type * as deadlines from "./deadlines.ts"
import type { Deliveries } from "./deliveries.ts"
import type * as metrics from "./metrics.ts"
import { Outbox, type Outboxes, type Sink } from "./outbox.ts"
import type { Place } from "./peerPool.ts"
import * as protocol1 from "./protocol1.ts"
import * as protocol2 from "./protocol2.ts"
import { type Moment, Refused, type Session } from "./session.ts"
import type { Chunks, Wire } from "./wire.ts"

/** What all connections of an endpoint share. */
export interface Endpoint {
  readonly socketPath: string
  readonly token: protocol2.Options["token"]
  readonly protocol1: boolean
  readonly capability: Capability["Service"]
  readonly inbox: Inbox["Service"]
  readonly limits: Values
  readonly clock: Clock.Clock
  readonly deadlines: deadlines.Deadlines
  readonly deliveries: Deliveries
  readonly meter: metrics.Meter
  readonly outboxes: Outboxes
  readonly newNonce: () => string
  readonly isoAt: (millis: number) => string
  /** Counts and logs why a connection ends. */
  readonly note: (reason: metrics.Reason) => Effect.Effect<void>
  readonly delayOfRefusal: () => Duration.Duration
  /** Runs an effect beside the connections, as long as the endpoint lives. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

const expiredTexts = {
  authentication: Message.errorTexts.authenticationTimeout,
  idle: Message.errorTexts.idleTimeout,
  frame: Message.errorTexts.frameTimeout
} as const

const framingRefusal = ({ reason }: Framing.FramingError): Pick<Refused, "reason" | "text"> =>
  reason._tag === "FrameTooLarge"
    ? { reason: "too-large", text: Message.errorTexts.frameTooLarge(reason.maxBytes, reason.bytesSeen) }
    : { reason: "invalid", text: Message.errorTexts.invalidFrame }

/** Bytes judged at a time; their replies are written before more is. */
const maxPieceBytes = 16_384

type Judging = Effect.Effect<void, Refused | Framing.FramingError | Socket.SocketError>

const nothing: Chunks = []

export class Accepted implements protocol2.Link2, deadlines.Watched, Sink {
  readonly #endpoint: Endpoint
  readonly #wire: Wire
  readonly #place: Place
  readonly #decoder: Framing.Decoder
  readonly #watch: deadlines.Watch
  readonly #outbox: Outbox
  // Chosen by the first frame.
  #session: Session | undefined
  // With the last word, whoever says it. From then on nothing is judged, and nothing else is said.
  #isEnding = false
  // Arrived and not judged: bytes; the frames of a piece of them, and where the next one stands; what follows the last.
  // Only the connection's own fiber touches them.
  #unheard = nothing
  #frames: Array<Framing.Frame | undefined> = []
  #at = 0
  #problem: Framing.FramingError | undefined
  #now: Moment = { monotonicMillis: 0, millis: 0, iso: "" }
  // There while answers wait for the peer to read. Opened when it has read half of what it may leave, not at each write:
  // each time all that wait look whether there is room for them.
  #room: Latch.Latch | undefined

  constructor(endpoint: Endpoint, wire: Wire, place: Place) {
    this.#endpoint = endpoint
    this.#wire = wire
    this.#place = place
    this.#decoder = Framing.makeDecoder(endpoint.limits)
    this.#watch = endpoint.deadlines.watch(this)
    this.#outbox = new Outbox(this, endpoint.outboxes)
  }

  /** Serves the peer until the connection has ended, whoever ends it. */
  get run(): Effect.Effect<void> {
    return this.#wire.receive((chunks) => this.#hear(chunks)).pipe(
      // A failed read means that the peer has closed its side, or is gone: what it sent before has been judged. It may still
      // read what was said in this turn.
      Effect.catch((error) =>
        error._tag === "SocketError"
          ? Effect.sync(() => void this.#outbox.flush())
          : Effect.ignore(this.#refuse(error))
      ),
      Effect.onExit(() => {
        this.#end()
        return Effect.void
      })
    )
  }

  push(reply: string) {
    this.#outbox.push(reply)
  }

  pushLater(reply: string) {
    // What is dropped here is remembered: the sender gets it when it asks again over a connection that it reads.
    if (this.#isEnding) return
    // Answers wait at the limit, so that there is room for the receipts of a peer that reads.
    if (this.#outbox.isBlocked && this.#leavesTooMuch(2)) return this.#cutLate()
    this.#outbox.push(reply)
    this.#outbox.wake()
  }

  room() {
    // The socket takes more unless it is blocked, so what is to be written may be of any size.
    if (!this.#outbox.isBlocked || !this.#leavesTooMuch(1)) return undefined
    this.#room ??= Latch.makeUnsafe(false)
    return this.#room.await
  }

  isoNow() {
    return this.#endpoint.isoAt(this.#endpoint.clock.currentTimeMillisUnsafe())
  }

  admit() {
    const isAdmitted = this.#place.admit()
    if (isAdmitted) this.#watch.authenticated()
    return isAdmitted
  }

  get meter() {
    return this.#endpoint.meter
  }

  get fork() {
    return this.#endpoint.fork
  }

  write(text: string) {
    return this.#wire.write(text)
  }

  onBlocked() {
    this.#watch.writing()
  }

  onUnblocked() {
    this.#watch.written()
  }

  onWritten() {
    if (this.#room !== undefined && !this.#leavesTooMuch(1 / 2)) this.#makeRoom()
  }

  onExpired(kind: deadlines.Expired) {
    if (kind === "close") return this.#cut()
    // A peer that does not read would not read a last word either.
    if (kind === "write") return this.#cutLate()
    this.#isEnding = true
    this.#watch.closing()
    this.#endpoint.fork(
      Effect.andThen(this.#endpoint.note("timeout"), Effect.ignore(this.#sayLast(expiredTexts[kind])))
    )
  }

  /** Undefined when all of it has been judged, and answered. */
  #hear(chunks: Chunks): Judging | undefined {
    if (this.#isEnding) return undefined
    if (this.#session === undefined) this.#place.mark("heard")
    const { clock, isoAt } = this.#endpoint
    const millis = clock.currentTimeMillisUnsafe()
    this.#now = { monotonicMillis: this.#watch.active(), millis, iso: isoAt(millis) }
    this.#unheard = chunks
    return this.#judge()
  }

  /** Judges what has arrived, as far as there is nothing to wait for; then an effect does the rest. */
  #judge(): Judging | undefined {
    while (!this.#isEnding) {
      if (this.#leavesTooMuch(1)) {
        const flushing = this.#outbox.flush()
        if (flushing !== undefined) return this.#judgeAfter(flushing)
      }
      const frame = this.#frames[this.#at]
      if (frame !== undefined) {
        // Heavier than its bytes: a peer that does not read must not make those stay that have been judged.
        this.#frames[this.#at++] = undefined
        this.#session ??= this.#begin(frame)
        const verdict = this.#session.judge(frame, this.#now)
        if (verdict !== undefined) return this.#heed(verdict)
        continue
      }
      // The replies to this piece are written before the next is parsed.
      const flushing = this.#outbox.flush()
      if (flushing !== undefined) return this.#judgeAfter(flushing)
      if (this.#problem !== undefined) return Effect.fail(this.#problem)
      if (this.#unheard.length === 0) {
        this.#watch.frameBegun(this.#decoder.partialFrame())
        return undefined
      }
      this.#decodePiece()
    }
    return undefined
  }

  #judgeAfter(waiting: Effect.Effect<void, Socket.SocketError>): Judging {
    return Effect.flatMap(waiting, () => this.#judge() ?? Effect.void)
  }

  #heed(verdict: Refused | Effect.Effect<void>): Judging {
    return verdict instanceof Refused
      ? Effect.andThen(this.#outbox.flush() ?? Effect.void, verdict)
      : this.#judgeAfter(verdict)
  }

  /** The next piece of what has arrived: of a flood, no more is parsed and answered at once than may be left unread. */
  #decodePiece() {
    const [first = new Uint8Array()] = this.#unheard
    const isLong = first.length > maxPieceBytes
    const others = this.#unheard.length === 1 ? nothing : this.#unheard.slice(1)
    this.#unheard = isLong ? [first.subarray(maxPieceBytes), ...others] : others
    const frames: Array<Framing.Frame> = []
    this.#problem = this.#decoder.push(isLong ? first.subarray(0, maxPieceBytes) : first, frames)
    this.#frames = frames
    this.#at = 0
  }

  #begin(first: Framing.Frame): Session {
    if (protocol2.isHello(first)) return protocol2.make(this.#endpoint, this)
    return this.#endpoint.protocol1 ? protocol1.make(this.#endpoint, this) : protocol1.refuse
  }

  #refuse(error: Refused | Framing.FramingError): Effect.Effect<void, Socket.SocketError> {
    const { reason, text } = error._tag === "Refused" ? error : framingRefusal(error)
    this.#isEnding = true
    this.#watch.end()
    return Effect.gen({ self: this }, function*() {
      yield* this.#endpoint.note(reason)
      if (reason === "unauthorized") {
        this.#place.mark("refused")
        // Nothing is read meanwhile, so that a half-close does not shorten it.
        yield* Effect.sleep(this.#endpoint.delayOfRefusal())
      }
      if (text === undefined) return this.#wire.destroy()
      this.#watch.closing()
      yield* this.#sayLast(text)
      // What still arrives is dropped until the peer hangs up.
      return yield* this.#wire.receive<never>(() => undefined)
    })
  }

  /** Says the last word and half-closes. */
  #sayLast(text: string): Effect.Effect<void, Socket.SocketError> {
    return this.#wire.end(Message.replies.error(text, this.isoNow()))
  }

  #cutLate() {
    this.#endpoint.fork(this.#endpoint.note("timeout"))
    this.#cut()
  }

  #cut() {
    this.#isEnding = true
    this.#end()
    this.#wire.destroy()
  }

  /**
   * Whether as much is unread as may be, so many times. When all peers together leave too much, each may leave an equal
   * share.
   */
  #leavesTooMuch(times: number): boolean {
    const { limits, outboxes } = this.#endpoint
    const own = this.#outbox.unread / times
    return own >= limits.maxUnreadBytes ||
      (outboxes.unreadBytes >= limits.maxTotalUnreadBytes * Math.max(1, times) &&
        own >= limits.maxTotalUnreadBytes / limits.maxPeers)
  }

  #makeRoom() {
    const room = this.#room
    this.#room = undefined
    room?.openUnsafe()
  }

  /** Whoever waits for something of this connection goes on; it need not be gone yet. */
  #end() {
    this.#watch.end()
    this.#session?.end()
    this.#outbox.dispose()
    this.#makeRoom()
  }
}

/**
 * One accepted peer, over any `Socket`, from the server's side: the bytes, the deadlines, and the end. What a frame means
 * is the business of the protocol its first frame chooses.
 *
 * Frames are judged in order, each before the next. The first error is the last thing said: nothing after it is read, it
 * is flushed, and the connection is cut when the peer does not take it in time. Replies are written before more is read,
 * so a peer that does not read its replies stops being read.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Redacted from "effect/Redacted"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { Capability } from "./Capability.ts"
import * as Framing from "./Framing.ts"
import { Inbox } from "./Inbox.ts"
import * as deadlines from "./internal/deadlines.ts"
import * as deliveriesOf from "./internal/deliveries.ts"
import * as metrics from "./internal/metrics.ts"
import * as outboxes from "./internal/outbox.ts"
import type { Progress } from "./internal/peerPool.ts"
import * as protocol1 from "./internal/protocol1.ts"
import * as protocol2 from "./internal/protocol2.ts"
import * as refusalDelay from "./internal/refusalDelay.ts"
import { Refused, type Session } from "./internal/session.ts"
import { Limits } from "./Limits.ts"
import * as Message from "./Message.ts"

export interface Options {
  /** The endpoint's own path: pongs carry it, and both ends of a handshake bind to it. */
  readonly socketPath: string
  readonly token: Redacted.Redacted<string>
  /** Whether clients of protocol 1 are served. Default true. */
  readonly protocol1?: boolean | undefined
}

const expiredTexts: Record<deadlines.Expired, string | undefined> = {
  authentication: Message.errorTexts.authenticationTimeout,
  idle: Message.errorTexts.idleTimeout,
  frame: Message.errorTexts.frameTimeout,
  // A peer that does not read would not read this either.
  write: undefined
}

const framingText = ({ reason }: Framing.FramingError) =>
  reason._tag === "FrameTooLarge"
    ? Message.errorTexts.frameTooLarge(reason.maxBytes, reason.bytesSeen)
    : Message.errorTexts.invalidFrame

/** Bytes judged at a time; their replies are written before more is. */
const maxPieceBytes = 16_384

/** Formats the time of many replies of one millisecond once. */
const makeIsoAt = () => {
  let formatted = { millis: Number.NaN, iso: "" }
  return (millis: number): string => {
    if (formatted.millis !== millis) formatted = { millis, iso: DateTime.formatIso(DateTime.makeUnsafe(millis)) }
    return formatted.iso
  }
}

const isoNow = Effect.map(DateTime.now, DateTime.formatIso)

const ignore = () => {}

/** Milliseconds between two warnings of refused authentication; those between are counted. */
const warningInterval = 10_000

/**
 * Counts and logs why connections end. A refused authentication is worth a warning, since nobody of this user's has cause
 * for one; a guesser must not fill the log with them. No text of the peer's is logged.
 */
const noteRefusals = (meter: metrics.Meter) => {
  // Written by whichever connection ends.
  let warnedAt = Number.NEGATIVE_INFINITY
  let silent = 0
  return (reason: metrics.Reason) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      meter.refused(reason)
      if (reason !== "unauthorized") return Effect.logDebug(`a connection was refused: ${reason}`)
      if (now - warnedAt < warningInterval) {
        silent++
        return Effect.logDebug("a connection was refused: unauthorized")
      }
      const others = silent === 0 ? "" : `, and ${silent} more since the last warning`
      warnedAt = now
      silent = 0
      return Effect.logWarning(`a connection was refused: it did not prove that it knows the token${others}`)
    })
}

/**
 * A handler for accepted sockets that stores messages in the `Inbox` in scope. It ends when the connection has; it never
 * fails. `admit` is asked once, when the peer has proved itself, whether there is room for one more; when there is not,
 * the connection ends without a reply; `mark` is told when its first bytes arrive, and when its proof was wrong: then the
 * answer may wait, and longer after many of them. What the endpoint remembers of messages is shared by all its connections.
 */
export const make = Effect.fnUntraced(function*(options: Options) {
  const inbox = yield* Inbox
  const capability = yield* Capability
  const limits = yield* Limits
  const meter = yield* metrics.make
  const note = noteRefusals(meter)
  const delayOfRefusal = refusalDelay.make(limits, yield* Clock.Clock)
  const services = { inbox, capability, limits, deliveries: deliveriesOf.make(limits) }
  const isoAt = makeIsoAt()
  const unread: outboxes.Unread = { bytes: 0 }
  /** Whether a peer leaves more unread than it may; when all of them together do, each may leave an equal share. */
  const leavesTooMuch = (bytes: number) =>
    bytes >= limits.maxUnreadBytes ||
    (unread.bytes >= limits.maxTotalUnreadBytes && bytes >= limits.maxTotalUnreadBytes / limits.maxPeers)

  return Effect.fnUntraced(function*(
    socket: Socket.Socket,
    admit: () => boolean,
    mark: (progress: Progress) => void = ignore
  ) {
    const clock = yield* Clock.Clock
    const deadline = yield* deadlines.make(limits)
    const decoder = Framing.makeDecoder(limits)
    const pull = yield* Socket.readerBytes(socket)
    const writer = yield* socket.writer
    const outbox = outboxes.make((chunk) =>
      Effect.suspend(() => {
        deadline.writing()
        return Effect.map(writer.write(chunk), deadline.written)
      }), unread)
    const overrun = yield* Deferred.make<never, Refused>()
    const ends: Array<() => void> = []
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const end of ends) end()
        outbox.dispose()
      })
    )
    const link: protocol2.Link2 = {
      meter,
      push: outbox.push,
      pushLater: (reply) => {
        // What is dropped here is remembered: the sender gets it when it asks again over a connection that it reads.
        if (outbox.isBlocked() && leavesTooMuch(outbox.unread())) {
          Deferred.doneUnsafe(overrun, Exit.fail(new Refused({ text: undefined, reason: "timeout" })))
          return
        }
        outbox.push(reply)
        outbox.wake()
      },
      isoNow: () => isoAt(clock.currentTimeMillisUnsafe()),
      onEnd: (run) => {
        ends.push(run)
      },
      admit: () => {
        const admitted = admit()
        if (admitted) deadline.authenticated()
        return admitted
      }
    }
    // Chosen by the first frame. Only this fiber touches it.
    let session: Session | undefined
    const begin = (first: Framing.Frame): Session =>
      protocol2.isHello(first)
        ? protocol2.make(options, services, link)
        : options.protocol1 === false
        ? protocol1.refuse
        : protocol1.make(options, inbox, link)

    const answer = Effect.fnUntraced(function*(frames: ReadonlyArray<Framing.Frame>) {
      // This connection's own, and heavier than their bytes: a peer that does not read must not make those stay that
      // have been judged.
      const batch = frames as Array<Framing.Frame | undefined>
      const millis = clock.currentTimeMillisUnsafe()
      const now = { millis, iso: isoAt(millis) }
      for (const [at, frame] of frames.entries()) {
        batch[at] = undefined
        session ??= begin(frame)
        const verdict = session.judge(frame, now)
        const refused = Effect.isEffect(verdict) && !(verdict instanceof Refused) ? yield* verdict : verdict
        if (refused !== undefined) {
          yield* outbox.flush
          return yield* refused
        }
        if (outbox.size() >= limits.maxUnreadBytes) yield* outbox.flush
      }
      yield* outbox.flush
    })

    // Arrived and not judged. Written by the connection's own fiber.
    let unheard: Array<Uint8Array> = []
    /** The next piece of it: of a flood, no more is parsed and answered at once than a peer may well leave unread. */
    const nextPiece = () => {
      const [first = new Uint8Array(), ...others] = unheard
      unheard = first.length > maxPieceBytes ? [first.subarray(maxPieceBytes), ...others] : others
      return [first.subarray(0, maxPieceBytes)] as const
    }
    const timedPull = Effect.suspend(() => {
      if (unheard.length > 0) return Effect.succeed(nextPiece())
      deadline.frameBegun(decoder.partialFrame())
      return Effect.map(pull, (chunks) => {
        if (session === undefined) mark("heard")
        deadline.active()
        unheard = [...chunks]
        return nextPiece()
      })
    })

    // A failed pull means that the peer has closed its side, or is gone: what it sent before has been judged.
    const receive = Stream.fromPull(Effect.succeed(Effect.catch(timedPull, () => Cause.done()))).pipe(
      Framing.frames(decoder),
      Stream.runForEachArray(answer)
    )

    /** Says the last word, half-closes, and drops what still arrives until the peer hangs up. */
    const farewell = (text: string) =>
      Effect.gen(function*() {
        const last = Message.replies.error(text, yield* isoNow)
        yield* Effect.scoped(Effect.flatMap(socket.writer, (writer) => writer.write(last)))
        return yield* Effect.forever(pull)
      }).pipe(Effect.timeoutOption(limits.closeTimeout), Effect.asVoid)

    // Nothing is read meanwhile, so that a half-close does not shorten it.
    const punish = Effect.suspend(() => {
      mark("refused")
      return Effect.sleep(delayOfRefusal())
    })

    const missed = Effect.flatMap(
      deadline.expired,
      (kind) => Effect.fail(new Refused({ text: expiredTexts[kind], reason: "timeout" }))
    )

    yield* Effect.raceAllFirst([receive, missed, outbox.run, Deferred.await(overrun)]).pipe(
      Effect.catchTags({
        FramingError: (error) =>
          Effect.andThen(
            note(error.reason._tag === "FrameTooLarge" ? "too-large" : "invalid"),
            farewell(framingText(error))
          ),
        Refused: ({ reason, text }) =>
          note(reason).pipe(
            Effect.andThen(reason === "unauthorized" ? punish : Effect.void),
            Effect.andThen(text === undefined ? writer.write(new Socket.CloseEvent()) : farewell(text))
          )
      }),
      // Whatever the socket still reports, the connection has ended.
      Effect.ignore
    )
  }, (connection) => Effect.ignore(Effect.scoped(connection)))
})

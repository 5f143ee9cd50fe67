/**
 * One accepted peer, over any `Socket`: PROTOCOL.md section 3 from the server's side.
 *
 * For each frame: length, JSON, token, schema, then a pong or a place in the inbox, and the reply, in the order of the
 * requests. The first error is the last thing said: nothing after it is read, it is flushed, and the connection is cut
 * when the peer does not take it in time. Replies are written before more is read, so a peer that does not read its
 * replies stops being read.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import * as Capability from "./Capability.ts"
import * as Framing from "./Framing.ts"
import { Inbox } from "./Inbox.ts"
import * as deadlines from "./internal/deadlines.ts"
import { Limits } from "./Limits.ts"
import * as Message from "./Message.ts"

export interface Options {
  /** The endpoint's own path, which pongs carry. */
  readonly socketPath: string
  readonly token: Redacted.Redacted<string>
}

/** The expected ends of a connection, other than the peer's own hanging up. Never leave this module. */
class Refused extends Data.TaggedError("Refused")<{
  /** The error frame's text, or undefined to say nothing. */
  readonly text: string | undefined
}> {}

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

const isoNow = Effect.map(DateTime.now, DateTime.formatIso)

/**
 * A handler for accepted sockets that stores messages in the `Inbox` in scope. It ends when the connection has; it never
 * fails. `admit` is asked once, at the first good frame, whether there is room for one more authenticated peer; when
 * there is not, the connection ends without a reply.
 */
export const make = Effect.fnUntraced(function*(options: Options) {
  const inbox = yield* Inbox
  const limits = yield* Limits

  return Effect.fnUntraced(function*(socket: Socket.Socket, admit: () => boolean) {
    const clock = yield* Clock.Clock
    const deadline = yield* deadlines.make(limits)
    const decoder = Framing.makeDecoder(limits)
    const pull = yield* Socket.readerBytes(socket)
    const writer = yield* socket.writer
    // Undefined until the first good frame. Comparing with a token that this peer has already proved to know tells it
    // nothing, so only that comparison may take the short way.
    let provenToken: string | undefined

    const write = (text: string) =>
      Effect.suspend(() => {
        if (text === "") return Effect.void
        deadline.writing()
        return Effect.map(writer.write(text), deadline.written)
      })

    /** The reply to one good frame, or what ends the connection. Stores the message. */
    const judge = (frame: Framing.Frame, millis: number, iso: string): string | Refused => {
      const token = Message.tokenOf(frame.value)
      if (token === undefined || !(token === provenToken || Capability.matches(options.token, token))) {
        return new Refused({ text: Message.errorTexts.unauthorized })
      }
      const decoded = Message.decodeResult(frame.value)
      if (Result.isFailure(decoded)) return new Refused({ text: Message.errorTexts.invalidFrame })
      if (provenToken === undefined) {
        if (!admit()) return new Refused({ text: undefined })
        provenToken = token
        deadline.authenticated()
      }
      if (decoded.success.type === "ping") return Message.replies.pong(options.socketPath, iso)
      const message = Message.withoutToken(decoded.success)
      const stored = inbox.offerUnsafe(
        { message, sender: { address: message.from, verified: false }, bytes: frame.bytes },
        millis
      )
      return Result.isSuccess(stored)
        ? Message.replies.ack(stored.success.id, iso)
        : new Refused({ text: Message.errorTexts.inboxFull })
    }

    const answer = Effect.fnUntraced(function*(frames: ReadonlyArray<Framing.Frame>) {
      const millis = clock.currentTimeMillisUnsafe()
      const iso = DateTime.formatIso(DateTime.makeUnsafe(millis))
      let replies = ""
      let bytes = 0
      for (const frame of frames) {
        const reply = judge(frame, millis, iso)
        if (typeof reply !== "string") {
          yield* write(replies)
          return yield* reply
        }
        replies += reply
        bytes += Buffer.byteLength(reply)
        if (bytes >= limits.maxUnreadBytes) {
          yield* write(replies)
          replies = ""
          bytes = 0
        }
      }
      yield* write(replies)
    })

    const timedPull = Effect.suspend(() => {
      deadline.frameBegun(decoder.partialFrame())
      return Effect.map(pull, (chunks) => {
        deadline.active()
        return chunks
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

    const missed = Effect.flatMap(deadline.expired, (kind) => Effect.fail(new Refused({ text: expiredTexts[kind] })))

    yield* Effect.raceFirst(receive, missed).pipe(
      Effect.catchTags({
        FramingError: (error) => farewell(framingText(error)),
        Refused: ({ text }) => text === undefined ? writer.write(new Socket.CloseEvent()) : farewell(text)
      }),
      // Whatever the socket still reports, the connection has ended.
      Effect.ignore
    )
  }, (connection) => Effect.ignore(Effect.scoped(connection)))
})

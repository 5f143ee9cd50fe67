/**
 * One dialled connection of protocol 2, shared by every fiber that talks to the peer: many requests in flight, one write
 * for all that have gathered, each answer matched by the id it names.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Socket from "effect/socket/Socket"
import * as Framing from "../Framing.ts"
import * as Handshake from "../Handshake.ts"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import { ConnectionLost, HandlerFailed, InboxFull, MessagingError, Rejected, Unauthorized } from "../MessagingError.ts"
import { greet, type Identity, makeReader } from "./greeting.ts"
import * as outboxes from "./outbox.ts"
import { remoteText } from "./remoteText.ts"

/** What a request waits for: the ack, the end of its handling, the answer to a query, or a pong. */
export type Until = "stored" | "handled" | "answered" | "pong"

export interface Answer {
  /** The id of the entry, which the ack told. */
  readonly id: Option.Option<string>
  /** The answer to a query. */
  readonly data: string
}

export interface PeerLink {
  /**
   * Sends a whole frame whose `messageId` is given and waits as long as `until` says. Interrupting it leaves the
   * connection and the other requests as they are. Waits for room while too much is in flight; `onSent` is called when
   * the frame is about to be written.
   */
  readonly request: (
    frame: string,
    messageId: string,
    until: Until,
    onSent: () => void
  ) => Effect.Effect<Answer, MessagingError>
  /** Whether the connection has ended. */
  readonly isClosed: () => boolean
  /** Completes when the connection has ended. */
  readonly closed: Effect.Effect<void>
}

interface Pending {
  readonly until: Until
  readonly done: Deferred.Deferred<Answer, MessagingError>
  id: Option.Option<string>
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

const stringOf = (value: unknown) => typeof value === "string" ? value : undefined

/**
 * Proves both ends on `socket`, then serves requests until the scope closes or the connection ends. Fails with
 * `PeerUntrusted` before anything but a nonce was sent, when the peer cannot prove that it knows `token`.
 */
export const make = Effect.fnUntraced(function*(
  socket: Socket.Socket,
  peer: Identity,
  own: Identity | undefined,
  limits: Values
): Effect.fn.Return<PeerLink, MessagingError, Scope.Scope> {
  const { socketPath } = peer
  const lost = fail(new ConnectionLost({ socketPath, mayBeStored: true }))
  const notSent = () => fail(new ConnectionLost({ socketPath, mayBeStored: false }))
  const pull = yield* Effect.mapError(Socket.readerBytes(socket), notSent)
  const writer = yield* socket.writer
  const outbox = outboxes.make(writer.write)
  const decoder = Framing.makeDecoder(limits)

  const read = makeReader(pull, decoder)
  const { rest, transcript } = yield* greet(peer, own?.socketPath, read, writer.write)
  outbox.push(`${
    JSON.stringify({
      type: "auth",
      proof: Handshake.prove("client", peer.token, transcript),
      fromProof: own === undefined ? undefined : Handshake.prove("client", own.token, transcript)
    })
  }\n`)

  // Requests by their id. An entry is there from before it is written until it is answered or given up.
  const pending = new Map<string, Pending>()
  const messages = Semaphore.makeUnsafe(limits.maxInFlightMessages)
  const bytes = Semaphore.makeUnsafe(limits.maxInFlightBytes)
  let closed: MessagingError | undefined
  const ended = yield* Deferred.make<void>()

  const settle = (request: Pending, exit: Exit.Exit<Answer, MessagingError>) => {
    Deferred.doneUnsafe(request.done, exit)
  }
  const refusal = (text: string, meta: Message.Meta) => {
    switch (text) {
      case Message.errorTexts.inboxFull: {
        const wait = meta["retryAfter"]
        const retryAfter = typeof wait === "number" && wait >= 0 ? Option.some(Duration.millis(wait)) : Option.none()
        return new InboxFull({ socketPath, retryAfter })
      }
      case Message.errorTexts.failed:
        return new HandlerFailed({ socketPath })
      default:
        return new Rejected({ socketPath, text: remoteText(text, limits.maxRemoteErrorBytes) })
    }
  }

  const dispatch = (frame: Framing.Frame) => {
    const decoded = Message.decodeResult(frame.value)
    if (Result.isFailure(decoded)) return
    const { data = "", meta = {}, type } = decoded.success
    const answered = stringOf(meta["inReplyTo"])
    const request = pending.get(answered ?? stringOf(meta["messageId"]) ?? "")
    if (request === undefined) return
    if (type === "error") return settle(request, Exit.fail(fail(refusal(data, meta))))
    if (type === "pong") return settle(request, Exit.succeed({ id: Option.none(), data }))
    if (type !== "response") return
    const id = stringOf(meta["id"])
    if (id !== undefined) {
      request.id = Option.some(id)
      if (request.until === "stored") settle(request, Exit.succeed({ id: request.id, data }))
    } else if (answered === undefined ? request.until === "handled" : request.until === "answered") {
      settle(request, Exit.succeed({ id: request.id, data }))
    }
  }

  const end = (error: MessagingError) => {
    closed ??= error
    for (const request of pending.values()) settle(request, Exit.fail(closed))
    pending.clear()
    Deferred.doneUnsafe(ended, Exit.void)
  }
  /**
   * The peer's last word, which names no request. Replies come in order, so where a frame was its cause, that was the
   * first one without an ack, and nothing behind it has been looked at: those are safe to send again.
   */
  const endWith = (text: string) => {
    if (text === Message.errorTexts.unauthorized) return end(fail(new Unauthorized({ socketPath })))
    if (text !== Message.errorTexts.idleTimeout && text !== Message.errorTexts.frameTimeout) {
      const [culprit, ...others] = [...pending.values()].filter(({ id }) => Option.isNone(id))
      if (culprit !== undefined) settle(culprit, Exit.fail(fail(refusal(text, {}))))
      for (const request of others) settle(request, Exit.fail(notSent()))
    }
    end(lost)
  }
  const receive = (batch: ReadonlyArray<Framing.Frame>) => {
    for (const frame of batch) {
      const isLast = frame.value["type"] === "error" && !Object.hasOwn(frame.value, "meta")
      if (isLast) endWith(stringOf(frame.value["data"]) ?? "")
      else dispatch(frame)
    }
  }
  const reading = Effect.forever(Effect.map(read, receive))
  let pings = 0
  const keepAlive = Effect.forever(Effect.andThen(
    Effect.sleep(limits.keepAliveInterval),
    Effect.sync(() => {
      if (pending.size === 0) return
      outbox.push(`${JSON.stringify({ type: "ping", meta: { messageId: `keep-alive-${++pings}` } })}\n`)
      outbox.wake()
    })
  ))
  yield* Effect.raceAllFirst([reading, outbox.run, keepAlive]).pipe(
    Effect.exit,
    Effect.andThen(Effect.sync(() => end(lost))),
    Effect.ensuring(Effect.sync(() => end(lost))),
    Effect.forkScoped({ startImmediately: true })
  )
  receive(rest)
  outbox.wake()

  return {
    isClosed: () => closed !== undefined,
    closed: Deferred.await(ended),
    request: (frame, messageId, until, onSent) => {
      const exchange = Effect.suspend(() => {
        if (closed !== undefined) return Effect.fail(notSent())
        const request: Pending = { until, done: Deferred.makeUnsafe(), id: Option.none() }
        pending.set(messageId, request)
        onSent()
        outbox.push(frame)
        outbox.wake()
        return Effect.ensuring(Deferred.await(request.done), Effect.sync(() => pending.delete(messageId)))
      })
      return exchange.pipe(
        Semaphore.withPermits(bytes, Math.min(frame.length, limits.maxInFlightBytes)),
        Semaphore.withPermits(messages, 1)
      )
    }
  }
})

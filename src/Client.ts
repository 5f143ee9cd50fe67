/**
 * Requests to peers, in the protocol that each one's capability file states.
 *
 * One connection per peer, opened on first use, shared by every fiber of the process, closed when it has not been used
 * for a while. In protocol 2 a request whose connection is lost is sent again, under the same id, within its deadline;
 * the peer stores it once. In protocol 1 it fails where the peer may have stored it.
 *
 * The token always comes from the target's own capability file. In protocol 2 it is only proved, never sent; in protocol
 * 1 it is sent, to a socket that nobody but this user, or root, can have put there.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { Capability, type CapabilityError } from "./Capability.ts"
import * as Framing from "./Framing.ts"
import * as expiries from "./internal/expiry.ts"
import type { Identity } from "./internal/greeting.ts"
import * as messageIds from "./internal/messageIds.ts"
import * as metrics from "./internal/metrics.ts"
import { Outboxes } from "./internal/outbox.ts"
import * as peers from "./internal/peer.ts"
import * as peerLink1 from "./internal/peerLink1.ts"
import * as peerLink2 from "./internal/peerLink2.ts"
import { type Encoded, plainFrame } from "./internal/plainFrame.ts"
import type { Answer, Request, Until } from "./internal/request.ts"
import { Limits } from "./Limits.ts"
import * as Message from "./Message.ts"
import {
  AccessDenied,
  ConnectionLost,
  MessageTooLarge,
  MessagingError,
  PeerNotFound,
  PeerUnreachable,
  PeerUntrusted
} from "./MessagingError.ts"
import { type DialError, Transport } from "./Transport.ts"

export interface RequestOptions {
  readonly until: Until
  /** From the call on, everything included. */
  readonly timeout: Duration.Input
  /** Whether a full inbox is asked again, when it says, within the deadline. */
  readonly retryWhenFull: boolean
  /** The caller's span, as W3C Trace Context. */
  readonly traceparent: string | undefined
}

export interface Client {
  /**
   * Sends `message` to the endpoint at `socketPath`, waits as `until` says, and gives what is picked. Interrupting it leaves the connection and
   * the other requests as they are. Fails with `MessagingError`.
   */
  readonly request: <A>(
    socketPath: string,
    message: Message.Message,
    options: RequestOptions,
    pick: (answer: Answer, socketPath: string) => A
  ) => Effect.Effect<A, MessagingError>
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

/** For `Effect.mapError` after a lookup. */
export const fromCapability = (socketPath: string) => ({ reason }: CapabilityError): MessagingError => {
  switch (reason._tag) {
    case "CapabilityNotFound":
      return fail(new PeerNotFound({ socketPath }))
    case "FileFailed":
      return fail(new AccessDenied({ path: reason.path, code: reason.code }))
    case "CapabilityRefused":
    case "CapabilityTooLarge":
    case "DirectoryNotPrivate":
      return fail(new PeerUntrusted({ socketPath, problem: reason.message }))
  }
}

const fromDial = (socketPath: string) => ({ reason }: DialError): MessagingError => {
  switch (reason._tag) {
    case "NotListening":
    case "ConnectFailed":
      return fail(new PeerUnreachable({ socketPath, code: reason.code }))
    case "ConnectDenied":
      return fail(new AccessDenied({ path: socketPath, code: reason.code }))
    case "SocketNotTrusted":
      return fail(new PeerUntrusted({ socketPath, problem: reason.problem }))
    case "PathTooLong":
      return fail(reason)
  }
}

const fromFraming = (maxBytes: number) => ({ reason }: Framing.FramingError): MessagingError => {
  switch (reason._tag) {
    case "InvalidMessage":
      return fail(reason)
    case "FrameTooLarge":
      return fail(new MessageTooLarge({ bytes: reason.bytesSeen, maxBytes }))
    case "InvalidFrame":
      return fail(new Framing.InvalidMessage({ problem: reason.problem }))
  }
}

/** The protocol's own part of `meta`. */
const envelopeOf = (messageId: string, { traceparent, until }: RequestOptions): Message.Meta => {
  if (traceparent === undefined && until !== "handled") return { messageId }
  return {
    messageId,
    ...(until === "handled" ? { receipt: "handled" } : undefined),
    ...(traceparent === undefined ? undefined : { traceparent })
  }
}

/** A request of one fiber, which is resumed with what it picks from the answer. */
class OwnRequest<A> implements Request {
  id: Option.Option<string> = Option.none()
  sent = 0
  place = 0
  mayBeStored = false
  readonly ordinal: number
  readonly messageId: string
  readonly message: Message.Message
  readonly frame: string
  readonly bytes: number
  readonly until: Until
  readonly retryWhenFull: boolean
  readonly deadline: number
  readonly #caller: Caller<A>

  constructor(
    ordinal: number,
    messageId: string,
    message: Message.Message,
    { bytes, text }: Encoded,
    { retryWhenFull, until }: RequestOptions,
    deadline: number,
    caller: Caller<A>
  ) {
    this.ordinal = ordinal
    this.messageId = messageId
    this.message = message
    this.frame = text
    this.bytes = bytes
    this.until = until
    this.retryWhenFull = retryWhenFull
    this.deadline = deadline
    this.#caller = caller
  }

  succeed(answer: Answer) {
    const { pick, socketPath } = this.#caller
    this.#end(Exit.succeed(pick(answer, socketPath)))
  }
  fail(error: MessagingError) {
    this.#end(Exit.fail(error))
  }
  #end(exit: Exit.Exit<A, MessagingError>) {
    const { meter, resume, startedAt } = this.#caller
    meter.answered(startedAt)
    resume(exit)
  }
}

/** Who waits for a request, since when, and for what. */
interface Caller<A> {
  readonly socketPath: string
  readonly startedAt: number
  readonly meter: metrics.Meter
  readonly pick: (answer: Answer, socketPath: string) => A
  readonly resume: (exit: Exit.Exit<A, MessagingError>) => void
}

/**
 * The client of one endpoint; its connections end with the scope. `own` lets it prove whom its messages are from. Reads
 * `Limits`.
 */
export const make: (
  own: Identity | undefined
) => Effect.Effect<Client, never, Capability | Transport | Scope.Scope> = Effect.fnUntraced(function*(own) {
  const capability = yield* Capability
  const transport = yield* Transport
  const limits = yield* Limits
  const clock = yield* Clock.Clock
  const meter = yield* metrics.make
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  const writing = { fork, outboxes: new Outboxes() }
  // Written here only. A peer is there while it has something outstanding or a connection. Each is told ids of its own:
  // who could foresee those that another is told could send them there before, and the requests would count as repeated.
  const known = new Map<string, { readonly peer: peers.Peer; readonly ids: messageIds.MessageIds }>()
  let asked = 0
  let closed = false

  /** The message as a frame, signed with the own path unless it is signed, or a ping. */
  const encode = (message: Message.Message, envelope: Message.Meta) =>
    Framing.encodeFrame(message, limits, envelope, own?.socketPath)
  const toSending = fromFraming(limits.maxFrameBytes)

  /** The request as a frame of protocol 2. */
  const frameOf = (
    message: Message.Message,
    messageId: string,
    options: RequestOptions
  ): Encoded | Framing.FramingError => {
    if (options.until !== "handled" && options.traceparent === undefined) {
      const frame = plainFrame(message, messageId, own?.socketPath)
      // Its LF does not count. What is too large is explained by the general way.
      if (frame !== undefined && frame.bytes <= limits.maxFrameBytes) return frame
    }
    return Result.match(encode(message, envelopeOf(messageId, options)), {
      onFailure: (error): Encoded | Framing.FramingError => error,
      onSuccess: (text) => ({ text, bytes: Buffer.byteLength(text) })
    })
  }

  const connect = Effect.fnUntraced(function*(socketPath: string, { ordinalOf }: messageIds.MessageIds) {
    const { protocol, token } = yield* Effect.mapError(capability.lookup(socketPath), fromCapability(socketPath))
    if (protocol >= Message.protocol2) {
      const socket = yield* Effect.mapError(transport.dial(socketPath), fromDial(socketPath))
      return yield* peerLink2.make(socket, { socketPath, token }, own, limits, ordinalOf, writing)
    }
    yield* Effect.mapError(transport.verify(socketPath), fromDial(socketPath))
    const socket = yield* Effect.mapError(transport.dial(socketPath), fromDial(socketPath))
    const encodeWithToken = (message: Message.Message) =>
      Result.mapError(encode(message, { authToken: Redacted.value(token) }), toSending)
    return yield* peerLink1.make(socket, { socketPath, token }, encodeWithToken, limits, writing)
  }, (connecting, socketPath) =>
    // The link is shared, so its making has a deadline of its own; the requests that wait for it have theirs.
    Effect.timeoutOrElse(connecting, {
      duration: limits.sendTimeout,
      orElse: () => Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false })))
    }))

  const makePeer = (socketPath: string, ids: messageIds.MessageIds): peers.Peer => {
    const peer = peers.make({
      socketPath,
      limits,
      clock,
      connect: connect(socketPath, ids),
      fork,
      onRetry: meter.retried,
      onEnd: () => known.delete(socketPath)
    })
    known.set(socketPath, { peer, ids })
    return peer
  }

  const expiry = expiries.make(
    clock,
    fork,
    (now) => Math.min(Infinity, ...Array.from(known.values(), ({ peer }) => peer.expire(now)))
  )
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      // What a caller asks of them meanwhile is refused above, so the map does not grow.
      for (const { peer } of known.values()) peer.close()
    })
  )

  return {
    request: <A>(
      socketPath: string,
      message: Message.Message,
      options: RequestOptions,
      pick: (answer: Answer, socketPath: string) => A
    ) =>
      Effect.callback<A, MessagingError>((resume) => {
        if (closed) return resume(Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false }))))
        const found = known.get(socketPath)
        const ids = found?.ids ?? messageIds.make()
        const ordinal = ++asked
        const messageId = ids.of(ordinal)
        const frame = frameOf(message, messageId, options)
        if (!("text" in frame)) return resume(Effect.fail(toSending(frame)))
        const startedAt = expiries.monotonicMillis(clock)
        const deadline = startedAt + Duration.toMillis(options.timeout)
        const peer = found?.peer ?? makePeer(socketPath, ids)
        const caller = { socketPath, startedAt, meter, pick, resume }
        const request = new OwnRequest(ordinal, messageId, message, frame, options, deadline, caller)
        expiry.lookAt(deadline)
        peer.add(request)
        // With something to do from the start, or it would end.
        if (found === undefined) fork(peer.run)
        return Effect.sync(() => peer.abandon(request))
      })
  }
})

/**
 * Requests to peers, in the protocol that each one's capability file states.
 *
 * Protocol 2: one connection per peer, opened on first use, shared by every fiber of the process, closed when it has not
 * been used for a while. A request whose connection is lost is sent again, under the same id, within its deadline; the
 * peer stores it once. Protocol 1: a connection for each message, and no second try.
 *
 * The token always comes from the target's own capability file. In protocol 2 it is only proved, never sent; in protocol
 * 1 it is sent, to a socket that nobody but this user, or root, can have put there.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as crypto from "node:crypto"
import { Capability, type CapabilityError } from "./Capability.ts"
import * as Framing from "./Framing.ts"
import type { Identity } from "./internal/greeting.ts"
import * as metrics from "./internal/metrics.ts"
import { exchange } from "./internal/oneShot.ts"
import * as peerLink from "./internal/peerLink.ts"
import * as trace from "./internal/trace.ts"
import { Limits } from "./Limits.ts"
import * as Message from "./Message.ts"
import {
  AccessDenied,
  ConnectionLost,
  MessageTooLarge,
  MessagingError,
  NotSupported,
  PeerNotFound,
  PeerUnreachable,
  PeerUntrusted,
  Timeout
} from "./MessagingError.ts"
import { type DialError, Transport } from "./Transport.ts"

export interface RequestOptions {
  readonly until: peerLink.Until
  /** From the call on, everything included. */
  readonly timeout: Duration.Input
  /** Whether a full inbox is asked again, when it says, within the deadline. */
  readonly retryWhenFull: boolean
}

export interface Client {
  /** Sends `message` to the endpoint at `socketPath` and waits as `until` says. Fails with `MessagingError`. */
  readonly request: (
    socketPath: string,
    message: Message.Message,
    options: RequestOptions
  ) => Effect.Effect<peerLink.Answer, MessagingError>
}

/** Not a failure: the peer's file says that it must be spoken to otherwise. Never leaves this module. */
class SpeaksProtocol1 extends Schema.TaggedError<SpeaksProtocol1>()("SpeaksProtocol1", {
  token: Schema.Redacted(Schema.String)
}) {}

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

/** Between tries over a lost connection: 10 ms, doubling up to 400 ms, each jittered. */
const backOff = Schedule.jittered(Schedule.min([Schedule.exponential(10), Schedule.spaced(400)]))

/** What a protocol 1 peer has no word for. */
const unsupported = { handled: "receipts", answered: "answers" } as const

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
  const meter = yield* metrics.make
  const idPrefix = crypto.randomBytes(12).toString("hex")
  let nextId = 1

  const connect = Effect.fnUntraced(function*(socketPath: string) {
    const { protocol, token } = yield* Effect.mapError(capability.lookup(socketPath), fromCapability(socketPath))
    if (protocol < Message.protocol2) return yield* new SpeaksProtocol1({ token })
    return yield* Effect.mapError(transport.dial(socketPath), fromDial(socketPath)).pipe(
      Effect.flatMap((socket) => peerLink.make(socket, { socketPath, token }, own, limits)),
      // The link is shared, so its making has a deadline of its own; the requests that wait for it have theirs.
      Effect.timeoutOrElse({
        duration: limits.sendTimeout,
        orElse: () => Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false })))
      })
    )
  })

  // A link that has ended, or could not be made, leaves the map by itself and once, so that the next request dials anew.
  const forget = (socketPath: string): Effect.Effect<unknown> =>
    Effect.forkDetach(Effect.andThen(Effect.yieldNow, Effect.suspend(() => RcMap.invalidate(links, socketPath))))
  const links: RcMap.RcMap<string, peerLink.PeerLink, MessagingError | SpeaksProtocol1> = yield* RcMap.make({
    idleTimeToLive: limits.connectionTimeout,
    lookup: (socketPath: string) =>
      connect(socketPath).pipe(
        Effect.tap((link) => Effect.forkScoped(Effect.andThen(link.closed, forget(socketPath)))),
        Effect.onError(() => forget(socketPath))
      )
  })

  const encode = (message: Message.Message, envelope: Message.Meta) =>
    Effect.mapError(
      Effect.fromResult(Framing.encodeFrame(message, limits, envelope)),
      fromFraming(limits.maxFrameBytes)
    )

  /** One try over the shared connection. */
  const overLink = (
    socketPath: string,
    message: Message.Message,
    messageId: string,
    until: peerLink.Until,
    onSent: () => void
  ) =>
    Effect.scoped(Effect.gen(function*() {
      const envelope = {
        messageId,
        ...(until === "handled" ? { receipt: "handled" } : {}),
        ...Option.match(yield* trace.current, { onNone: () => ({}), onSome: (traceparent) => ({ traceparent }) })
      }
      const frame = yield* encode(message, envelope)
      const link = yield* RcMap.get(links, socketPath)
      return yield* link.request(frame, messageId, until, onSent)
    }))

  const overOneShot = Effect.fnUntraced(function*(
    socketPath: string,
    message: Message.Message,
    token: Redacted.Redacted<string>,
    until: peerLink.Until,
    onSent: () => void
  ) {
    if (until === "handled" || until === "answered") {
      return yield* fail(new NotSupported({ socketPath, what: unsupported[until] }))
    }
    const frame = yield* encode(message, { authToken: Redacted.value(token) })
    yield* Effect.mapError(transport.verify(socketPath), fromDial(socketPath))
    const socket = yield* Effect.mapError(transport.dial(socketPath), fromDial(socketPath))
    const reply = yield* exchange(socketPath, socket, frame, until === "pong" ? "pong" : "response", limits, onSent)
    const id = reply.meta?.["id"]
    return { id: typeof id === "string" ? Option.some(id) : Option.none(), data: reply.data ?? "" }
  }, Effect.scoped)

  return {
    request: (socketPath, message, { retryWhenFull, timeout, until }) =>
      Effect.suspend(() => {
        const messageId = `${idPrefix}-${nextId++}`
        // Whether a frame may have reached the peer, in this try or an earlier one.
        let sent = false
        const onSent = () => {
          sent = true
        }
        const attempt = overLink(socketPath, message, messageId, until, onSent).pipe(
          Effect.retry({
            while: (error) => {
              const lost = error._tag === "MessagingError" && error.reason._tag === "ConnectionLost"
              if (lost) meter.retried()
              return lost
            },
            schedule: backOff
          }),
          Effect.catchTag("SpeaksProtocol1", ({ token }) => overOneShot(socketPath, message, token, until, onSent))
        )
        return retryingWhenFull(attempt, retryWhenFull).pipe(
          Effect.mapError((error) =>
            sent && isGone(error) ? fail(new ConnectionLost({ socketPath, mayBeStored: true })) : error
          ),
          Effect.timeoutOrElse({
            duration: timeout,
            orElse: () => Effect.fail(fail(new Timeout({ socketPath, mayBeStored: sent })))
          })
        )
      })
  }
})

/** The peer was there and is not any more: what it had stored is lost with it, or not. */
const isGone = ({ reason }: MessagingError) => reason._tag === "PeerNotFound" || reason._tag === "PeerUnreachable"

/** While the peer's inbox is full and says when to ask again. The caller's deadline ends it. */
const retryingWhenFull = <A>(
  attempt: Effect.Effect<A, MessagingError>,
  retryWhenFull: boolean
): Effect.Effect<A, MessagingError> =>
  Effect.catchReason(
    attempt,
    "MessagingError",
    "InboxFull",
    ({ retryAfter }, error) =>
      retryWhenFull && Option.isSome(retryAfter)
        ? Effect.andThen(Effect.sleep(retryAfter.value), retryingWhenFull(attempt, true))
        : Effect.fail(error)
  )

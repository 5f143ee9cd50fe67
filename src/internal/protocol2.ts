/**
 * Protocol 2 on an accepted connection: a handshake in which both ends prove themselves, then requests without a secret,
 * each with an id that its answers name. Refusing one message does not end the connection.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { Buffer } from "node:buffer"
import type { Capability } from "../Capability.ts"
import type { Frame } from "../Framing.ts"
import * as Handshake from "../Handshake.ts"
import type { Inbox, Outcome, Sender } from "../Inbox.ts"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import type { Deliveries, Delivery, Listener } from "./deliveries.ts"
import { type Link, type Moment, Refused, type Session, type Verdict } from "./session.ts"

export interface Services {
  readonly capability: Capability["Service"]
  readonly deliveries: Deliveries
  readonly inbox: Inbox["Service"]
  readonly limits: Values
}

/** What the session needs of its connection beyond a `Link`. */
export interface Link2 extends Link {
  /** Adds a reply from another fiber than the connection's own, and has it written. */
  readonly pushLater: (reply: string) => void
  /** The current time as ISO-8601 text, for those replies. */
  readonly isoNow: () => string
  /** Runs when the connection ends. */
  readonly onEnd: (run: () => void) => void
}

const unauthorized = () => new Refused({ text: Message.errorTexts.unauthorized, reason: "unauthorized" })
const invalid = () => new Refused({ text: Message.errorTexts.invalidFrame, reason: "invalid" })

export const make = (
  options: { readonly socketPath: string; readonly token: Redacted.Redacted<string> },
  { capability, deliveries, inbox, limits }: Services,
  link: Link2
): Session => {
  // Set by the first frame, then by the second. Only the connection's own fiber touches them.
  let transcript: Handshake.Transcript | undefined
  let sender: Sender | undefined
  // Deliveries this connection has yet to be told of. Shared with the fibers that handle messages.
  const attached = new Map<Delivery, Listener>()
  const retryAfter = Duration.toMillis(limits.retryAfter)

  const greet = (frame: Frame): Verdict => {
    const hello = Handshake.decodeHello(frame.value)
    if (Result.isFailure(hello)) return invalid()
    const { from, nonce } = hello.success
    transcript = { path: options.socketPath, from, clientNonce: nonce, serverNonce: Handshake.newNonce() }
    link.push(
      Message.replies2.challenge(transcript.serverNonce, Handshake.prove("server", options.token, transcript))
    )
    return undefined
  }

  /** Whether `from` is the client's own: it knows the token in the capability file of that path. */
  const ownsFrom = (heard: Handshake.Transcript, fromProof: string | undefined) =>
    heard.from === undefined || fromProof === undefined ? Effect.succeed(false) : Effect.match(
      capability.lookup(heard.from),
      {
        onSuccess: ({ token }) => Handshake.isProof(Handshake.prove("client", token, heard), fromProof),
        onFailure: () => false
      }
    )

  const authenticate = (frame: Frame, heard: Handshake.Transcript): Verdict => {
    const auth = Handshake.decodeAuth(frame.value)
    if (
      Result.isFailure(auth) ||
      !Handshake.isProof(Handshake.prove("client", options.token, heard), auth.success.proof)
    ) return unauthorized()
    if (!link.admit()) return new Refused({ text: undefined, reason: "too-many" })
    if (heard.from === undefined) {
      sender = { address: undefined, verified: false }
      return undefined
    }
    return Effect.map(ownsFrom(heard, auth.success.fromProof), (verified) => {
      sender = { address: heard.from, verified }
      return undefined
    })
  }

  const tell = (messageId: string, outcome: Outcome, wantsReceipt: boolean, isQuery: boolean) => {
    const iso = link.isoNow()
    switch (outcome._tag) {
      case "Replied": {
        const answer = Message.replies2.answer(outcome.data, messageId, iso)
        // An answer that no frame can hold is none.
        return link.pushLater(
          Buffer.byteLength(answer) - 1 <= limits.maxFrameBytes ? answer : Message.replies2.noAnswer(messageId, iso)
        )
      }
      case "Handled":
        if (wantsReceipt) link.pushLater(Message.replies2.handled(messageId, iso))
        return
      case "Failed":
        if (wantsReceipt) link.pushLater(Message.replies2.failed(messageId, iso))
        if (isQuery && !outcome.answered) link.pushLater(Message.replies2.noAnswer(messageId, iso))
        return
    }
  }

  const detach = (delivery: Delivery, listener: Listener) => {
    if (attached.get(delivery) === listener) attached.delete(delivery)
    // A later connection of the sender may have taken its place.
    if (delivery.listener === listener) delivery.listener = undefined
  }
  link.onEnd(() => {
    for (const [delivery, listener] of attached) detach(delivery, listener)
  })

  /** From now on this connection is told what becomes of the message, beginning with what is known already. */
  const attach = (delivery: Delivery, messageId: string, message: Message.Message) => {
    const wantsReceipt = message.meta?.["receipt"] === "handled"
    const isQuery = message.type === "query"
    if (!wantsReceipt && !isQuery) return
    const listener = (outcome: Outcome) => {
      tell(messageId, outcome, wantsReceipt, isQuery)
      // Nothing follows these.
      if (outcome._tag !== "Replied") detach(delivery, listener)
    }
    delivery.listener = listener
    attached.set(delivery, listener)
    for (const outcome of delivery.outcomes) listener(outcome)
  }

  const request = (frame: Frame, from: Sender, now: Moment): Verdict => {
    const message = Message.fromJson(frame.value)
    if (message === undefined) return invalid()
    const messageId = message.meta?.["messageId"]
    if (!Message.isMessageId(messageId)) return invalid()
    if (message.type === "ping") {
      link.push(Message.replies2.pong(options.socketPath, messageId, now.iso, inbox.sizeUnsafe()))
      return undefined
    }
    const key = from.address ?? ""
    const known = deliveries.find(key, messageId, now.millis)
    if (known !== undefined) {
      link.meter.duplicate()
      link.push(Message.replies2.ack(known.ackId, messageId, true, now.iso))
      attach(known, messageId, message)
      return undefined
    }
    // The entry's outcome goes by way of the delivery, which may outlive this connection. A handler that waits for an
    // entry may run, and end, before `offerUnsafe` returns.
    const delivery: Delivery = { ackId: "", rememberedAt: now.millis, listener: undefined, outcomes: [] }
    const traceparent = message.meta?.["traceparent"]
    const stored = inbox.offerUnsafe({
      message: Message.withoutEnvelope(message),
      sender: from,
      bytes: frame.weight,
      traceparent: typeof traceparent === "string" ? traceparent : undefined,
      onOutcome: (outcome) => deliveries.settle(delivery, outcome)
    }, now.millis)
    if (Result.isFailure(stored)) {
      link.meter.refused("full")
      link.push(Message.replies2.full(messageId, retryAfter, now.iso))
      return undefined
    }
    delivery.ackId = stored.success.id
    deliveries.remember(key, messageId, delivery)
    link.meter.accepted(frame.bytes)
    link.push(Message.replies2.ack(delivery.ackId, messageId, false, now.iso))
    attach(delivery, messageId, message)
    return undefined
  }

  return {
    judge: (frame, now) =>
      transcript === undefined
        ? greet(frame)
        : sender === undefined
        ? authenticate(frame, transcript)
        : request(frame, sender, now)
  }
}

/** Whether the first frame of a connection chooses protocol 2. */
export const isHello = (frame: Frame): boolean => Object.hasOwn(frame.value, "type") && frame.value["type"] === "hello"

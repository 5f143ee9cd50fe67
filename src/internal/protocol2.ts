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
import { type Deliveries, Delivery, type Listener } from "./deliveries.ts"
import * as fifos from "./fifo.ts"
import { type Link, type Moment, Refused, type Session, type Verdict } from "./session.ts"

export interface Options {
  readonly socketPath: string
  readonly token: Redacted.Redacted<string>
  readonly capability: Capability["Service"]
  readonly deliveries: Deliveries
  readonly inbox: Inbox["Service"]
  readonly limits: Values
  /** As `Handshake.newNonce`. */
  readonly newNonce: () => string
}

/** What the session needs of its connection beyond a `Link`. */
export interface Link2 extends Link {
  /** Adds a reply from another fiber than the connection's own, and has it written. */
  readonly pushLater: (reply: string) => void
  /** What to wait for before an answer is pushed, where the peer leaves too much unread. */
  readonly room: () => Effect.Effect<void> | undefined
  /** The current time as ISO-8601 text, for those replies. */
  readonly isoNow: () => string
}

const unauthorized = () => new Refused({ text: Message.errorTexts.unauthorized, reason: "unauthorized" })
const invalid = () => new Refused({ text: Message.errorTexts.invalidFrame, reason: "invalid" })

/** A message that its connection is to be told of. */
class Attachment implements Listener, fifos.Placed {
  place = 0
  readonly delivery: Delivery
  readonly messageId: string
  readonly wantsReceipt: boolean
  readonly isQuery: boolean
  readonly #session: Protocol2

  constructor(
    session: Protocol2,
    delivery: Delivery,
    messageId: string,
    wantsReceipt: boolean,
    isQuery: boolean
  ) {
    this.#session = session
    this.delivery = delivery
    this.messageId = messageId
    this.wantsReceipt = wantsReceipt
    this.isQuery = isQuery
  }

  tell(outcome: Outcome) {
    this.#session.tell(this, outcome)
    // Nothing follows these.
    if (outcome._tag !== "Replied") this.#session.detach(this)
  }

  room() {
    return this.#session.room()
  }
}

class Protocol2 implements Session {
  readonly #options: Options
  readonly #link: Link2
  // Set by the first frame, then by the second. Only the connection's own fiber touches them.
  #transcript: Handshake.Transcript | undefined
  #sender: Sender | undefined
  // Deliveries this connection has yet to be told of. Shared with the fibers that handle messages.
  #attached: fifos.Fifo<Attachment> | undefined

  constructor(options: Options, link: Link2) {
    this.#options = options
    this.#link = link
  }

  judge(frame: Frame, now: Moment): Verdict {
    if (this.#sender !== undefined) return this.#request(frame, this.#sender, now)
    return this.#transcript === undefined ? this.#greet(frame) : this.#authenticate(frame, this.#transcript)
  }

  end() {
    for (const attachment of this.#attached?.toArray() ?? []) this.detach(attachment)
  }

  #greet(frame: Frame): Verdict {
    const hello = Handshake.decodeHello(frame.value)
    if (Result.isFailure(hello)) return invalid()
    const { from, nonce } = hello.success
    const { socketPath, token } = this.#options
    const transcript = { path: socketPath, from, clientNonce: nonce, serverNonce: this.#options.newNonce() }
    this.#transcript = transcript
    this.#link.push(Message.replies2.challenge(transcript.serverNonce, Handshake.prove("server", token, transcript)))
    return undefined
  }

  #authenticate(frame: Frame, heard: Handshake.Transcript): Verdict {
    const auth = Handshake.decodeAuth(frame.value)
    if (
      Result.isFailure(auth) ||
      !Handshake.isProof(Handshake.prove("client", this.#options.token, heard), auth.success.proof)
    ) return unauthorized()
    if (!this.#link.admit()) return new Refused({ text: undefined, reason: "too-many" })
    this.#transcript = undefined
    if (heard.from === undefined) {
      this.#sender = { address: undefined, verified: false }
      return undefined
    }
    return Effect.map(this.#ownsFrom(heard, heard.from, auth.success.fromProof), (verified) => {
      this.#sender = { address: heard.from, verified }
    })
  }

  /** Whether `from` is the client's own: it knows the token in the capability file of that path. */
  #ownsFrom(heard: Handshake.Transcript, from: string, fromProof: string | undefined): Effect.Effect<boolean> {
    if (fromProof === undefined) return Effect.succeed(false)
    return Effect.match(this.#options.capability.lookup(from), {
      onSuccess: ({ token }) => Handshake.isProof(Handshake.prove("client", token, heard), fromProof),
      onFailure: () => false
    })
  }

  #request(frame: Frame, sender: Sender, now: Moment): Verdict {
    const message = Message.fromJson(frame.value)
    if (message === undefined) return invalid()
    const messageId = message.meta?.["messageId"]
    if (!Message.isMessageId(messageId)) return invalid()
    if (message.type === "ping") {
      const { inbox, socketPath } = this.#options
      this.#link.push(Message.replies2.pong(socketPath, messageId, now.iso, inbox.sizeUnsafe()))
      return undefined
    }
    const { deliveries, inbox } = this.#options
    const key = sender.address ?? ""
    const known = deliveries.find(key, messageId, now.monotonicMillis)
    if (known !== undefined) {
      this.#link.meter.duplicate()
      this.#link.push(Message.replies2.ack(known.ackId, messageId, true, now.iso))
      this.#attach(known, messageId, message)
      return undefined
    }
    // The entry's outcome goes by way of the delivery, which may outlive this connection. A handler that waits for an
    // entry may run, and end, before `offerUnsafe` returns.
    const delivery = new Delivery(deliveries, now.monotonicMillis)
    const traceparent = message.meta?.["traceparent"]
    const stored = inbox.offerUnsafe({
      message: Message.withoutEnvelope(message),
      sender,
      bytes: frame.weight,
      traceparent: typeof traceparent === "string" ? traceparent : undefined,
      observer: delivery
    }, now.millis)
    if (Result.isFailure(stored)) {
      this.#link.meter.refused("full")
      const retryAfter = Duration.toMillis(this.#options.limits.retryAfter)
      this.#link.push(Message.replies2.full(messageId, retryAfter, now.iso))
      return undefined
    }
    delivery.ackId = stored.success.id
    deliveries.remember(key, messageId, delivery)
    this.#link.meter.accepted(frame.bytes)
    this.#link.push(Message.replies2.ack(delivery.ackId, messageId, false, now.iso))
    this.#attach(delivery, messageId, message)
    return undefined
  }

  /** From now on this connection is told what becomes of the message, beginning with what is known already. */
  #attach(delivery: Delivery, messageId: string, message: Message.Message) {
    const wantsReceipt = message.meta?.["receipt"] === "handled"
    const isQuery = message.type === "query"
    if (!wantsReceipt && !isQuery) return
    const attached = this.#attached ??= fifos.make()
    const before = delivery.listener
    if (before instanceof Attachment) attached.remove(before)
    const attachment = new Attachment(this, delivery, messageId, wantsReceipt, isQuery)
    delivery.listener = attachment
    attached.push(attachment)
    // An application that takes its messages may never say what became of them.
    const { maxInboxEntries, maxRememberedMessages } = this.#options.limits
    if (attached.size() > Math.max(maxInboxEntries, maxRememberedMessages)) {
      const oldest = attached.peek()
      if (oldest !== undefined) this.detach(oldest)
    }
    if (isQuery && delivery.hasLostAnswer) {
      this.#link.pushLater(Message.replies2.noAnswer(messageId, this.#link.isoNow()))
    }
    for (const outcome of delivery.outcomes) attachment.tell(outcome)
  }

  /** Nothing more is told of it here. */
  detach(attachment: Attachment) {
    this.#attached?.remove(attachment)
    // A later connection of the sender may have taken its place.
    if (attachment.delivery.listener === attachment) attachment.delivery.listener = undefined
  }

  room() {
    return this.#link.room()
  }

  tell({ isQuery, messageId, wantsReceipt }: Attachment, outcome: Outcome) {
    const link = this.#link
    const iso = link.isoNow()
    switch (outcome._tag) {
      case "Replied": {
        const answer = Message.replies2.answer(outcome.data, messageId, iso)
        // An answer that no frame can hold is none.
        return link.pushLater(
          Buffer.byteLength(answer) - 1 <= this.#options.limits.maxFrameBytes
            ? answer
            : Message.replies2.noAnswer(messageId, iso)
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
}

export const make = (options: Options, link: Link2): Session => new Protocol2(options, link)

/** Whether the first frame of a connection chooses protocol 2. */
export const isHello = (frame: Frame): boolean => Object.hasOwn(frame.value, "type") && frame.value["type"] === "hello"

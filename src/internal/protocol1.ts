/** Protocol 1 on an accepted connection: every frame carries the token, and every error ends the connection. */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Capability from "../Capability.ts"
import type { Frame } from "../Framing.ts"
import type { Inbox } from "../Inbox.ts"
import * as Message from "../Message.ts"
import { type Link, type Moment, Refused, type Session, type Verdict } from "./session.ts"

const unauthorized = () => new Refused({ text: Message.errorTexts.unauthorized, reason: "unauthorized" })

export interface Options {
  readonly socketPath: string
  readonly token: Redacted.Redacted<string>
  readonly inbox: Inbox["Service"]
}

class Protocol1 implements Session {
  readonly #options: Options
  readonly #link: Link
  // Undefined until the first good frame. Comparing with a token that this peer has already proved to know tells it
  // nothing, so only that comparison may take the short way.
  #provenToken: string | undefined

  constructor(options: Options, link: Link) {
    this.#options = options
    this.#link = link
  }

  judge(frame: Frame, now: Moment): Verdict {
    const token = Message.tokenOf(frame.value)
    if (token === undefined || !(token === this.#provenToken || Capability.matches(this.#options.token, token))) {
      return unauthorized()
    }
    const decoded = Message.fromJson(frame.value)
    if (decoded === undefined) return new Refused({ text: Message.errorTexts.invalidFrame, reason: "invalid" })
    if (this.#provenToken === undefined) {
      if (!this.#link.admit()) return new Refused({ text: undefined, reason: "too-many" })
      // The endpoint's own copy, not one for each connection.
      this.#provenToken = Redacted.value(this.#options.token)
    }
    if (decoded.type === "ping") {
      this.#link.push(Message.replies.pong(this.#options.socketPath, now.iso))
      return undefined
    }
    const message = Message.withoutToken(decoded)
    const stored = this.#options.inbox.offerUnsafe(
      { message, sender: { address: message.from, verified: false }, bytes: frame.weight },
      now.millis
    )
    if (Result.isFailure(stored)) return new Refused({ text: Message.errorTexts.inboxFull, reason: "full" })
    this.#link.meter.accepted(frame.bytes)
    this.#link.push(Message.replies.ack(stored.success.id, now.iso))
    return undefined
  }

  end() {}
}

export const make = (options: Options, link: Link): Session => new Protocol1(options, link)

/** An endpoint that speaks protocol 2 only tells everybody else nothing more than a wrong token would. */
export const refuse: Session = { judge: unauthorized, end: () => {} }

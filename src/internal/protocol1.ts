/** Protocol 1 on an accepted connection: every frame carries the token, and every error ends the connection. */
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Capability from "../Capability.ts"
import type { Inbox } from "../Inbox.ts"
import * as Message from "../Message.ts"
import { type Link, Refused, type Session } from "./session.ts"

const unauthorized = () => new Refused({ text: Message.errorTexts.unauthorized, reason: "unauthorized" })

export const make = (
  options: { readonly socketPath: string; readonly token: Redacted.Redacted<string> },
  inbox: Inbox["Service"],
  link: Link
): Session => {
  // Undefined until the first good frame. Comparing with a token that this peer has already proved to know tells it
  // nothing, so only that comparison may take the short way.
  let provenToken: string | undefined

  return {
    judge: (frame, now) => {
      const token = Message.tokenOf(frame.value)
      if (token === undefined || !(token === provenToken || Capability.matches(options.token, token))) {
        return unauthorized()
      }
      const decoded = Message.decodeResult(frame.value)
      if (Result.isFailure(decoded)) return new Refused({ text: Message.errorTexts.invalidFrame, reason: "invalid" })
      if (provenToken === undefined) {
        if (!link.admit()) return new Refused({ text: undefined, reason: "too-many" })
        provenToken = token
      }
      if (decoded.success.type === "ping") {
        link.push(Message.replies.pong(options.socketPath, now.iso))
        return undefined
      }
      const message = Message.withoutToken(decoded.success)
      const stored = inbox.offerUnsafe(
        { message, sender: { address: message.from, verified: false }, bytes: frame.weight },
        now.millis
      )
      if (Result.isFailure(stored)) return new Refused({ text: Message.errorTexts.inboxFull, reason: "full" })
      link.meter.accepted(frame.bytes)
      link.push(Message.replies.ack(stored.success.id, now.iso))
      return undefined
    }
  }
}

/** An endpoint that speaks protocol 2 only tells everybody else nothing more than a wrong token would. */
export const refuse: Session = { judge: unauthorized }

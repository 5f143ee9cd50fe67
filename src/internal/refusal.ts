/** What a peer's `error` frame means for the request it answers, in either protocol. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import { HandlerFailed, InboxFull, MessagingError, Rejected, Unauthorized } from "../MessagingError.ts"
import { remoteText } from "./remoteText.ts"

/** What the refusal is told by, and of. */
export interface Refuser {
  readonly socketPath: string
  /** The token of the target, which a peer of protocol 1 may quote. */
  readonly token: Redacted.Redacted<string>
}

const reasonOf = (
  { socketPath, token }: Refuser,
  text: string,
  meta: Readonly<Record<string, unknown>>,
  limits: Pick<Values, "maxRemoteErrorBytes">
): MessagingError["reason"] => {
  switch (text) {
    case Message.errorTexts.unauthorized:
      return new Unauthorized({ socketPath })
    case Message.errorTexts.inboxFull: {
      const wait = meta["retryAfter"]
      const retryAfter = typeof wait === "number" && Number.isFinite(wait) && wait >= 0
        ? Option.some(Duration.millis(wait))
        : Option.none()
      return new InboxFull({ socketPath, retryAfter })
    }
    default: {
      // Only protocol 2 names the request of a handler; to protocol 1 it is a text like any other.
      if (text === Message.errorTexts.failed && (meta["messageId"] ?? meta["inReplyTo"]) !== undefined) {
        return new HandlerFailed({ socketPath })
      }
      // Before it is cut, or a part of the token would be left.
      const safe = text.replaceAll(Redacted.value(token), "<redacted>")
      return new Rejected({ socketPath, text: remoteText(safe, limits.maxRemoteErrorBytes) })
    }
  }
}

export const refusal = (
  refuser: Refuser,
  text: string,
  meta: Readonly<Record<string, unknown>>,
  limits: Pick<Values, "maxRemoteErrorBytes">
): MessagingError => new MessagingError({ reason: reasonOf(refuser, text, meta, limits) })

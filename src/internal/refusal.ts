/** What a peer's `error` frame means for the request it answers, in either protocol. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import { HandlerFailed, InboxFull, MessagingError, Rejected, Unauthorized } from "../MessagingError.ts"
import { remoteText } from "./remoteText.ts"

const reasonOf = (
  socketPath: string,
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
    default:
      // Only protocol 2 names the request of a handler; to protocol 1 it is a text like any other.
      return text === Message.errorTexts.failed && (meta["messageId"] ?? meta["inReplyTo"]) !== undefined
        ? new HandlerFailed({ socketPath })
        : new Rejected({ socketPath, text: remoteText(text, limits.maxRemoteErrorBytes) })
  }
}

export const refusal = (
  socketPath: string,
  text: string,
  meta: Readonly<Record<string, unknown>>,
  limits: Pick<Values, "maxRemoteErrorBytes">
): MessagingError => new MessagingError({ reason: reasonOf(socketPath, text, meta, limits) })

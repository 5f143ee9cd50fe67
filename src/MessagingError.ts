/**
 * Why `send` or `ping` failed, as reasons a caller can act on. Each says whether the message may have been stored where
 * that is in doubt; where a reason does not say, nothing was stored.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { InvalidAddress, PathTooLong } from "./Address.ts"
import { InvalidMessage } from "./Framing.ts"

export { InvalidAddress, InvalidMessage, PathTooLong }

/** No live endpoint, or more than one, has the name. */
export class NameNotUnique extends Schema.TaggedError<NameNotUnique>()("NameNotUnique", {
  /** The name that was asked for. */
  name: Schema.String,
  /** Whether nobody has it, or several do. */
  problem: Schema.Literals(["unknown", "ambiguous"]),
  /** The names there are, or the addresses that share the name. */
  candidates: Schema.Array(Schema.String)
}) {
  override get message() {
    const list = this.candidates.length === 0 ? "none" : this.candidates.join(", ")
    return this.problem === "unknown"
      ? `no live peer is named ${JSON.stringify(this.name)}; there are: ${list}`
      : `several live peers are named ${JSON.stringify(this.name)}: ${list}; give one's address`
  }
}

const doubt = (mayBeStored: boolean) => mayBeStored ? "the message may have been stored" : "the message was not sent"

/** No capability file names the path. The peer never published it, or has ended. */
export class PeerNotFound extends Schema.TaggedError<PeerNotFound>()("PeerNotFound", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String
}) {
  override get message() {
    return `no peer at ${this.socketPath}: it has ended, or belongs to another user or namespace`
  }
}

/** There is a capability and nothing listens: the peer died without cleaning up. */
export class PeerUnreachable extends Schema.TaggedError<PeerUnreachable>()("PeerUnreachable", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** The errno of the connect (`connect(2)`). */
  code: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} does not answer (${this.code}): it is probably dead, and a sweep removes it`
  }
}

/** The system does not permit it, for example from inside a sandbox. Says nothing about the peer. */
export class AccessDenied extends Schema.TaggedError<AccessDenied>()("AccessDenied", {
  /** The socket, capability file or directory. */
  path: Schema.String,
  /** The errno. */
  code: Schema.String
}) {
  override get message() {
    return `not permitted to use ${this.path} (${this.code}): a sandbox, or the wrong user`
  }
}

/** The peer could not be told from an impostor. Nothing was sent to it. */
export class PeerUntrusted extends Schema.TaggedError<PeerUntrusted>()("PeerUntrusted", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** Why it cannot be trusted. */
  problem: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} cannot be trusted: ${this.problem}`
  }
}

/** The peer refused the token of its capability file; most likely it restarted a moment ago. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} refused the token of its capability file: look it up again`
  }
}

/** The peer's inbox is at a limit. */
export class InboxFull extends Schema.TaggedError<InboxFull>()("InboxFull", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** How long the peer says to wait; a peer of protocol 1 does not say. */
  retryAfter: Schema.Option(Schema.Duration)
}) {
  override get message() {
    const when = Option.match(this.retryAfter, { onNone: () => "later", onSome: (d) => `after ${Duration.format(d)}` })
    return `the inbox of ${this.socketPath} is full: try again ${when}`
  }
}

/** The message with its envelope is longer than a frame may be. Nothing was sent. */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>()("MessageTooLarge", {
  /** The bytes of the whole frame, its LF not counted. */
  bytes: Schema.Int,
  /** The limit `maxFrameBytes`, in bytes. */
  maxBytes: Schema.Int
}) {
  override get message() {
    return `message of ${this.bytes} bytes exceeds the limit of ${this.maxBytes}: send it in parts, or send a file's name`
  }
}

/** No answer within the deadline. */
export class Timeout extends Schema.TaggedError<Timeout>()("Timeout", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** Whether the peer may have stored the message; otherwise it was not sent. */
  mayBeStored: Schema.Boolean
}) {
  override get message() {
    return `no answer from ${this.socketPath} in time; ${doubt(this.mayBeStored)}`
  }
}

/** The connection ended before the answer. */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>()("ConnectionLost", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** Whether the peer may have stored the message; otherwise it was not sent. */
  mayBeStored: Schema.Boolean
}) {
  override get message() {
    return `the connection to ${this.socketPath} ended before the answer; ${doubt(this.mayBeStored)}`
  }
}

/** The peer has stored the message, and its handler failed. */
export class HandlerFailed extends Schema.TaggedError<HandlerFailed>()("HandlerFailed", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} has the message, but its handler failed`
  }
}

/** The peer speaks protocol 1, which has no answers and no receipts. Nothing was sent. */
export class NotSupported extends Schema.TaggedError<NotSupported>()("NotSupported", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** What was asked for: answers or receipts. */
  what: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} speaks protocol 1, which has no ${this.what}`
  }
}

/** The peer refused for another reason, in its own words, escaped and at most `maxRemoteErrorBytes` long. */
export class Rejected extends Schema.TaggedError<Rejected>()("Rejected", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** The peer's words. */
  text: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} refused: ${this.text}`
  }
}

/** What came back is not the protocol. The message may have been stored. */
export class InvalidReply extends Schema.TaggedError<InvalidReply>()("InvalidReply", {
  /** Where the peer listens, or should. */
  socketPath: Schema.String,
  /** Which rule the reply breaks; it never repeats the reply. */
  problem: Schema.String
}) {
  override get message() {
    return `the peer at ${this.socketPath} answered outside the protocol (${this.problem}); ${doubt(true)}`
  }
}

/** Why `send`, `ask` or `ping` failed. */
export class MessagingError extends Schema.TaggedError<MessagingError>()("MessagingError", {
  /** What happened. */
  reason: Schema.Union([
    InvalidAddress,
    NameNotUnique,
    PathTooLong,
    InvalidMessage,
    MessageTooLarge,
    PeerNotFound,
    PeerUnreachable,
    AccessDenied,
    PeerUntrusted,
    Unauthorized,
    InboxFull,
    Timeout,
    ConnectionLost,
    HandlerFailed,
    NotSupported,
    Rejected,
    InvalidReply
  ])
}) {
  override get message() {
    return this.reason.message
  }
}

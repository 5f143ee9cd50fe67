/**
 * One request to one peer: PROTOCOL.md section 3.7. Connect, send one frame with the token of the target, read until
 * its answer, all within one absolute deadline.
 *
 * The token always comes from the target's own capability file; the one of this process never leaves it here. It is
 * sent only to a socket that nobody but this user, or root, can have put there.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Socket from "effect/socket/Socket"
import { Capability, type CapabilityError } from "./Capability.ts"
import * as Framing from "./Framing.ts"
import { remoteText } from "./internal/remoteText.ts"
import { Limits } from "./Limits.ts"
import * as Message from "./Message.ts"
import {
  AccessDenied,
  ConnectionLost,
  InboxFull,
  InvalidReply,
  MessageTooLarge,
  MessagingError,
  PeerNotFound,
  PeerUnreachable,
  PeerUntrusted,
  Rejected,
  Timeout,
  Unauthorized
} from "./MessagingError.ts"
import { type DialError, Transport } from "./Transport.ts"

export interface Client {
  /**
   * Sends `message` to the endpoint at `socketPath` and gives its answer, a `response` or a `pong`. Fails with
   * `MessagingError`. `timeout` covers everything from the lookup on.
   */
  readonly request: (
    socketPath: string,
    message: Message.Message,
    timeout: Duration.Input
  ) => Effect.Effect<Message.Message, MessagingError>
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

const fromCapability = (socketPath: string) => ({ reason }: CapabilityError): MessagingError => {
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

export const make: Effect.Effect<Client, never, Capability | Transport> = Effect.gen(function*() {
  const capability = yield* Capability
  const transport = yield* Transport
  const limits = yield* Limits

  const refusal = (socketPath: string, text: string) => {
    switch (text) {
      case Message.errorTexts.unauthorized:
        return fail(new Unauthorized({ socketPath }))
      case Message.errorTexts.inboxFull:
        return fail(new InboxFull({ socketPath, retryAfter: Option.none() }))
      default:
        return fail(new Rejected({ socketPath, text: remoteText(text, limits.maxRemoteErrorBytes) }))
    }
  }

  /** The first answer among what arrives; blank lines and other types are skipped. */
  const answer = Effect.fnUntraced(function*(
    socketPath: string,
    pull: Effect.Effect<ReadonlyArray<Uint8Array>, Socket.SocketError>,
    wanted: Message.MessageType
  ) {
    const decoder = Framing.makeDecoder(limits)
    while (true) {
      const chunks = yield* Effect.mapError(pull, () => fail(new ConnectionLost({ socketPath, mayBeStored: true })))
      const frames: Array<Framing.Frame> = []
      let problem: Framing.FramingError | undefined
      for (const chunk of chunks) problem ??= decoder.push(chunk, frames)
      for (const frame of frames) {
        const reply = Message.decodeResult(frame.value)
        if (Result.isFailure(reply)) continue
        const { data, type } = reply.success
        if (type === "response" || type === wanted) return reply.success
        if (type === "error") return yield* refusal(socketPath, data ?? "")
      }
      if (problem !== undefined) return yield* fail(new InvalidReply({ socketPath, problem: problem.message }))
    }
  })

  return {
    request: (socketPath, message, timeout) =>
      Effect.suspend(() => {
        let sent = false
        return Effect.gen(function*() {
          const { token } = yield* Effect.mapError(capability.lookup(socketPath), fromCapability(socketPath))
          const frame = yield* Effect.mapError(
            Effect.fromResult(Framing.encodeFrame(message, limits, { authToken: Redacted.value(token) })),
            fromFraming(limits.maxFrameBytes)
          )
          yield* Effect.mapError(transport.verify(socketPath), fromDial(socketPath))
          const socket = yield* Effect.mapError(transport.dial(socketPath), fromDial(socketPath))
          const lost = () => fail(new ConnectionLost({ socketPath, mayBeStored: sent }))
          const pull = yield* Effect.mapError(Socket.readerBytes(socket), lost)
          const writer = yield* socket.writer
          sent = true
          // Beside the reading, so that an error the peer sends meanwhile is read; a failed write shows there too.
          yield* Effect.forkChild(Effect.ignore(writer.write(frame)), { startImmediately: true })
          return yield* answer(socketPath, pull, message.type === "ping" ? "pong" : "response")
        }).pipe(
          Effect.scoped,
          Effect.timeoutOrElse({
            duration: timeout,
            orElse: () => Effect.fail(fail(new Timeout({ socketPath, mayBeStored: sent })))
          })
        )
      })
  }
})

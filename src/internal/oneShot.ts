/**
 * Protocol 1 from the client's side (PROTOCOL.md section 5): a connection for one frame with the token of the target, and
 * its answer. A refusal ends a connection of protocol 1 together with whatever else is on it, so messages do not share.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as Framing from "../Framing.ts"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import { ConnectionLost, InboxFull, InvalidReply, MessagingError, Rejected, Unauthorized } from "../MessagingError.ts"
import { remoteText } from "./remoteText.ts"

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

const refusal = (socketPath: string, text: string, limits: Values) => {
  switch (text) {
    case Message.errorTexts.unauthorized:
      return fail(new Unauthorized({ socketPath }))
    case Message.errorTexts.inboxFull:
      return fail(new InboxFull({ socketPath, retryAfter: Option.none() }))
    default:
      return fail(new Rejected({ socketPath, text: remoteText(text, limits.maxRemoteErrorBytes) }))
  }
}

/** The first answer among what arrives, a `response` or what is `wanted`; blank lines and other types are skipped. */
const answer = Effect.fnUntraced(function*(
  socketPath: string,
  pull: Effect.Effect<ReadonlyArray<Uint8Array>, Socket.SocketError>,
  wanted: Message.MessageType,
  limits: Values
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
      if (type === "error") return yield* refusal(socketPath, data ?? "", limits)
    }
    if (problem !== undefined) return yield* fail(new InvalidReply({ socketPath, problem: problem.message }))
  }
})

/** Sends the frame and gives its answer. `onSent` is called just before anything is written. */
export const exchange: (
  socketPath: string,
  socket: Socket.Socket,
  frame: string,
  wanted: Message.MessageType,
  limits: Values,
  onSent: () => void
) => Effect.Effect<Message.Message, MessagingError, Scope.Scope> = Effect.fnUntraced(
  function*(socketPath, socket, frame, wanted, limits, onSent) {
    const pull = yield* Effect.mapError(
      Socket.readerBytes(socket),
      () => fail(new ConnectionLost({ socketPath, mayBeStored: false }))
    )
    const writer = yield* socket.writer
    onSent()
    // Beside the reading, so that an error the peer sends meanwhile is read; a failed write shows there too.
    yield* Effect.forkChild(Effect.ignore(writer.write(frame)), { startImmediately: true })
    return yield* answer(socketPath, pull, wanted, limits)
  }
)

/** The client's half of protocol 2's handshake: the server proves itself before anything but a nonce is sent. */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Socket from "effect/socket/Socket"
import type * as Framing from "../Framing.ts"
import * as Handshake from "../Handshake.ts"
import * as Message from "../Message.ts"
import { ConnectionLost, MessagingError, PeerUntrusted, Unauthorized } from "../MessagingError.ts"
import type * as wires from "./wire.ts"

/** An endpoint as its capability file describes it. */
export interface Identity {
  readonly socketPath: string
  readonly token: Redacted.Redacted<string>
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

type Frames<A> = ReadonlyArray<Framing.Frame | A>

/** Frames as they arrive, batch by batch. Nothing after a bad one. Belongs to the one fiber that reads the connection. */
export class Reader<A = never> {
  readonly #decoder: Framing.Decoder<A>
  // Told once the frames before it have been.
  #problem: Framing.FramingError | undefined
  /** The next batch. */
  readonly read: Effect.Effect<Frames<A>, Socket.SocketError | Framing.FramingError>

  constructor(pull: wires.Wire["pull"], decoder: Framing.Decoder<A>) {
    this.#decoder = decoder
    this.read = Effect.suspend(() =>
      this.#problem === undefined ? Effect.flatMap(pull, this.#decodeOrReadOn) : Effect.fail(this.#problem)
    )
  }

  /** Has `take` take each further batch of what `wire` receives, until it answers with an effect that fails. */
  receive<E>(
    wire: Pick<wires.Wire, "receive">,
    take: (frames: Frames<A>) => Effect.Effect<void, E> | undefined
  ): Effect.Effect<never, E | Socket.SocketError | Framing.FramingError> {
    const problem = () => this.#problem === undefined ? undefined : Effect.fail(this.#problem)
    return Effect.suspend(() =>
      problem() ?? wire.receive<E | Framing.FramingError>((chunks) => {
        const frames = this.#decode(chunks)
        return (frames.length > 0 ? take(frames) : undefined) ?? problem()
      })
    )
  }

  #decode(chunks: wires.Chunks): Frames<A> {
    const frames: Array<Framing.Frame | A> = []
    for (const chunk of chunks) this.#problem ??= this.#decoder.push(chunk, frames)
    return frames
  }

  readonly #decodeOrReadOn = (chunks: wires.Chunks) => {
    const frames = this.#decode(chunks)
    return frames.length > 0 ? Effect.succeed(frames) : this.read
  }
}

/**
 * Says hello and judges the challenge. Answers with what was proved and the frames that came behind it. Fails with
 * `PeerUntrusted` when the peer does not prove that it knows `peer.token`; it has then learned a nonce and `from`.
 */
export const greet = Effect.fnUntraced(function*<A extends object>(
  peer: Identity,
  from: string | undefined,
  read: Effect.Effect<ReadonlyArray<Framing.Frame | A>, Socket.SocketError | Framing.FramingError>,
  write: (text: string) => Effect.Effect<void, Socket.SocketError>
) {
  const { socketPath } = peer
  const clientNonce = Handshake.newNonce()
  yield* write(`${JSON.stringify({ type: "hello", protocol: Message.protocol2, nonce: clientNonce, from })}\n`)
  const [first, ...rest] = yield* read
  // A line that a shortcut knows is no challenge.
  const answer = first !== undefined && "value" in first ? first.value : undefined
  const challenge = Handshake.decodeChallenge(answer)
  if (Result.isFailure(challenge)) {
    const refusal = Message.decodeResult(answer)
    const text = Result.isSuccess(refusal) && refusal.success.type === "error" ? refusal.success.data : undefined
    return yield* text === Message.errorTexts.unauthorized
      ? fail(new Unauthorized({ socketPath }))
      : fail(new PeerUntrusted({ socketPath, problem: "it did not answer the handshake" }))
  }
  const { nonce: serverNonce, proof } = challenge.success
  const transcript: Handshake.Transcript = { path: socketPath, from, clientNonce, serverNonce }
  if (!Handshake.isProof(Handshake.prove("server", peer.token, transcript), proof)) {
    return yield* fail(new PeerUntrusted({ socketPath, problem: "it could not prove that it knows its own token" }))
  }
  return { transcript, rest }
}, (greeting, { socketPath }) =>
  Effect.catchTags(greeting, {
    SocketError: () => Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false }))),
    FramingError: () => Effect.fail(fail(new PeerUntrusted({ socketPath, problem: "it did not answer the handshake" })))
  }))

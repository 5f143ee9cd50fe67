/**
 * One dialled connection of protocol 2, shared by every fiber that talks to the peer: many requests in flight, one write
 * for all that have gathered, each answer matched by the id it names.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Framing from "../Framing.ts"
import * as Handshake from "../Handshake.ts"
import type { Size } from "../Inbox.ts"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import { ConnectionLost, MessagingError } from "../MessagingError.ts"
import * as acks from "./ack.ts"
import { dial, type Writing } from "./dialled.ts"
import { greet, type Identity, Reader } from "./greeting.ts"
import type { MessageIds } from "./messageIds.ts"
import { refusal } from "./refusal.ts"
import type { Carried, End, Link, Request } from "./request.ts"

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

const stringOf = (value: unknown) => typeof value === "string" ? value : undefined

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0

/** What an inbox holds, as a peer tells it, which it need not. */
const sizeOf = (value: unknown): { readonly inbox: Size } | undefined => {
  if (typeof value !== "object" || value === null) return undefined
  const { bytes, entries } = value as Record<string, unknown>
  return isCount(entries) && isCount(bytes) ? { inbox: { entries, bytes } } : undefined
}

const lost = (): Effect.Effect<never, End> => Effect.fail({ _tag: "Lost" })

/**
 * Proves both ends on `socket`; the connection then lasts as long as the scope. Fails with `PeerUntrusted` before
 * anything but a nonce was sent, when the peer cannot prove that it knows `token`. `ordinalOf` tells which request an id
 * names.
 */
export const make = Effect.fnUntraced(function*(
  socket: Socket.Socket,
  peer: Identity,
  own: Identity | undefined,
  limits: Values,
  ordinalOf: MessageIds["ordinalOf"],
  writing: Writing
): Effect.fn.Return<Link, MessagingError, Scope.Scope> {
  const { socketPath } = peer
  const { outbox, wire } = yield* Effect.mapError(
    dial(socket, writing),
    () => fail(new ConnectionLost({ socketPath, mayBeStored: false }))
  )
  const decoder = Framing.makeDecoder(limits, (text, start, end) => acks.read(text, start, end, ordinalOf))
  const reader = new Reader(wire.pull, decoder)
  const { rest, transcript } = yield* greet(
    peer,
    own?.socketPath,
    reader.read,
    (text) => wire.write(text) ?? Effect.void
  )
  let sent = 0
  const say = (frame: object) => outbox.push(`${JSON.stringify(frame)}\n`)
  // In one write with what is submitted before `run` begins.
  say({
    type: "auth",
    proof: Handshake.prove("client", peer.token, transcript),
    fromProof: own === undefined ? undefined : Handshake.prove("client", own.token, transcript)
  })

  const run = ({ fail: failOne, inFlight, proceed, succeed }: Carried): Effect.Effect<End> => {
    const stored = (request: Request, id: string, data: string) => {
      request.id = Option.some(id)
      if (request.until === "stored") succeed(request, { id: request.id, data })
    }
    const dispatch = ({ data = "", meta = {}, type }: Message.Message) => {
      const answered = stringOf(meta["inReplyTo"])
      const ordinal = ordinalOf(answered ?? stringOf(meta["messageId"]) ?? "")
      const request = ordinal === undefined ? undefined : inFlight.get(ordinal)
      if (request === undefined) return
      switch (type) {
        case "error":
          return failOne(request, refusal(peer, data, meta, limits))
        case "pong":
          return request.until === "pong"
            ? succeed(request, { id: Option.none(), data, ...sizeOf(meta["inbox"]) })
            : undefined
        case "response": {
          const id = stringOf(meta["id"])
          if (id !== undefined) return stored(request, id, data)
          if (answered === undefined ? request.until === "handled" : request.until === "answered") {
            succeed(request, { id: request.id, data })
          }
        }
      }
    }

    /**
     * The peer's last word, which names no request. Replies come in order, so where a frame was its cause, that was the
     * first one without an ack, and nothing behind it has been looked at.
     */
    const endOf = (text: string): End => {
      switch (text) {
        case Message.errorTexts.unauthorized:
          return { _tag: "Distrusted", error: refusal(peer, text, {}, limits) }
        case Message.errorTexts.authenticationTimeout:
        case Message.errorTexts.idleTimeout:
        case Message.errorTexts.frameTimeout:
          return { _tag: "Lost" }
        default: {
          const unanswered = Array.from(inFlight.values()).filter(({ id }) => Option.isNone(id))
          const [first] = unanswered.sort((a, b) => a.sent - b.sent)
          if (first !== undefined) failOne(first, refusal(peer, text, {}, limits))
          return { _tag: "Refused" }
        }
      }
    }

    /** Tells each request what it was answered, until the peer has said its last word. */
    const receive = (batch: ReadonlyArray<Framing.Frame | acks.Ack>): End | undefined => {
      for (const item of batch) {
        if (item instanceof acks.Ack) {
          const request = inFlight.get(item.ordinal)
          if (request !== undefined) stored(request, item.id, "ok")
          continue
        }
        const reply = Message.fromJson(item.value)
        if (reply === undefined) continue
        if (reply.type === "error" && reply.meta === undefined) return endOf(reply.data ?? "")
        dispatch(reply)
      }
      proceed()
      return undefined
    }
    const take = (batch: ReadonlyArray<Framing.Frame | acks.Ack>) => {
      const end = receive(batch)
      return end === undefined ? undefined : Effect.fail(end)
    }
    const receiving = Effect.suspend(() => take(rest) ?? reader.receive(wire, take)).pipe(
      Effect.catchTags({ SocketError: lost, FramingError: lost }),
      Effect.flip
    )
    let pings = 0
    const keepAlive = Effect.forever(Effect.andThen(
      Effect.sleep(limits.keepAliveInterval),
      Effect.sync(() => {
        if (inFlight.size === 0) return
        say({ type: "ping", meta: { messageId: `keep-alive-${++pings}` } })
        outbox.wake()
      })
    ))
    outbox.wake()
    return Effect.raceFirst(receiving, keepAlive)
  }

  return {
    isRepeatable: true,
    backlog: () => outbox.size,
    submit: (request) => {
      request.id = Option.none()
      request.sent = ++sent
      outbox.push(request.frame, request.bytes)
      outbox.wake()
    },
    run
  }
})

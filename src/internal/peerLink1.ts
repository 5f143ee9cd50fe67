/**
 * One dialled connection of protocol 1: every frame carries the token of the target, and answers name nothing, so they
 * are matched by order.
 *
 * A refusal ends such a connection together with what else is on it. A peer that keeps to the protocol has then looked
 * at nothing behind the refused frame; one that has, and says so before it hangs up, is heard.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as Framing from "../Framing.ts"
import type { Values } from "../Limits.ts"
import * as Message from "../Message.ts"
import { ConnectionLost, InvalidReply, MessagingError, NotSupported } from "../MessagingError.ts"
import { dial, type Writing } from "./dialled.ts"
import { type Identity, Reader } from "./greeting.ts"
import { refusal } from "./refusal.ts"
import type { Carried, End, Link, Request } from "./request.ts"

/** What a protocol 1 peer has no word for. */
const unsupported = { handled: "receipts", answered: "answers" } as const

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

/**
 * The connection lasts as long as the scope. `encode` makes the whole frame, with the token. The token has left this
 * process when `run` begins, so `socket` must lead to nobody else.
 */
export const make = Effect.fnUntraced(function*(
  socket: Socket.Socket,
  peer: Identity,
  encode: (message: Message.Message) => Result.Result<string, MessagingError>,
  limits: Values,
  writing: Writing
): Effect.fn.Return<Link, MessagingError, Scope.Scope> {
  const { socketPath } = peer
  const { outbox, wire } = yield* Effect.mapError(
    dial(socket, writing),
    () => fail(new ConnectionLost({ socketPath, mayBeStored: false }))
  )
  const { read } = new Reader(wire.pull, Framing.makeDecoder(limits))
  // Written and not answered, oldest first; also those that nobody waits for any more, since they will be answered.
  const unanswered: Array<Request> = []
  // Whether the one error of a connection has come. What follows it is only said by peers that read on.
  let refused = false
  let answered = false

  const run = (carried: Carried): Effect.Effect<End> => {
    /** The oldest of those that are unanswered, if somebody still waits for it. */
    const next = () => {
      const request = unanswered.shift()
      return request !== undefined && carried.inFlight.get(request.ordinal) === request ? request : undefined
    }
    const failNext = (error: MessagingError) => {
      const request = next()
      if (request !== undefined) carried.fail(request, error)
    }
    const refuse = (text: string): End | undefined => {
      if (text === Message.errorTexts.unauthorized) {
        return { _tag: "Distrusted", error: refusal(peer, text, {}, limits) }
      }
      refused = true
      // A peer that has waited for more in vain has looked at nothing that crosses its last word.
      const crossed = answered && text === Message.errorTexts.idleTimeout
      if (!crossed) failNext(refusal(peer, text, {}, limits))
      return undefined
    }
    const receive = (batch: ReadonlyArray<Framing.Frame>): End | undefined => {
      for (const { value } of batch) {
        const reply = Message.fromJson(value)
        if (reply === undefined) continue
        const { data = "", meta, type } = reply
        if (type === "response" || (type === "pong" && unanswered[0]?.until === "pong")) {
          answered = true
          const id = meta?.["id"]
          const request = next()
          const answer = { id: typeof id === "string" ? Option.some(id) : Option.none(), data }
          if (request !== undefined) carried.succeed(request, answer)
        } else if (type === "error" && !refused) {
          const end = refuse(data)
          if (end !== undefined) return end
        }
      }
      if (!refused) carried.proceed()
      return undefined
    }

    const readOn: Effect.Effect<End> = Effect.matchEffect(read, {
      onSuccess: (batch) => {
        const wasRefused = refused
        const end = receive(batch)
        if (end !== undefined) return Effect.succeed(end)
        // The peer hangs up now. It gets no longer for that than we would give it.
        return refused && !wasRefused
          ? Effect.timeoutOrElse(readOn, {
            duration: limits.closeTimeout,
            orElse: () => Effect.succeed<End>({ _tag: "Refused" })
          })
          : readOn
      },
      onFailure: (error) =>
        Effect.sync((): End => {
          if (refused) return { _tag: "Refused" }
          if (error._tag === "FramingError") {
            failNext(fail(new InvalidReply({ socketPath, problem: error.message })))
          }
          return { _tag: "Lost" }
        })
    })
    return readOn
  }

  return {
    isRepeatable: false,
    // Nothing more for a peer that is hanging up.
    backlog: () => refused ? Infinity : outbox.size,
    submit: (request, carried) => {
      if (request.until === "handled" || request.until === "answered") {
        return carried.fail(request, fail(new NotSupported({ socketPath, what: unsupported[request.until] })))
      }
      const frame = encode(request.message)
      if (Result.isFailure(frame)) return carried.fail(request, frame.failure)
      unanswered.push(request)
      outbox.push(frame.success)
      outbox.wake()
    },
    run
  }
})

/** One request to a peer, from the call to its end, whichever connections carry it. */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Size } from "../Inbox.ts"
import type { Message } from "../Message.ts"
import type { MessagingError } from "../MessagingError.ts"
import type { Placed } from "./fifo.ts"

/** What a request waits for: the ack, the end of its handling, the answer to a query, or a pong. */
export type Until = "stored" | "handled" | "answered" | "pong"

export interface Answer {
  /** The id of the entry, which the ack told. */
  readonly id: Option.Option<string>
  /** The answer to a query. */
  readonly data: string
  /** What the peer's inbox holds, where a pong tells it. */
  readonly inbox?: Size | undefined
}

export interface Request extends Placed {
  /** Counts up, one for each request of a client: what was asked first goes first, also again. */
  readonly ordinal: number
  readonly messageId: string
  readonly message: Message
  /** The message as a frame of protocol 2. */
  readonly frame: string
  /** Bytes of `frame`, which count against `maxInFlightBytes`. */
  readonly bytes: number
  readonly until: Until
  /** Whether a full inbox is asked again, when it says, within the deadline. */
  readonly retryWhenFull: boolean
  /** In milliseconds of the client's monotonic clock. */
  readonly deadline: number
  /** The id of the entry, once the ack has told it. Written by the link that carries the request. */
  id: Option.Option<string>
  /** Counts up with each request that a connection takes on. Written by the link. */
  sent: number
  /** Whether a connection that had it was lost. Written by the peer. */
  mayBeStored: boolean
  /** Tells the caller, once, of whichever comes first. */
  readonly succeed: (answer: Answer) => void
  readonly fail: (error: MessagingError) => void
}

/** What a connection has of the requests it carries. */
export interface Carried {
  /** Sent, or about to be, and not ended, by ordinal. */
  readonly inFlight: Pick<ReadonlyMap<number, Request>, "get" | "size"> & { readonly values: () => Iterable<Request> }
  readonly succeed: (request: Request, answer: Answer) => void
  readonly fail: (request: Request, error: MessagingError) => void
  /** All that has arrived together has been told; the socket takes more. */
  readonly proceed: () => void
}

/**
 * Why a connection ended, and so what became of the requests it carried: `Lost`, nobody knows; `Refused`, the peer has
 * said so for one of them and has looked at none behind it; `Distrusted`, it is no use to try again.
 */
export type End =
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Distrusted"; readonly error: MessagingError }

/** One connection to a peer, in the protocol that the peer speaks. */
export interface Link {
  /** Whether a request may be repeated without being stored twice. */
  readonly isRepeatable: boolean
  /** Has the request written with the next batch; settles it at once where the peer has no word for it. */
  readonly submit: (request: Request, carried: Carried) => void
  /** Bytes that the socket has not taken yet. */
  readonly backlog: () => number
  /** Carries requests until the connection ends. */
  readonly run: (carried: Carried) => Effect.Effect<End>
}

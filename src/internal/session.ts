/** What the two protocols share: how a session is told of a frame, and what it may say. */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Frame } from "../Framing.ts"
import type { Meter, Reason } from "./metrics.ts"

/** The expected ends of a connection, other than the peer's own hanging up. */
export class Refused extends Data.TaggedError("Refused")<{
  /** The error frame's text, or undefined to say nothing. */
  readonly text: string | undefined
  readonly reason: Reason
}> {}

/** The time at which a batch of frames is judged. */
export interface Moment {
  /** For ages, which setting the wall clock changes not. */
  readonly monotonicMillis: number
  readonly millis: number
  readonly iso: string
}

/** A frame is good (undefined), ends the connection, or is good and needs an effect before the next is judged. */
export type Verdict = Refused | undefined | Effect.Effect<void>

/** One protocol on one connection: judges its frames in order, and pushes the replies to its outbox. */
export interface Session {
  readonly judge: (frame: Frame, now: Moment) => Verdict
  /** The connection has ended. */
  readonly end: () => void
}

/** What a session has of its connection. */
export interface Link {
  readonly push: (reply: string) => void
  /** Asked once, when the peer has proved itself: is there room for one more? Starts the idle deadline. */
  readonly admit: () => boolean
  readonly meter: Meter
}

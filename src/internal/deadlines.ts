/**
 * The deadlines of all connections of one endpoint, kept by one timer whatever the traffic: activity only notes the
 * time, and the timer, when it goes off, looks which deadlines have really passed. A fiber with a timer for each
 * connection takes 8 KiB.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Values } from "../Limits.ts"
import * as expiries from "./expiry.ts"

export type Expired = "authentication" | "idle" | "frame" | "write" | "close"

/** Who has deadlines. */
export interface Watched {
  /** One was missed. Another one may be, later, until the watch has ended. */
  readonly onExpired: (kind: Expired) => void
}

/** The limits that are deadlines, in milliseconds. */
type Times = Readonly<Record<Expired, number>>

export interface Deadlines {
  /**
   * Begins to watch a connection that was just accepted. Bytes that had arrived before a deadline are judged first: the
   * connection's fiber gets some turns of the event loop, each of which reads what the system holds. A connection that
   * goes on after a pause, or has just begun, needs more than one.
   */
  readonly watch: (watched: Watched) => Watch
}

const turns = 4

/** The deadlines of one connection. It notes what happens there, and is forgotten when told of the end. */
export class Watch {
  readonly watched: Watched
  readonly #group: Group
  readonly #startedAt: number
  #activeAt: number
  #isAuthenticated = false
  #frameOrdinal: number | undefined
  #frameBegunAt = 0
  #writeBegunAt: number | undefined
  #closeBegunAt: number | undefined

  constructor(group: Group, watched: Watched) {
    this.#group = group
    this.watched = watched
    this.#startedAt = this.#activeAt = group.now()
    group.add(this)
  }
  authenticated() {
    this.#isAuthenticated = true
  }
  /** Bytes have arrived. Answers when: in milliseconds of the monotonic clock. */
  active(): number {
    return this.#activeAt = this.#group.now()
  }
  /** The ordinal of the frame that has begun and not ended, if one has. */
  frameBegun(ordinal: number | undefined) {
    if (ordinal === this.#frameOrdinal) return
    this.#frameOrdinal = ordinal
    if (ordinal === undefined) return
    this.#frameBegunAt = this.#group.now()
    this.#group.lookAt(this.#frameBegunAt + this.#group.times.frame)
  }
  writing() {
    this.#writeBegunAt = this.#group.now()
    this.#group.lookAt(this.#writeBegunAt + this.#group.times.write)
  }
  written() {
    this.#writeBegunAt = undefined
  }
  /** The last word has been said; from now on the peer has only the time to take it. */
  closing() {
    this.#closeBegunAt = this.#group.now()
    this.#group.add(this)
  }
  end() {
    this.#group.remove(this)
  }
  /** The earliest deadline, and what it is for. */
  next(): readonly [at: number, kind: Expired] {
    const { times } = this.#group
    if (this.#closeBegunAt !== undefined) return [this.#closeBegunAt + times.close, "close"]
    // While replies wait for the peer, nothing is read, so only the write can be late.
    if (this.#writeBegunAt !== undefined) return [this.#writeBegunAt + times.write, "write"]
    if (!this.#isAuthenticated) return [this.#startedAt + times.authentication, "authentication"]
    const idleAt = this.#activeAt + times.idle
    const frameAt = this.#frameBegunAt + times.frame
    return this.#frameOrdinal !== undefined && frameAt < idleAt ? [frameAt, "frame"] : [idleAt, "idle"]
  }
}

/** What the watches of one endpoint share. */
interface Group {
  readonly times: Times
  readonly now: () => number
  readonly lookAt: (deadline: number) => void
  readonly add: (watch: Watch) => void
  readonly remove: (watch: Watch) => void
}

/** `fork` runs the timer, as long as the endpoint lives. */
export const make = (
  limits: Values,
  clock: Clock.Clock,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
): Deadlines => {
  const times: Times = {
    authentication: Duration.toMillis(limits.authenticationTimeout),
    idle: Duration.toMillis(limits.idleTimeout),
    frame: Duration.toMillis(limits.frameTimeout),
    write: Duration.toMillis(limits.writeTimeout),
    close: Duration.toMillis(limits.closeTimeout)
  }
  // Setting the wall clock moves no deadline.
  const now = () => expiries.monotonicMillis(clock)
  // Written by `add` and `remove`; a watch is there as long as its connection.
  const watches = new Set<Watch>()

  const judge = (late: ReadonlyArray<Watch>) => {
    for (const watch of late) {
      const [at, kind] = watch.next()
      // It may have ended meanwhile, and then there is nobody to be told.
      if (!watches.has(watch)) continue
      if (at > now()) expiry.lookAt(at)
      else watch.watched.onExpired(kind)
    }
  }
  const look = (time: number): number => {
    const late: Array<Watch> = []
    let next = Infinity
    for (const watch of watches) {
      const [at] = watch.next()
      if (at <= time) late.push(watch)
      else if (at < next) next = at
    }
    if (late.length > 0) {
      fork(Effect.yieldNow.pipe(
        Effect.repeat({ times: turns - 1 }),
        Effect.andThen(Effect.sync(() => judge(late)))
      ))
    }
    return next
  }
  const expiry = expiries.make(clock, fork, look)

  const group: Group = {
    times,
    now,
    lookAt: expiry.lookAt,
    add: (watch) => {
      watches.add(watch)
      expiry.lookAt(watch.next()[0])
    },
    remove: (watch) => watches.delete(watch)
  }
  return { watch: (watched) => new Watch(group, watched) }
}

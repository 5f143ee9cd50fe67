/**
 * What one process has to say to one peer: the requests that wait, those in flight, and the connection that carries
 * them, which is made when there is something to carry and closed when nothing has been for a while.
 *
 * A request lost with its connection goes over the next one, in the old order, unless it might then be stored twice.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Values } from "../Limits.ts"
import { ConnectionLost, MessagingError, Timeout } from "../MessagingError.ts"
import { monotonicMillis } from "./expiry.ts"
import * as fifos from "./fifo.ts"
import { Numbered } from "./numbered.ts"
import type { Answer, Carried, End, Link, Request } from "./request.ts"

export interface Peer {
  /** Takes a request on. It is told of its end, unless it is abandoned. */
  readonly add: (request: Request) => void
  /** Nobody waits for the request any more. */
  readonly abandon: (request: Request) => void
  /** Fails what is due at `now` with `Timeout`, and says when the next is, or `Infinity`. */
  readonly expire: (now: number) => number
  /** Fails all there is. */
  readonly close: () => void
  /** Connects and carries requests until there are none for `connectionTimeout`, or the peer cannot be reached. */
  readonly run: Effect.Effect<void>
}

export interface Options {
  readonly socketPath: string
  readonly limits: Values
  readonly clock: Clock.Clock
  /** A new connection. Fails with `ConnectionLost` where it is worth trying again. */
  readonly connect: Effect.Effect<Link, MessagingError, Scope.Scope>
  /** Runs an effect beside everything else, as long as the client lives. */
  readonly fork: (effect: Effect.Effect<void>) => void
  readonly onRetry: () => void
  /** The peer has ended with nothing outstanding, and must not be given more. */
  readonly onEnd: () => void
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

/** Between tries to connect that led nowhere: 10 ms, doubling up to 400 ms, each jittered. */
const backOff = Schedule.jittered(Schedule.min([Schedule.exponential(10), Schedule.spaced(400)]))

const isLost = ({ reason }: MessagingError) => reason._tag === "ConnectionLost"

const inOrder = (requests: Iterable<Request>) => [...requests].sort((a, b) => a.ordinal - b.ordinal)

export const make = ({ clock, connect, fork, limits, onEnd, onRetry, socketPath }: Options): Peer => {
  // All of it changes in synchronous steps. A request is in exactly one of `waiting`, `patient`, `full` and `inFlight`,
  // or it has ended.
  const waiting = fifos.make<Request>()
  // Those that can wait for room in the inbox, and do while `isFull`; those it had no room for come first again.
  const patient = fifos.make<Request>()
  const full = new Set<Request>()
  let isFull = false
  const inFlight = new Numbered<Request>()
  let inFlightBytes = 0
  let link: Link | undefined
  // When the connection was last of use, in milliseconds, and whether it has been of any.
  let usedAt = 0
  let isUsed = false
  let hasAnswered = false
  // Opened to have the connection closed.
  const useless = Latch.makeUnsafe(false)
  const now = () => monotonicMillis(clock)

  const count = () => waiting.size() + patient.size() + full.size + inFlight.size

  const hasRoom = (to: Link, bytes: number) =>
    inFlight.size < limits.maxInFlightMessages &&
    to.backlog() < limits.maxInFlightBytes &&
    (inFlight.size === 0 || inFlightBytes + bytes <= limits.maxInFlightBytes)

  const next = (): Request | undefined => {
    const first = waiting.peek()
    const other = isFull ? undefined : patient.peek()
    return first === undefined || (other !== undefined && other.ordinal < first.ordinal) ? other : first
  }

  const handOver = (to: Link, request: Request) => {
    inFlight.set(request.ordinal, request)
    inFlightBytes += request.bytes
    isUsed = true
    to.submit(request, carried)
  }

  /** Hands over what there is room for. */
  const proceed = () => {
    for (let request = next(); request !== undefined; request = next()) {
      if (link === undefined || !hasRoom(link, request.bytes)) return
      waiting.remove(request)
      patient.remove(request)
      handOver(link, request)
    }
  }

  const queueOf = (request: Request) => request.retryWhenFull ? patient : waiting

  const add = (request: Request) => {
    const isFirst = !isFull && waiting.size() + patient.size() === 0
    if (isFirst && link !== undefined && hasRoom(link, request.bytes)) return handOver(link, request)
    queueOf(request).push(request)
    proceed()
  }

  /** Takes a request out of wherever it is. */
  const remove = (request: Request): boolean => {
    if (!inFlight.delete(request.ordinal)) {
      waiting.remove(request)
      patient.remove(request)
      full.delete(request)
      return false
    }
    inFlightBytes -= request.bytes
    return true
  }

  /** To where they were among those that wait. */
  const putBack = (requests: Iterable<Request>) => {
    const all = inOrder([...requests, ...waiting.toArray(), ...patient.toArray()])
    waiting.clear()
    patient.clear()
    for (const request of all) queueOf(request).push(request)
  }

  /**
   * The inbox is asked again when it said so, and a little later, so that not all its senders ask at once; but a peer has
   * no say over those that ask after `sendTimeout`.
   */
  const waitForRoom = (retryAfter: Duration.Duration) => {
    if (isFull) return
    isFull = true
    const wait = Duration.min(retryAfter, limits.sendTimeout)
    fork(Random.next.pipe(
      Effect.flatMap((jitter) => Effect.sleep(Duration.times(wait, 1 + jitter / 4))),
      Effect.andThen(Effect.sync(() => {
        isFull = false
        putBack(full)
        full.clear()
        proceed()
      }))
    ))
  }

  const succeed = (request: Request, answer: Answer) => {
    remove(request)
    isUsed = true
    hasAnswered = true
    request.succeed(answer)
  }
  const failOne = (request: Request, error: MessagingError) => {
    remove(request)
    isUsed = true
    hasAnswered = true
    const retryAfter = request.retryWhenFull ? retryAfterOf(error) : Option.none()
    if (Option.isNone(retryAfter)) return request.fail(error)
    full.add(request)
    waitForRoom(retryAfter.value)
  }

  // Whoever is told an end may give up others in the same step; those are told none.
  const isHere = (request: Request) =>
    inFlight.get(request.ordinal) === request || waiting.has(request) || patient.has(request) || full.has(request)
  const all = () => inOrder([...inFlight.values(), ...waiting.toArray(), ...patient.toArray(), ...full])

  const failAll = (error: (mayBeStored: boolean) => MessagingError) => {
    for (const request of all()) {
      if (!isHere(request)) continue
      const mayBeStored = remove(request) || request.mayBeStored
      request.fail(error(mayBeStored))
    }
  }

  /** What the connection did not bring to an end goes back to those that wait, or fails where that is not safe. */
  const recall = (end: End, isRepeatable: boolean) => {
    const again: Array<Request> = []
    for (const request of inFlight.values()) {
      remove(request)
      if (end._tag === "Lost") request.mayBeStored = true
      if (end._tag === "Lost" && !isRepeatable) {
        request.fail(fail(new ConnectionLost({ socketPath, mayBeStored: true })))
      } else {
        again.push(request)
        if (end._tag !== "Distrusted") onRetry()
      }
    }
    putBack(again)
  }

  /** Ends, and the connection with it, when nothing has been asked for a while. */
  const idle = Effect.suspend((): Effect.Effect<void> => {
    const left = Duration.toMillis(limits.connectionTimeout) - (now() - usedAt)
    if (count() > 0) return Effect.andThen(Effect.sleep(limits.connectionTimeout), idle)
    if (left > 0) return Effect.andThen(Effect.sleep(left), idle)
    link = undefined
    return Effect.void
  })

  const carried: Carried = {
    inFlight,
    succeed,
    fail: failOne,
    proceed: () => {
      // What a peer says unasked keeps no connection open.
      if (isUsed) usedAt = now()
      isUsed = false
      proceed()
    }
  }

  const carry = (made: Link) =>
    Effect.suspend(() => {
      usedAt = now()
      hasAnswered = false
      link = made
      useless.closeUnsafe()
      proceed()
      // Nothing is handed over between the end of the connection and what follows from it.
      const running = Effect.ensuring(
        made.run(carried),
        Effect.sync(() => {
          link = undefined
        })
      )
      return Effect.raceAllFirst([running, Effect.as(idle, undefined), Effect.as(useless.await, undefined)])
    })

  /** One connection, from its making to its end. Fails where it was of no use; then the next one can wait a little. */
  const session = Effect.scoped(Effect.gen(function*() {
    // All may have given up since the last try.
    if (count() === 0) return
    const made = yield* connect
    const end = yield* carry(made)
    if (end === undefined) return
    recall(end, made.isRepeatable)
    if (end._tag === "Distrusted") return yield* end.error
    if (!hasAnswered) return yield* fail(new ConnectionLost({ socketPath, mayBeStored: true }))
  }))

  const run: Effect.Effect<void> = session.pipe(
    Effect.retry({ schedule: backOff, while: (error) => isLost(error) && count() > 0 }),
    Effect.matchEffect({
      onSuccess: () => Effect.undefined,
      onFailure: Effect.succeed
    }),
    // Asked and ended in one step, so that nothing is added to a peer that has ended.
    Effect.flatMap((error) => {
      if (count() > 0 && (error === undefined || isLost(error))) return run
      onEnd()
      if (error !== undefined) {
        failAll((mayBeStored) =>
          // Whatever keeps it from being asked again, an earlier connection may have brought it there.
          mayBeStored ? fail(new ConnectionLost({ socketPath, mayBeStored })) : error
        )
      }
      return Effect.void
    })
  )

  const expire = (now: number) => {
    let next = Infinity
    for (const request of all()) {
      if (!isHere(request)) continue
      if (request.deadline > now) {
        next = Math.min(next, request.deadline)
        continue
      }
      const wasInFlight = remove(request)
      // A peer that does not answer the last thing it was sent is not worth its connection.
      if (wasInFlight && inFlight.size === 0 && Option.isNone(request.id)) {
        link = undefined
        useless.openUnsafe()
      }
      request.fail(fail(new Timeout({ socketPath, mayBeStored: wasInFlight || request.mayBeStored })))
    }
    proceed()
    return next
  }

  return {
    add,
    abandon: (request) => {
      remove(request)
      proceed()
    },
    expire,
    close: () => failAll((mayBeStored) => fail(new ConnectionLost({ socketPath, mayBeStored }))),
    run
  }
}

/** When a full inbox asked to be tried again, if that is what the request failed of. */
const retryAfterOf = ({ reason }: MessagingError) => reason._tag === "InboxFull" ? reason.retryAfter : Option.none()

/**
 * What one process has to say to one peer: the requests that wait, those in flight, and the connection that carries
 * them, which is made when there is something to carry and closed when nothing has been for a while.
 *
 * A request lost with its connection goes over the next one, in the old order, unless it might then be stored twice.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Values } from "../Limits.ts"
import { ConnectionLost, MessagingError } from "../MessagingError.ts"
import type { Answer, Carried, End, Link, Request } from "./request.ts"

export interface Peer {
  /** Takes a request on. It ends with its `done`, or when it is abandoned. */
  readonly add: (request: Request) => void
  /** Nobody waits for the request any more. Says whether it may have been stored. */
  readonly abandon: (request: Request) => boolean
  /** As `abandon`, because it has not been answered in time. A connection that carries nothing else is given up. */
  readonly expire: (request: Request) => boolean
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
/** The peer was there and is not any more: what it had stored is lost with it, or not. */
const isGone = ({ reason }: MessagingError) => reason._tag === "PeerNotFound" || reason._tag === "PeerUnreachable"

const inOrder = (requests: Iterable<Request>) => new Set([...requests].sort((a, b) => a.ordinal - b.ordinal))

export const make = ({ clock, connect, fork, limits, onEnd, onRetry, socketPath }: Options): Peer => {
  // All of it changes in synchronous steps. A request is in exactly one of `waiting`, `patient`, `full` and `inFlight`,
  // or it has ended. Sets and maps keep the order in which things were put in.
  let waiting = new Set<Request>()
  // Those that can wait for room in the inbox, and do while `isFull`; those it had no room for come first again.
  let patient = new Set<Request>()
  const full = new Set<Request>()
  let isFull = false
  const inFlight = new Map<string, Request>()
  let inFlightBytes = 0
  let link: Link | undefined
  // When the connection was last of use, in milliseconds, and whether it has been of any.
  let usedAt = 0
  let hasAnswered = false
  // Opened to have the connection closed.
  const useless = Latch.makeUnsafe(false)
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

  const outstanding = () => waiting.size + patient.size + full.size + inFlight.size

  const hasRoom = (to: Link, bytes: number) =>
    inFlight.size < limits.maxInFlightMessages &&
    to.backlog() < limits.maxInFlightBytes &&
    (inFlight.size === 0 || inFlightBytes + bytes <= limits.maxInFlightBytes)

  const next = (): Request | undefined => {
    const first = waiting.values().next().value
    const other = isFull ? undefined : patient.values().next().value
    return first === undefined || (other !== undefined && other.ordinal < first.ordinal) ? other : first
  }

  /** Hands over what there is room for. */
  const proceed = () => {
    if (link === undefined) return
    for (let request = next(); request !== undefined && hasRoom(link, request.frame.length); request = next()) {
      waiting.delete(request)
      patient.delete(request)
      inFlight.set(request.messageId, request)
      inFlightBytes += request.frame.length
      link.submit(request, carried)
    }
  }

  const add = (request: Request) => {
    if (request.retryWhenFull) patient.add(request)
    else waiting.add(request)
    proceed()
  }

  /** Takes a request out of wherever it is. */
  const remove = (request: Request): boolean => {
    if (!inFlight.delete(request.messageId)) {
      waiting.delete(request)
      patient.delete(request)
      full.delete(request)
      return false
    }
    inFlightBytes -= request.frame.length
    return true
  }

  /** The inbox is asked again when it said so, and a little later, so that not all its senders ask at once. */
  const waitForRoom = (retryAfter: Duration.Duration) => {
    if (isFull) return
    isFull = true
    fork(Random.next.pipe(
      Effect.flatMap((jitter) => Effect.sleep(Duration.times(retryAfter, 1 + jitter / 4))),
      Effect.andThen(Effect.sync(() => {
        isFull = false
        patient = inOrder([...full, ...patient])
        full.clear()
        proceed()
      }))
    ))
  }

  const settle = (request: Request, exit: Exit.Exit<Answer, MessagingError>) => {
    remove(request)
    hasAnswered = true
    if (request.retryWhenFull && Exit.isFailure(exit)) {
      const retryAfter = retryAfterOf(exit)
      if (retryAfter !== undefined) {
        full.add(request)
        return waitForRoom(retryAfter)
      }
    }
    request.done(exit)
  }

  const failAll = (error: (request: Request) => MessagingError) => {
    const all = inOrder([...waiting, ...patient, ...full, ...inFlight.values()])
    waiting.clear()
    patient.clear()
    full.clear()
    inFlight.clear()
    inFlightBytes = 0
    for (const request of all) request.done(Exit.fail(error(request)))
  }

  /** What the connection did not bring to an end goes back to those that wait, or fails where that is not safe. */
  const recall = (end: End, isRepeatable: boolean) => {
    const carried = [...inFlight.values()]
    inFlight.clear()
    inFlightBytes = 0
    const again: Array<Request> = []
    for (const request of carried) {
      if (end._tag === "Lost") request.mayBeStored = true
      if (end._tag === "Lost" && !isRepeatable) {
        request.done(Exit.fail(fail(new ConnectionLost({ socketPath, mayBeStored: true }))))
      } else {
        again.push(request)
        onRetry()
      }
    }
    if (again.length === 0) return
    waiting = inOrder([...again.filter(({ retryWhenFull }) => !retryWhenFull), ...waiting])
    patient = inOrder([...again.filter(({ retryWhenFull }) => retryWhenFull), ...patient])
  }

  /** Ends, and the connection with it, when nothing has been asked for a while. */
  const idle = Effect.suspend((): Effect.Effect<void> => {
    const left = Duration.toMillis(limits.connectionTimeout) - (now() - usedAt)
    if (outstanding() > 0) return Effect.andThen(Effect.sleep(limits.connectionTimeout), idle)
    if (left > 0) return Effect.andThen(Effect.sleep(left), idle)
    link = undefined
    return Effect.void
  })

  const carried: Carried = {
    inFlight,
    settle,
    proceed: () => {
      usedAt = now()
      proceed()
    }
  }

  const carry = (made: Link) =>
    Effect.suspend(() => {
      usedAt = now()
      hasAnswered = false
      link = made
      proceed()
      useless.closeUnsafe()
      return Effect.raceAllFirst([made.run(carried), Effect.as(idle, undefined), Effect.as(useless.await, undefined)])
    }).pipe(Effect.ensuring(Effect.sync(() => {
      link = undefined
    })))

  /** One connection, from its making to its end. Fails where it was of no use; then the next one can wait a little. */
  const session = Effect.scoped(Effect.gen(function*() {
    const made = yield* connect
    const end = yield* carry(made)
    if (end === undefined) return
    if (end._tag === "Distrusted") return yield* end.error
    recall(end, made.isRepeatable)
    if (!hasAnswered) return yield* fail(new ConnectionLost({ socketPath, mayBeStored: true }))
  }))

  const run: Effect.Effect<void> = session.pipe(
    Effect.retry({ schedule: backOff, while: (error) => isLost(error) && outstanding() > 0 }),
    Effect.matchEffect({
      onSuccess: () => Effect.succeed(undefined),
      onFailure: Effect.succeed
    }),
    // Asked and ended in one step, so that nothing is added to a peer that has ended.
    Effect.flatMap((error) => {
      if (outstanding() > 0 && (error === undefined || isLost(error))) return run
      onEnd()
      if (error !== undefined) {
        failAll(({ mayBeStored }) =>
          mayBeStored && isGone(error) ? fail(new ConnectionLost({ socketPath, mayBeStored })) : error
        )
      }
      return Effect.void
    })
  )

  const abandon = (request: Request) => {
    const wasInFlight = remove(request)
    if (wasInFlight) proceed()
    return wasInFlight || request.mayBeStored
  }

  return {
    add,
    abandon,
    expire: (request) => {
      const mayBeStored = abandon(request)
      if (mayBeStored && inFlight.size === 0 && Option.isNone(request.id)) {
        link = undefined
        useless.openUnsafe()
      }
      return mayBeStored
    },
    run
  }
}

/** When a full inbox asked to be tried again, if that is what the request failed of. */
const retryAfterOf = (exit: Exit.Failure<Answer, MessagingError>): Duration.Duration | undefined => {
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  return error?.reason._tag === "InboxFull" ? Option.getOrUndefined(error.reason.retryAfter) : undefined
}

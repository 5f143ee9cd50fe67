/**
 * The loop behind `Inbox.consume`: each entry's handler runs in a fiber of its own, so that what it forks ends with it,
 * and a handler that cancels itself is told from a loop that is cancelled. One fiber starts them; the end of one starts
 * the next, since waking a fiber costs more than most handlers.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type { Entry, Handler } from "../Inbox.ts"
import * as fifos from "./fifo.ts"
import * as trace from "./trace.ts"

/** The inbox as a consumer sees it. Every call is one synchronous step. */
export interface Source<A extends Answerable> {
  /** The oldest entry that waits; it then counts as in hand until `finish` or `putBack`. */
  readonly begin: () => A | undefined
  readonly finish: (entry: A, succeeded: boolean) => void
  readonly putBack: (entry: A) => void
  readonly isFilled: () => boolean
  /** Of answers that may wait without keeping others from being handled. */
  readonly maxWaitingCharacters: number
  /** Called when there is something to begin. */
  readonly consumers: Set<() => void>
}

/** A handler that has not ended. */
interface Handling extends fifos.Placed {
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

/** An entry whose answer may have to wait for its asker. */
export interface Answerable extends Entry {
  readonly room: () => Effect.Effect<void> | undefined
  /** As `reply`, there and then, whether or not there is room. */
  readonly answer: (data: string) => boolean
}

type Answer = (entry: Answerable, value: string) => Effect.Effect<unknown>

const handle = <E, R>(handler: Handler<E, R>, entry: Answerable, answer: Answer) => {
  const handled = Effect.suspend(() => handler(entry))
  const answered = entry.message.type === "query"
    ? Effect.tap(handled, (value) => typeof value === "string" ? answer(entry, value) : Effect.void)
    : handled
  return trace.continued(answered, "Inbox.consume", entry.traceparent, { id: entry.id, type: entry.message.type })
}

/** Handles entries until it is interrupted; what it has in hand then goes back. */
export const consume = <A extends Answerable, E, R>(
  source: Source<A>,
  handler: Handler<E, R>,
  concurrency: number
): Effect.Effect<never, never, R> =>
  Effect.contextWith((context: Context.Context<R>) => {
    const run = Effect.runForkWith(context)
    const inHand = fifos.make<Handling>()
    const ready = Latch.makeUnsafe(true)
    let isStarting = false
    let isStopping = false
    // Handled, but for an answer that waits for its asker to read.
    let waiting = 0
    let waitingCharacters = 0

    const answer: Answer = (entry, value) => {
      if (entry.room() === undefined) {
        entry.answer(value)
        return Effect.void
      }
      if (waitingCharacters + value.length > source.maxWaitingCharacters) return entry.reply(value)
      return Effect.acquireUseRelease(
        Effect.sync(() => {
          waiting++
          waitingCharacters += value.length
          wake()
        }),
        () => entry.reply(value),
        () =>
          Effect.sync(() => {
            waiting--
            waitingCharacters -= value.length
          })
      )
    }

    const settle = (entry: A, exit: Exit.Exit<unknown, unknown>) => {
      if (isStopping && Exit.hasInterrupts(exit)) return source.putBack(entry)
      source.finish(entry, Exit.isSuccess(exit))
      if (Exit.isFailure(exit)) run(Effect.logWarning(`the handler of ${entry.id} failed`, exit.cause))
    }
    const startNext = () => {
      const entry = source.begin()
      if (entry === undefined) return
      isStarting = true
      const fiber = run(handle(handler, entry, answer))
      isStarting = false
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return settle(entry, exit)
      const handling = { fiber, place: 0 }
      inHand.push(handling)
      fiber.addObserver((exit) => {
        inHand.remove(handling)
        settle(entry, exit)
        if (isStopping || isStarting) return
        // Its place may have been given away while its answer waited.
        if (hasPlace()) startNext()
        // That one may have ended at once.
        wake()
      })
    }
    const hasPlace = () => inHand.size() - waiting < concurrency
    const canStart = () => hasPlace() && source.isFilled()
    const wake = () => {
      if (canStart()) ready.openUnsafe()
    }
    const hasWork = () => {
      ready.closeUnsafe()
      return canStart()
    }
    // An effect for each, so that the loop can be interrupted and yields like any other.
    const start = Effect.sync(startNext)
    const startAll = Effect.whileLoop({ while: hasWork, body: () => start, step: () => {} })
    const stop = Effect.suspend(() => {
      isStopping = true
      source.consumers.delete(wake)
      return Fiber.interruptAll(inHand.toArray().map(({ fiber }) => fiber))
    })
    return Effect.sync(() => source.consumers.add(wake)).pipe(
      Effect.andThen(Effect.forever(Effect.andThen(ready.await, startAll), { disableYield: true })),
      Effect.ensuring(stop)
    )
  })

/**
 * Interruption at every point of an effect. The scheduler is asked before each step of each fiber, so it is the one that
 * counts; children of the effect have the same scheduler, and their steps count too.
 */
import { Effect, type Exit, Fiber, type Option, Scheduler } from "effect"

/**
 * `at` a step: the interruption finds the effect between two of its steps. `behind` a run of steps: it finds the effect
 * waiting, for a timer, a file or another fiber.
 */
export type Moment = "at" | "behind"

export interface Interrupted<A, E> {
  /** None when the effect has not ended a second after its interruption. */
  readonly exit: Option.Option<Exit.Exit<A, E>>
  /** False when it had ended by itself before. */
  readonly reached: boolean
}

/** Runs `effect` and interrupts it once, at the `n`-th moment, counted from 1, at which `counts` holds. */
export const interruptAt = Effect.fnUntraced(function*<A, E, R>(
  effect: Effect.Effect<A, E, R>,
  moment: Moment,
  n: number,
  counts: () => boolean = () => true
) {
  const parent = yield* Scheduler.Scheduler
  let left = n
  let interrupt = () => {}
  const stepping: Scheduler.Scheduler = {
    executionMode: parent.executionMode,
    makeDispatcher: () => parent.makeDispatcher(),
    shouldYield: (fiber) => {
      // Every run of a fiber, up to where it waits, begins with its first operation.
      const isMoment = moment === "at" || fiber.currentOpCount === 1
      if (isMoment && counts() && --left === 0) {
        if (moment === "at") interrupt()
        else queueMicrotask(interrupt)
      }
      return parent.shouldYield(fiber)
    }
  }
  const fiber = yield* Effect.forkDetach(Effect.provideService(effect, Scheduler.Scheduler, stepping))
  interrupt = () => fiber.interruptUnsafe()
  // Until the moment has come the effect has its own deadlines.
  while (fiber.pollUnsafe() === undefined && left > 0) yield* Effect.yieldNow
  const exit = yield* Effect.timeoutOption(Fiber.await(fiber), "1 second")
  return { exit, reached: left <= 0 } satisfies Interrupted<A, E>
})

/**
 * Interrupts at every `stride`-th moment, from the `first` on, until one is not reached; answers with the last one that
 * was.
 */
export const interruptEverywhere = Effect.fnUntraced(function*<E, R>(
  run: (n: number) => Effect.Effect<{ readonly reached: boolean }, E, R>,
  stride = 1,
  first = 1
) {
  for (let n = first;; n += stride) {
    if (!(yield* run(n)).reached) return n - stride
  }
})

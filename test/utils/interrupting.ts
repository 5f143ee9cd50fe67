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

/** A scheduler that tells of each step of the fibers that have it. */
export interface Stepper {
  readonly scheduler: Scheduler.Scheduler
  /** Told whether the step is the first of a run, up to where the fiber waits. Written by `interruptAt`. */
  onStep: (isFirst: boolean) => void
}

export const makeStepper = Effect.map(Scheduler.Scheduler, (parent): Stepper => {
  const stepper: Stepper = {
    onStep: () => {},
    scheduler: {
      executionMode: parent.executionMode,
      makeDispatcher: () => parent.makeDispatcher(),
      shouldYield: (fiber) => {
        stepper.onStep(fiber.currentOpCount === 1)
        return parent.shouldYield(fiber)
      }
    }
  }
  return stepper
})

/**
 * Runs `effect` and interrupts it once, at the `n`-th moment, counted from 1, at which `counts` holds. The steps of its
 * own fibers count, and those of others that have `shared` for their scheduler.
 */
export const interruptAt = Effect.fnUntraced(function*<A, E, R>(
  effect: Effect.Effect<A, E, R>,
  moment: Moment,
  n: number,
  counts: () => boolean = () => true,
  shared?: Stepper
) {
  const stepper = shared ?? (yield* makeStepper)
  let left = n
  let interrupt = () => {}
  stepper.onStep = (isFirst) => {
    if ((moment === "at" || isFirst) && counts() && --left === 0) {
      if (moment === "at") interrupt()
      else queueMicrotask(interrupt)
    }
  }
  const fiber = yield* Effect.forkDetach(Effect.provideService(effect, Scheduler.Scheduler, stepper.scheduler))
  interrupt = () => fiber.interruptUnsafe()
  // Until the moment has come the effect has its own deadlines.
  while (fiber.pollUnsafe() === undefined && left > 0) yield* Effect.yieldNow
  const reached = left <= 0
  const exit = yield* Effect.timeoutOption(Fiber.await(fiber), "1 second")
  stepper.onStep = () => {}
  return { exit, reached } satisfies Interrupted<A, E>
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

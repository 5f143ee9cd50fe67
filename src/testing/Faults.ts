/**
 * Failures of the system at a chosen moment, to test what a program makes of them.
 *
 * `layer` stands between the endpoints and clients that are built below it and the system: it numbers and notes every
 * file and socket operation they make, and makes those fail that a test has chosen, with the error that the system would
 * have given. What follows is the library's own doing.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Host } from "../Host.ts"
import { type Before, interposition, posixWith } from "../internal/faultyPlatform.ts"
import { Interposer } from "../internal/interposer.ts"
import { Posix } from "../internal/posix.ts"

/** An error code of the system, such as `ENOSPC` (`errno(3)`). */
export type Errno = string

/** One operation, noted before it is made. */
export interface Operation {
  /** Counted from 1, from when the layer was built or last reset. */
  readonly number: number
  /**
   * Such as `FileSystem.rename`, `File.sync`, `Posix.openUntrusted`, `Net.connect`, `Transport.listen` or `Socket.write`.
   * An operation of `Transport` is followed by what it is made of.
   */
  readonly name: string
  /** The file, the socket path, or what stands for it; never contents. */
  readonly path: string
  /** What it was made to fail with; undefined where it was left alone. */
  readonly errno: Errno | undefined
}

/** Plans failures of the operations below its layer, and tells what was done. */
export class Faults extends Context.Service<Faults, {
  /**
   * Makes the `k`-th operation from now on fail, once, with `errno`; the first is 1. With `name`, only operations of that
   * name are counted. Several may be planned. A dial, a bind and every file operation fail with the errno; a look that
   * has no error, such as whether a socket is alive, finds nothing out; a connection of which a read or a write fails is
   * closed.
   */
  readonly failAt: (k: number, errno: Errno, name?: string) => Effect.Effect<void>
  /** Runs `action` before the `k`-th operation from now on, once, in the fiber that makes it. */
  readonly runAt: (k: number, action: Effect.Effect<void>, name?: string) => Effect.Effect<void>
  /** Every operation so far, in order. */
  readonly log: Effect.Effect<ReadonlyArray<Operation>>
  /** How many planned failures and actions have not happened. */
  readonly pending: Effect.Effect<number>
  /** Forgets what is planned; the log stays. */
  readonly disarm: Effect.Effect<void>
  /** Forgets the log and what is planned. */
  readonly reset: Effect.Effect<void>
}>()("effect-messaging/testing/Faults") {}

interface Plan {
  left: number
  readonly name: string | undefined
  readonly happen: Effect.Effect<Errno | undefined>
}

const make = Effect.sync(() => {
  // Written by every operation, in synchronous steps, and by the test.
  let log: Array<Operation> = []
  const plans = new Set<Plan>()

  const note = (name: string, path: string, errno: Errno | undefined) => {
    log.push({ number: log.length + 1, name, path, errno })
  }
  const before: Before = (name, path) =>
    Effect.suspend(() => {
      let due: Plan | undefined
      for (const plan of plans) {
        if (plan.name !== undefined && plan.name !== name) continue
        if (--plan.left !== 0) continue
        plans.delete(plan)
        due ??= plan
      }
      if (due === undefined) {
        note(name, path, undefined)
        return Effect.undefined
      }
      return Effect.tap(due.happen, (errno) => Effect.sync(() => note(name, path, errno)))
    })
  const plan = (k: number, name: string | undefined, happen: Plan["happen"]) =>
    Effect.sync(() => {
      plans.add({ left: k, name, happen })
    })
  const faults = Faults.of({
    failAt: (k, errno, name) => plan(k, name, Effect.succeed(errno)),
    runAt: (k, action, name) => plan(k, name, Effect.as(action, undefined)),
    log: Effect.sync(() => [...log]),
    pending: Effect.sync(() => plans.size),
    disarm: Effect.sync(() => plans.clear()),
    reset: Effect.sync(() => {
      log = []
      plans.clear()
    })
  })
  return { before, faults }
})

/**
 * Faults for everything that is built with it: provide it around `Layers.layer`, `layerClient` or `layerMemory`, and use
 * the `Faults` it gives. In-memory endpoints have operations of `Transport` and `Socket` only. Built once per program,
 * so that a test that wants an endpoint without faults builds that one outside.
 */
export const layer: Layer.Layer<Faults> = Layer.effectContext(Effect.gen(function*() {
  const { before, faults } = yield* make
  const host = yield* Host
  const outer = yield* Interposer
  const posix = yield* Posix
  return Context.make(Faults, faults).pipe(
    Context.add(Interposer, interposition(before, host, outer)),
    Context.add(Posix, posixWith(before, posix))
  )
}))

/** Wraps the part of a run whose operations are counted, and of which one fails. */
export type Faulty = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * Runs `run` again and again, with the first, the second, the third operation of what it wraps in `faulty` failing, until
 * that has ended before the failure's turn came. Answers with the number of operations. What `run` does outside of
 * `faulty`, such as to prepare and to check, works; `faulty` is used once in a run.
 */
export const exhaust = <A, E, R>(
  errno: Errno,
  run: (faulty: Faulty) => Effect.Effect<A, E, R>
): Effect.Effect<number, E, R | Faults> =>
  Effect.gen(function*() {
    const faults = yield* Faults
    let hasFailed = true
    const disarm = Effect.andThen(
      Effect.map(faults.pending, (pending) => {
        hasFailed = pending === 0
      }),
      faults.disarm
    )
    let k = 0
    while (hasFailed) {
      const arm = Effect.andThen(faults.reset, faults.failAt(++k, errno))
      hasFailed = false
      yield* run((effect) => Effect.ensuring(Effect.andThen(arm, effect), disarm))
    }
    return k - 1
  })

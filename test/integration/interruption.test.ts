/**
 * A start, a send, an ask and a release are interrupted at every step that one of their fibers makes, and behind every
 * run of steps, where they wait. Whatever the moment: they end within a second, nothing is left, and what comes next
 * works.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Scheduler, type Scope } from "effect"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { makeRandom, seed, sized } from "../utils/effort.ts"
import { type Endpoint, endpointsOf, handling } from "../utils/endpoints.ts"
import { figure } from "../utils/figure.ts"
import { interruptAt, type Interrupted, interruptEverywhere, makeStepper, type Moment } from "../utils/interrupting.ts"
import { leftovers, openSince } from "../utils/leftovers.ts"
import { withTempHost } from "../utils/tempHost.ts"

const moments: ReadonlyArray<Moment> = ["at", "behind"]

const endpoint = endpointsOf(Layers.layer)
const memoryEndpoint = endpointsOf(Layers.layerMemory)
const bobPath = "/memory/bob.sock"

/** Over files there are thousands of steps; each change tries every so-many-th, the long run all. All waits are tried. */
const strideOverFiles = (moment: Moment) => moment === "at" ? sized(3, 1) : 1
/** For a busy machine; the steps over files are some hundred starts. */
const patience = sized(300_000, 3_600_000)
const offset = Math.floor(makeRandom(seed)() * 3)

/** What is wrong with how it ended: it may have come to its end before the interruption reached it. */
const problemsOf = ({ exit }: Interrupted<unknown, unknown>): ReadonlyArray<string> =>
  Option.match(exit, {
    onNone: () => ["it has not ended a second later"],
    onSome: (exit) => Exit.isSuccess(exit) || Exit.hasInterrupts(exit) ? [] : [`it ends with ${String(exit.cause)}`]
  })

/** The moments of the start do not count. */
const interruptRelease = <E>(start: Effect.Effect<Endpoint, E, Scope.Scope>, moment: Moment, n: number) =>
  Effect.suspend(() => {
    let isReleasing = false
    const life = Effect.map(start, () => {
      isReleasing = true
    })
    return interruptAt(Effect.scoped(life), moment, n, () => isReleasing)
  })

const calls = {
  send: ({ messaging }: Endpoint, text: string) =>
    Effect.asVoid(messaging.send(bobPath, Message.text(text), { until: "handled" })),
  ask: ({ messaging }: Endpoint, text: string) => Effect.asVoid(messaging.ask(bobPath, text))
}

const pings = (own: Endpoint) => own.messaging.ping(own.socketPath)

describe("interruption", () => {
  for (const moment of moments) {
    it.live(`${moment} any moment of a start over files leaves nothing`, () =>
      Effect.gen(function*() {
        const problems: Array<string> = []
        const count = yield* interruptEverywhere(
          (n) =>
            Effect.scoped(withTempHost((host) =>
              Effect.gen(function*() {
                const opened = openSince(host)
                const ended = yield* interruptAt(Effect.scoped(Effect.asVoid(endpoint())), moment, n)
                const found = [...problemsOf(ended), ...leftovers(host), ...yield* opened]
                const next = yield* Effect.exit(Effect.scoped(Effect.flatMap(endpoint(), pings)))
                if (Exit.isFailure(next)) found.push(`the next start fails with ${String(next.cause)}`)
                problems.push(...found.map((problem) => `${n}: ${problem}`))
                return ended
              })
            )),
          strideOverFiles(moment),
          1 + offset % strideOverFiles(moment)
        )
        figure(`interrupted ${moment} up to ${count} moments of a start over files`)
        assert.deepStrictEqual(problems, [])
        assert.isAbove(count, 40)
      }), patience)

    it.live(`${moment} any moment of a release over files leaves nothing`, () =>
      Effect.gen(function*() {
        const problems: Array<string> = []
        const count = yield* interruptEverywhere(
          (n) =>
            Effect.scoped(withTempHost((host) =>
              Effect.gen(function*() {
                const opened = openSince(host)
                const ended = yield* interruptRelease(endpoint(), moment, n)
                const found = [...problemsOf(ended), ...leftovers(host), ...yield* opened]
                problems.push(...found.map((problem) => `${n}: ${problem}`))
                return ended
              })
            )),
          strideOverFiles(moment),
          1 + offset % strideOverFiles(moment)
        )
        assert.deepStrictEqual(problems, [])
        assert.isAtLeast(count, 5)
      }), patience)

    it.live(`${moment} any moment of a start in memory frees its path`, () =>
      Effect.gen(function*() {
        const problems: Array<string> = []
        const start = memoryEndpoint({ socketPath: bobPath })
        const count = yield* interruptEverywhere((n) =>
          Effect.gen(function*() {
            const ended = yield* interruptAt(Effect.scoped(Effect.asVoid(start)), moment, n)
            const next = yield* Effect.exit(Effect.scoped(Effect.flatMap(start, pings)))
            const found = [...problemsOf(ended), ...Exit.isFailure(next) ? [String(next.cause)] : []]
            problems.push(...found.map((problem) => `${n}: ${problem}`))
            return ended
          })
        )
        assert.deepStrictEqual(problems, [])
        assert.isAtLeast(count, 5)
      }).pipe(Effect.provide(Layers.memoryNetwork)))

    it.live(`${moment} any moment of a release in memory frees its path`, () =>
      Effect.gen(function*() {
        const problems: Array<string> = []
        const start = memoryEndpoint({ socketPath: bobPath })
        const count = yield* interruptEverywhere((n) =>
          Effect.gen(function*() {
            const ended = yield* interruptRelease(start, moment, n)
            const next = yield* Effect.exit(Effect.scoped(Effect.flatMap(start, pings)))
            const found = [...problemsOf(ended), ...Exit.isFailure(next) ? [String(next.cause)] : []]
            problems.push(...found.map((problem) => `${n}: ${problem}`))
            return ended
          })
        )
        assert.deepStrictEqual(problems, [])
        assert.isAbove(count, 1)
      }).pipe(Effect.provide(Layers.memoryNetwork)))

    for (const name of ["send", "ask"] as const) {
      for (const made of [false, true]) {
        const over = made ? "over a connection" : "that makes its connection"
        it.live(`${moment} any moment of a call to ${name} ${over} leaves the endpoints working`, () =>
          Effect.gen(function*() {
            const problems: Array<string> = []
            const handled: Array<string> = []
            const bob = yield* memoryEndpoint({ socketPath: bobPath })
            yield* handling(bob, ({ message }) =>
              Effect.sync(() => {
                handled.push(message.data ?? "")
                return "answer"
              }))
            // A call is carried by fibers of its endpoint, so the steps of those count.
            const stepper = yield* makeStepper
            const stepping = Effect.provideService(Scheduler.Scheduler, stepper.scheduler)
            const shared = yield* stepping(memoryEndpoint({ socketPath: "/memory/shared.sock" }))
            yield* shared.messaging.ping(bobPath)
            const count = yield* interruptEverywhere((n) =>
              Effect.scoped(Effect.gen(function*() {
                const alice = made ? shared : yield* stepping(memoryEndpoint({ socketPath: "/memory/alice.sock" }))
                const ended = yield* interruptAt(calls[name](alice, `call ${n}`), moment, n, undefined, stepper)
                const next = yield* Effect.exit(Effect.timeout(calls[name](alice, `next ${n}`), "10 seconds"))
                const found = [...problemsOf(ended)]
                if (Exit.isFailure(next)) found.push(`the next call fails with ${String(next.cause)}`)
                const isDone = Option.exists(ended.exit, Exit.isSuccess)
                if (isDone && !handled.includes(`call ${n}`)) found.push("it succeeds and its message is lost")
                problems.push(...found.map((problem) => `${n}: ${problem}`))
                return ended
              }))
            )
            assert.deepStrictEqual(problems, [])
            assert.deepStrictEqual(handled.length, new Set(handled).size)
            assert.isAtLeast(count, 3)
          }).pipe(Effect.provide(Layers.memoryNetwork)))
      }
    }
  }
})

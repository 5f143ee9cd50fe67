import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Logger, Metric, Queue } from "effect"
import { TestClock } from "effect/testing"
import { createHook } from "node:async_hooks"
import * as fs from "node:fs"
import * as path from "node:path"
import { keep, type Standing } from "../../src/internal/keeper.ts"
import * as metrics from "../../src/internal/metrics.ts"
import { settled, tick } from "../utils/resources.ts"
import { tempDirectory } from "../utils/tempHost.ts"

/** A keeper of a name in a directory that cannot be watched, so that only the clock makes it look. */
const kept = Effect.gen(function*() {
  const state = { standing: "own" as Standing | "unknown", publishes: true, looks: 0, published: 0 }
  const logged: Array<string> = []
  yield* keep({
    what: "socket",
    file: "/nowhere/messaging.sock",
    interval: Duration.seconds(10),
    meter: yield* metrics.make,
    look: Effect.suspend(() => {
      state.looks++
      return state.standing === "unknown" ? Effect.fail({ message: "EIO" }) : Effect.succeed(state.standing)
    }),
    publish: Effect.suspend(() => {
      if (!state.publishes) return Effect.fail({ message: "ENOSPC" })
      state.standing = "own"
      state.published++
      return Effect.void
    })
  }).pipe(
    Effect.provide(Logger.layer([Logger.make(({ logLevel, message }) => {
      logged.push(`${logLevel} ${String(message)}`)
    })])),
    Effect.forkScoped({ startImmediately: true })
  )
  return { state, logged }
})

const warning = (problem: string) =>
  `Warn the socket at /nowhere/messaging.sock ${problem}; peers cannot find this endpoint meanwhile`

describe("keeper", () => {
  it.effect("looks every interval where the directory cannot be watched, and publishes what has disappeared", () =>
    Effect.gen(function*() {
      const { logged, state } = yield* kept
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([state.looks, state.published, logged.length], [1, 0, 0])
      state.standing = "nothing"
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(state.published, 0)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual([state.looks, state.published], [2, 1])
      assert.deepStrictEqual(logged, [
        "Warn the socket at /nowhere/messaging.sock had disappeared, and was published again"
      ])
      const counted = (yield* Metric.snapshot).filter(({ id }) => id === "effect_messaging_republished")
      assert.deepStrictEqual(counted.map(({ attributes, state }) => [attributes, state]), [
        [{ what: "socket" }, { count: 1, incremental: true }]
      ])
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("reports once what is another's, takes nothing, and looks ever more rarely", () =>
    Effect.gen(function*() {
      const { logged, state } = yield* kept
      state.standing = "another's"
      const looksAt: Array<number> = []
      let looks = 0
      for (let second = 1; second <= 1_300; second++) {
        yield* TestClock.adjust("1 seconds")
        if (state.looks > looks) looksAt.push(second)
        looks = state.looks
      }
      assert.deepStrictEqual(looksAt, [10, 30, 70, 150, 310, 630, 950, 1_270])
      assert.strictEqual(state.published, 0)
      assert.deepStrictEqual(logged, [warning("has been replaced by something else, which is left alone")])
      state.standing = "nothing"
      yield* TestClock.adjust("320 seconds")
      assert.strictEqual(state.published, 1)
      state.standing = "nothing"
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(state.published, 2)
    }))

  it.effect("reports again what comes again after it was well", () =>
    Effect.gen(function*() {
      const { logged, state } = yield* kept
      for (const standing of ["another's", "own", "another's"] as const) {
        state.standing = standing
        yield* TestClock.adjust("20 seconds")
      }
      const replaced = warning("has been replaced by something else, which is left alone")
      assert.deepStrictEqual(logged, [replaced, replaced])
    }))

  it.effect.each(
    [
      { name: "cannot be published", standing: "nothing", problem: "ENOSPC" },
      { name: "cannot be looked at", standing: "unknown", problem: "EIO" }
    ] as const
  )("reports once what $name, and tries again", ({ problem, standing }) =>
    Effect.gen(function*() {
      const { logged, state } = yield* kept
      state.standing = standing
      state.publishes = false
      yield* TestClock.adjust("70 seconds")
      assert.strictEqual(state.looks, 3)
      assert.deepStrictEqual(logged, [warning(`has disappeared, and cannot be published again: ${problem}`)])
      state.standing = "nothing"
      state.publishes = true
      yield* TestClock.adjust("80 seconds")
      assert.strictEqual(state.published, 1)
    }))

  describe("where the directory can be watched", () => {
    /** A keeper of `name` in the directory, whose looks are told one by one; its clock stands still. */
    const watched = Effect.fnUntraced(function*(directory: string) {
      const looks = yield* Queue.unbounded<void>()
      yield* keep({
        what: "capability",
        file: path.join(directory, "name"),
        interval: Duration.hours(1),
        meter: yield* metrics.make,
        look: Effect.as(Queue.offer(looks, undefined), "own"),
        publish: Effect.void
      }).pipe(Effect.forkScoped({ startImmediately: true }))
      const change = (text: string) => Effect.sync(() => fs.writeFileSync(path.join(directory, "name"), text))
      // The watch alone keeps no process alive until it tells.
      return { look: Effect.raceFirst(Queue.take(looks), Effect.forever(tick)), looks, change }
    })

    interface WatchHandle {
      readonly onchange: (status: number, event: string, file: string) => void
    }

    /** The watches that are begun from here on and have not ended. */
    const watches = Effect.acquireRelease(
      Effect.sync(() => {
        const open = new Map<number, WatchHandle>()
        const hook = createHook({
          init: (id, type, _, handle) => {
            if (type === "FSEVENTWRAP") open.set(id, handle as WatchHandle)
          },
          destroy: (id) => void open.delete(id)
        }).enable()
        return { open, hook }
      }),
      ({ hook }) => Effect.sync(() => hook.disable())
    )

    it.effect("looks when the file changes, and not when another does", () =>
      Effect.gen(function*() {
        const directory = yield* tempDirectory
        const { change, look, looks } = yield* watched(directory)
        fs.writeFileSync(path.join(directory, "other"), "")
        yield* Effect.replicateEffect(tick, 50)
        assert.strictEqual(yield* Queue.size(looks), 0)
        for (const text of ["1", "2", "3"]) yield* Effect.andThen(change(text), look)
      }))

    it.effect("keeps no process alive", () =>
      Effect.gen(function*() {
        const directory = yield* tempDirectory
        const alive = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("FSEvent")).length
        const before = alive()
        yield* watched(directory)
        assert.strictEqual(alive(), before)
      }))

    it.effect("has one watch at a time, and none afterwards", () =>
      Effect.gen(function*() {
        const directory = yield* tempDirectory
        const { open } = yield* watches
        yield* Effect.scoped(Effect.gen(function*() {
          const { change, look } = yield* watched(directory)
          assert.strictEqual(open.size, 1)
          for (const text of ["1", "2", "3"]) yield* Effect.andThen(change(text), look)
          assert.strictEqual(yield* settled(() => open.size, 1), 1)
        }))
        assert.strictEqual(yield* settled(() => open.size, 0), 0)
      }))

    it.effect("goes on by the clock when its watch fails", () =>
      Effect.gen(function*() {
        const directory = yield* tempDirectory
        const { open } = yield* watches
        const { look, looks } = yield* watched(directory)
        // As the system tells it, -1 being EPERM: Windows does when the directory is deleted.
        for (const handle of open.values()) handle.onchange(-1, "rename", "name")
        yield* Effect.replicateEffect(tick, 50)
        assert.strictEqual(yield* Queue.size(looks), 0)
        yield* TestClock.adjust("1 hours")
        yield* look
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Logger, Metric, Queue } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import { keep, type Standing } from "../../src/internal/keeper.ts"
import * as metrics from "../../src/internal/metrics.ts"
import { tick } from "../utils/resources.ts"
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
    /** A keeper of `name` in a directory of its own, whose looks are told one by one; its clock stands still. */
    const watched = Effect.gen(function*() {
      const directory = yield* tempDirectory
      const looks = yield* Queue.unbounded<void>()
      yield* keep({
        what: "capability",
        file: path.join(directory, "name"),
        interval: Duration.hours(1),
        meter: yield* metrics.make,
        look: Effect.as(Queue.offer(looks, undefined), "own"),
        publish: Effect.void
      }).pipe(Effect.forkScoped({ startImmediately: true }))
      return { directory, looks }
    })

    it.effect("looks when the file changes, and not when another does", () =>
      Effect.gen(function*() {
        const { directory, looks } = yield* watched
        fs.writeFileSync(path.join(directory, "other"), "")
        yield* Effect.replicateEffect(tick, 50)
        assert.strictEqual(yield* Queue.size(looks), 0)
        for (let change = 0; change < 3; change++) {
          fs.writeFileSync(path.join(directory, "name"), String(change))
          // The watch alone keeps no process alive until it tells.
          yield* Effect.raceFirst(Queue.take(looks), Effect.forever(tick))
        }
      }))

    it.effect("keeps no process alive", () =>
      Effect.gen(function*() {
        const watches = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("FSEvent")).length
        const before = watches()
        yield* watched
        assert.strictEqual(watches(), before)
      }))

    // The kernel tells only on Linux what a process watches.
    it.effect.skipIf(process.platform !== "linux")("leaves no watch behind", () =>
      Effect.gen(function*() {
        const watches = () =>
          fs.readdirSync("/proc/self/fd").flatMap((fd) => {
            const file = `/proc/self/fdinfo/${fd}`
            return fs.existsSync(file) ? fs.readFileSync(file, "utf8").match(/^inotify wd/gm) ?? [] : []
          }).length
        const before = watches()
        yield* Effect.scoped(Effect.andThen(watched, Effect.sync(() => assert.strictEqual(watches(), before + 1))))
        assert.strictEqual(watches(), before)
      }))
  })
})

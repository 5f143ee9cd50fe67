import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, FiberSet } from "effect"
import { TestClock } from "effect/testing"
import * as expiries from "../../src/internal/expiry.ts"

/** An expiry over a set of deadlines, and the times at which it looked. `onDue` is told each time of what is due. */
const make = Effect.fnUntraced(function*(
  given: ReadonlyArray<number>,
  onDue: (due: ReadonlyArray<number>, add: (deadline: number) => void) => void = () => {}
) {
  const clock = yield* Clock.Clock
  const run = yield* FiberSet.makeRuntime<never, void, never>()
  let timers = 0
  const looks: Array<number> = []
  let deadlines: Array<number> = []
  const expiry: expiries.Expiry = expiries.make(clock, (effect) => {
    timers++
    return run(effect)
  }, (now) => {
    looks.push(now)
    const due = deadlines.filter((deadline) => deadline <= now)
    deadlines = deadlines.filter((deadline) => deadline > now)
    onDue(due, add)
    return Math.min(Infinity, ...deadlines)
  })
  const add = (deadline: number) => {
    deadlines.push(deadline)
    expiry.lookAt(deadline)
  }
  for (const deadline of given) add(deadline)
  return { add, looks, timers: () => timers, outstanding: () => deadlines }
})

describe("expiry", () => {
  it.effect("looks at the deadline, not before, and then no more", () =>
    Effect.gen(function*() {
      const { looks } = yield* make([100])
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(looks, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(looks, [100])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(looks, [100])
    }))

  it.effect("looks at each deadline in turn, whatever the order they came in", () =>
    Effect.gen(function*() {
      const { looks, outstanding } = yield* make([300, 100, 200, 100])
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual([looks, outstanding()], [[100, 200, 300], []])
    }))

  it.effect("has one timer, which only an earlier deadline moves", () =>
    Effect.gen(function*() {
      const kept = yield* make([100, 100, 200, 300])
      const moved = yield* make([100, 50])
      assert.deepStrictEqual([kept.timers(), moved.timers()], [1, 2])
      yield* TestClock.adjust(99)
      assert.deepStrictEqual([kept.looks, moved.looks], [[], [50]])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual([kept.looks, moved.looks], [[100], [50, 100]])
    }))

  it.effect("looks at once for a deadline that has passed", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust(1_000)
      const { looks } = yield* make([500])
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(looks, [1_000])
    }))

  it.effect("never looks for Infinity", () =>
    Effect.gen(function*() {
      const { looks, timers } = yield* make([Infinity])
      yield* TestClock.adjust("1000 days")
      assert.deepStrictEqual([looks, timers()], [[], 0])
    }))

  it.effect("does not look before a deadline between two milliseconds", () =>
    Effect.gen(function*() {
      const { looks } = yield* make([100.25])
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(looks, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(looks, [101])
    }))

  it.effect("takes deadlines that come while it looks, earlier and later than those it knows", () =>
    Effect.gen(function*() {
      const { looks, outstanding, timers } = yield* make([100, 500], (due, add) => {
        if (due.includes(100)) { for (const deadline of [600, 200]) add(deadline) }
      })
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual([looks, outstanding()], [[100, 200, 500, 600], []])
      // For 100; for 600 and then 200 while it looked; for 500 and 600.
      assert.strictEqual(timers(), 5)
    }))

  it.effect("starts again after it had nothing to wait for", () =>
    Effect.gen(function*() {
      const { add, looks } = yield* make([100])
      yield* TestClock.adjust(1_000)
      add(1_500)
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(looks, [100, 1_500])
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, FiberSet } from "effect"
import { TestClock } from "effect/testing"
import * as deadlines from "../../src/internal/deadlines.ts"
import { defaults } from "../../src/Limits.ts"

/** Limits that all differ, so that the time tells which one was missed. */
const limits = {
  ...defaults,
  authenticationTimeout: Duration.millis(200),
  idleTimeout: Duration.millis(3_000),
  frameTimeout: Duration.millis(500),
  writeTimeout: Duration.millis(700),
  closeTimeout: Duration.millis(100)
}

/** Watches of one endpoint, and what they were told: when, and what was missed. */
const make = Effect.fnUntraced(function*(overrides: Partial<typeof defaults> = {}) {
  const clock = yield* Clock.Clock
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  const kept = deadlines.make({ ...limits, ...overrides }, clock, fork)
  return {
    watch: () => {
      const told: Array<readonly [at: number, kind: deadlines.Expired]> = []
      const watch = kept.watch({ onExpired: (kind) => told.push([clock.currentTimeMillisUnsafe(), kind]) })
      return { told, watch }
    }
  }
})

const watchOne = Effect.map(make(), ({ watch }) => watch())

const proven = Effect.tap(watchOne, ({ watch }) => Effect.sync(() => watch.authenticated()))

/** Something that happens so many turns of the event loop after the clock has come to `millis`. */
const happening = (millis: number, turns: number, event: () => void) =>
  Effect.updateService(Clock.Clock, (clock) => {
    let isOver = false
    return {
      ...clock,
      sleep: (duration) =>
        Effect.tap(clock.sleep(duration), () => {
          if (isOver || clock.currentTimeMillisUnsafe() < millis) return Effect.void
          isOver = true
          const pause = Effect.forEach(Array.from({ length: turns }), () => Effect.yieldNow)
          return Effect.forkDetach(Effect.andThen(pause, Effect.sync(event)), { startImmediately: true })
        })
    }
  })

describe("deadlines", () => {
  const begin: Record<deadlines.Expired, (watch: deadlines.Watch) => void> = {
    authentication: () => {},
    idle: (watch) => watch.authenticated(),
    frame: (watch) => {
      watch.authenticated()
      watch.frameBegun(1)
    },
    write: (watch) => watch.writing(),
    close: (watch) => watch.closing()
  }
  const cases = [
    { kind: "authentication", millis: 200 },
    { kind: "idle", millis: 3_000 },
    { kind: "frame", millis: 500 },
    { kind: "write", millis: 700 },
    { kind: "close", millis: 100 }
  ] as const

  it.effect.each(cases)(
    "tells of the $kind deadline when it comes, and not before",
    ({ kind, millis }) =>
      Effect.gen(function*() {
        const { told, watch } = yield* watchOne
        begin[kind](watch)
        yield* TestClock.adjust(millis - 1)
        assert.deepStrictEqual(told, [])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(told, [[millis, kind]])
      })
  )

  it.effect.each(cases)("tells nobody of the $kind deadline after the end", ({ kind }) =>
    Effect.gen(function*() {
      const { told, watch } = yield* watchOne
      begin[kind](watch)
      watch.end()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(told, [])
    }))

  it.effect("counts from when the watch began", () =>
    Effect.gen(function*() {
      const { watch } = yield* make()
      yield* TestClock.adjust(50)
      const { told } = watch()
      yield* TestClock.adjust(199)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [[250, "authentication"]])
    }))

  it.effect("moves the authentication deadline for no activity", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* watchOne
      yield* TestClock.adjust(150)
      watch.active()
      watch.frameBegun(1)
      yield* TestClock.adjust(50)
      assert.deepStrictEqual(told, [[200, "authentication"]])
    }))

  it.effect("counts the idle time from the last activity", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      yield* TestClock.adjust(2_000)
      watch.active()
      yield* TestClock.adjust(2_999)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [[5_000, "idle"]])
    }))

  it.effect("counts the time of a frame from its beginning, whatever else is told of it", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      yield* TestClock.adjust(100)
      watch.frameBegun(1)
      yield* TestClock.adjust(400)
      watch.active()
      watch.frameBegun(1)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(told, [[600, "frame"]])
    }))

  it.effect("counts anew for the next frame", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      watch.frameBegun(1)
      yield* TestClock.adjust(400)
      watch.active()
      watch.frameBegun(2)
      yield* TestClock.adjust(499)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [[900, "frame"]])
    }))

  it.effect("has no frame deadline once the frame has ended", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      watch.frameBegun(1)
      watch.frameBegun(undefined)
      yield* TestClock.adjust(2_999)
      assert.deepStrictEqual(told, [])
    }))

  it.effect.each([3_001, 3_000])(
    "tells of idleness when a frame may take %d ms, which is no less",
    (millis) =>
      Effect.gen(function*() {
        const { told, watch } = (yield* make({ frameTimeout: Duration.millis(millis) })).watch()
        watch.authenticated()
        watch.frameBegun(1)
        yield* TestClock.adjust(3_000)
        assert.deepStrictEqual(told, [[3_000, "idle"]])
      })
  )

  it.effect("has only the write deadline while something is being written", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      watch.frameBegun(1)
      watch.writing()
      yield* TestClock.adjust(699)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [[700, "write"]])
    }))

  it.effect("counts each write anew, and none once it has been taken", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      watch.writing()
      yield* TestClock.adjust(600)
      watch.written()
      yield* TestClock.adjust(400)
      watch.writing()
      yield* TestClock.adjust(600)
      watch.written()
      yield* TestClock.adjust(1_399)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [[3_000, "idle"]])
    }))

  it.effect("has only the close deadline once the last word has been said", () =>
    Effect.gen(function*() {
      const { told, watch } = (yield* make({ closeTimeout: Duration.seconds(5) })).watch()
      watch.authenticated()
      watch.frameBegun(1)
      watch.writing()
      watch.closing()
      yield* TestClock.adjust(4_999)
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(told, [[5_000, "close"]])
    }))

  it.effect("has the close deadline also when the watch has ended before", () =>
    Effect.gen(function*() {
      const { told, watch } = yield* proven
      watch.end()
      yield* TestClock.adjust(1_000)
      watch.closing()
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(told, [[1_100, "close"]])
    }))

  it.effect("tells each connection at its own time, whatever the order they came in", () =>
    Effect.gen(function*() {
      const { watch } = yield* make()
      const [idle, framed, active] = [watch(), watch(), watch()]
      for (const { watch } of [idle, framed, active]) watch.authenticated()
      framed.watch.frameBegun(1)
      yield* TestClock.adjust(100)
      active.watch.active()
      yield* TestClock.adjust(400)
      framed.watch.end()
      yield* TestClock.adjust(2_500)
      idle.watch.end()
      yield* TestClock.adjust(3_000)
      assert.deepStrictEqual([idle, framed, active].map(({ told }) => told), [
        [[3_000, "idle"]],
        [[500, "frame"]],
        [[3_100, "idle"]]
      ])
    }))

  it.effect.each([0, 1, 2, 3])(
    "lets bytes be judged first that are read %d turns after the deadline",
    (turns) =>
      Effect.gen(function*() {
        let read = () => {}
        const { told, watch } = yield* proven.pipe(happening(3_000, turns, () => read()))
        read = () => watch.active()
        yield* TestClock.adjust(3_000)
        assert.deepStrictEqual(told, [])
        yield* TestClock.adjust(3_000)
        assert.deepStrictEqual(told, [[6_000, "idle"]])
      })
  )

  it.effect("tells nobody who ends while late bytes are judged", () =>
    Effect.gen(function*() {
      let end = () => {}
      const { told, watch } = yield* proven.pipe(happening(3_000, 2, () => end()))
      end = () => watch.end()
      yield* TestClock.adjust(3_000)
      assert.deepStrictEqual(told, [])
    }))
})

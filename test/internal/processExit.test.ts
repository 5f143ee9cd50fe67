import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { onProcessExit } from "../../src/internal/processExit.ts"
import * as Layers from "../../src/Layers.ts"
import { withTempHost } from "../utils/tempHost.ts"

const listening = () => ({ listeners: process.listeners("exit").length, most: process.getMaxListeners() })

describe("onProcessExit", () => {
  it.effect("listens while the scope is open", () =>
    Effect.gen(function*() {
      const before = listening()
      const cleanUp = () => {}
      yield* Effect.scoped(Effect.gen(function*() {
        yield* onProcessExit(cleanUp)
        assert.include(process.listeners("exit"), cleanUp)
      }))
      assert.notInclude(process.listeners("exit"), cleanUp)
      assert.deepStrictEqual(listening(), before)
    }))

  it.effect("runs the latest first", () =>
    Effect.gen(function*() {
      const [first, second] = [() => {}, () => {}]
      yield* onProcessExit(first)
      yield* onProcessExit(second)
      const listeners = process.listeners("exit")
      assert.isBelow(listeners.indexOf(second), listeners.indexOf(first))
    }))

  it.effect("leaves a process without a limit of listeners without one", () =>
    Effect.gen(function*() {
      const { most } = listening()
      yield* Effect.acquireRelease(
        Effect.sync(() => process.setMaxListeners(0)),
        () => Effect.sync(() => process.setMaxListeners(most))
      )
      yield* Effect.scoped(Effect.andThen(
        onProcessExit(() => {}),
        Effect.sync(() => assert.strictEqual(process.getMaxListeners(), 0))
      ))
      assert.strictEqual(process.getMaxListeners(), 0)
    }))

  it.live("lets many endpoints live in a process without a warning, and goes with them", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const before = listening()
        const warnings: Array<Error> = []
        const onWarning = (warning: Error) => void warnings.push(warning)
        yield* Effect.acquireRelease(
          Effect.sync(() => process.on("warning", onWarning)),
          () => Effect.sync(() => process.off("warning", onWarning))
        )
        yield* Effect.scoped(Effect.gen(function*() {
          for (let n = 0; n < 20; n++) yield* Layer.build(Layers.layer())
          assert.isAtLeast(listening().listeners, before.listeners + 20)
        }))
        assert.deepStrictEqual(warnings, [])
        assert.deepStrictEqual(listening(), before)
      })
    ))
})

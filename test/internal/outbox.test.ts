import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { Socket } from "effect/socket"
import * as outboxes from "../../src/internal/outbox.ts"

/** A socket that notes each write and takes it when it is let. */
const makeWriter = Effect.gen(function*() {
  const taking = yield* Latch.make(true)
  const writes: Array<string> = []
  const write = (chunk: string | Uint8Array) =>
    Effect.andThen(Effect.sync(() => writes.push(String(chunk))), taking.await)
  return { taking, writes, write }
})

const fork = Effect.forkChild({ startImmediately: true })

describe("outbox", () => {
  it.effect("writes nothing on a push", () =>
    Effect.gen(function*() {
      const { write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      outbox.push("a")
      assert.deepStrictEqual(writes, [])
      assert.strictEqual(outbox.size(), 1)
    }))

  it.effect("writes all that was pushed at once, in order", () =>
    Effect.gen(function*() {
      const { write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      for (const text of ["a", "b", "c"]) outbox.push(text)
      yield* outbox.flush
      assert.deepStrictEqual(writes, ["abc"])
      assert.strictEqual(outbox.size(), 0)
    }))

  it.effect("writes nothing when there is nothing", () =>
    Effect.gen(function*() {
      const { write, writes } = yield* makeWriter
      yield* outboxes.make(write).flush
      assert.deepStrictEqual(writes, [])
    }))

  it.effect("counts bytes, not characters", () =>
    Effect.gen(function*() {
      const outbox = outboxes.make((yield* makeWriter).write)
      outbox.push("é🦊")
      assert.strictEqual(outbox.size(), 6)
    }))

  it.effect("writes what gathers during a write in one more", () =>
    Effect.gen(function*() {
      const { taking, write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      yield* taking.close
      outbox.push("a")
      const first = yield* fork(outbox.flush)
      outbox.push("b")
      outbox.push("c")
      const second = yield* fork(outbox.flush)
      assert.deepStrictEqual(writes, ["a"])
      yield* taking.open
      yield* Fiber.join(first)
      yield* Fiber.join(second)
      assert.deepStrictEqual(writes, ["a", "bc"])
    }))

  it.effect("is blocked while the socket does not take more", () =>
    Effect.gen(function*() {
      const { taking, write } = yield* makeWriter
      const outbox = outboxes.make(write)
      assert.isFalse(outbox.isBlocked())
      yield* taking.close
      outbox.push("a")
      const flushing = yield* fork(outbox.flush)
      assert.isTrue(outbox.isBlocked())
      assert.isUndefined(flushing.pollUnsafe())
      yield* taking.open
      yield* Fiber.join(flushing)
      assert.isFalse(outbox.isBlocked())
    }))

  it.effect("writes in the background once woken, as often as it is woken", () =>
    Effect.gen(function*() {
      const { write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      yield* Effect.forkScoped(outbox.run, { startImmediately: true })
      for (const text of ["a", "b"]) {
        outbox.push(text)
        outbox.wake()
        yield* Effect.yieldNow
      }
      assert.deepStrictEqual(writes, ["a", "b"])
    }))

  it.effect("remembers a wake that comes before it runs", () =>
    Effect.gen(function*() {
      const { write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      outbox.push("a")
      outbox.wake()
      yield* Effect.forkScoped(outbox.run, { startImmediately: true })
      yield* Effect.yieldNow
      assert.deepStrictEqual(writes, ["a"])
    }))

  it.effect("misses no wake that comes during a write", () =>
    Effect.gen(function*() {
      const { taking, write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      yield* Effect.forkScoped(outbox.run, { startImmediately: true })
      yield* taking.close
      outbox.push("a")
      outbox.wake()
      yield* Effect.yieldNow
      outbox.push("b")
      outbox.wake()
      yield* taking.open
      yield* Effect.yieldNow
      assert.deepStrictEqual(writes, ["a", "b"])
    }))

  it.effect("ends with the failure of the socket", () =>
    Effect.gen(function*() {
      const gone = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
      const outbox = outboxes.make(() => Effect.fail(gone))
      outbox.push("a")
      assert.strictEqual(yield* Effect.flip(outbox.flush), gone)
      outbox.push("b")
      outbox.wake()
      assert.strictEqual(yield* Effect.flip(outbox.run), gone)
    }))
})

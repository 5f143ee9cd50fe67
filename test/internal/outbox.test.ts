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

  it.effect("gives the socket no more than a piece of what waits, in order", () =>
    Effect.gen(function*() {
      const { taking, write, writes } = yield* makeWriter
      const outbox = outboxes.make(write)
      yield* taking.close
      const texts = Array.from({ length: 10 }, (_, n) => String(n).repeat(10_000))
      for (const text of texts) outbox.push(text)
      const flushing = yield* fork(outbox.flush)
      assert.deepStrictEqual(writes, [texts.slice(0, 4).join("")])
      assert.strictEqual(outbox.size(), 60_000)
      assert.strictEqual(outbox.unread(), 100_000)
      yield* taking.open
      yield* Fiber.join(flushing)
      assert.strictEqual(writes.join(""), texts.join(""))
      assert.strictEqual(writes.length, 3)
      assert.strictEqual(outbox.unread(), 0)
    }))

  it.effect("counts what all outboxes together have not passed on", () =>
    Effect.gen(function*() {
      const { taking, write } = yield* makeWriter
      const total = { bytes: 0 }
      const [one, other] = [outboxes.make(write, total), outboxes.make(write, total)]
      yield* taking.close
      one.push("aé")
      other.push("bb")
      const flushing = yield* fork(one.flush)
      assert.strictEqual(total.bytes, 5)
      yield* taking.open
      yield* Fiber.join(flushing)
      assert.strictEqual(total.bytes, 2)
    }))

  it.effect("counts nothing and takes nothing once it is disposed of, also when a write returns later", () =>
    Effect.gen(function*() {
      const { taking, write, writes } = yield* makeWriter
      const total = { bytes: 0 }
      const outbox = outboxes.make(write, total)
      yield* taking.close
      outbox.push("a")
      const flushing = yield* fork(outbox.flush)
      outbox.push("b")
      outbox.dispose()
      outbox.push("c")
      assert.deepStrictEqual([total.bytes, outbox.unread()], [0, 0])
      yield* taking.open
      yield* Fiber.join(flushing)
      assert.deepStrictEqual(writes, ["a"])
      assert.strictEqual(total.bytes, 0)
    }))

  it.effect("is blocked within the turn in which much is pushed, also just after a flush", () =>
    Effect.gen(function*() {
      const { taking, write } = yield* makeWriter
      const outbox = outboxes.make(write)
      yield* Effect.forkScoped(outbox.run, { startImmediately: true })
      outbox.push("a".repeat(40_000))
      outbox.wake()
      yield* taking.close
      outbox.push("b".repeat(40_000))
      outbox.wake()
      assert.isTrue(outbox.isBlocked())
    }))
})

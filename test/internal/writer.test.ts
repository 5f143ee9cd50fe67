import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { Socket } from "effect/socket"
import * as writers from "../../src/internal/writer.ts"

const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "gone" }) })
const fork = Effect.forkChild({ startImmediately: true })

/** A writer that runs, and what it has written. */
const start = Effect.fnUntraced(function*(write: Effect.Effect<void, Socket.SocketError> = Effect.void) {
  const writes: Array<string> = []
  const writer = writers.make((chunk) =>
    Effect.suspend(() => {
      writes.push(Buffer.from(chunk).toString())
      return write
    })
  )
  const push = (text: string) => writer.push(text, Buffer.byteLength(text))
  return { push, running: yield* fork(writer.run), size: writer.size, writes }
})

describe("a client's writer", () => {
  it.effect("writes all of one turn at its end, at once, in order", () =>
    Effect.gen(function*() {
      const { push, size, writes } = yield* start()
      for (const text of ["a", "é", "c"]) push(text)
      assert.deepStrictEqual([writes, size()], [[], 4])
      // One microtask, and no turn of the event loop.
      yield* Effect.promise(() => Promise.resolve())
      assert.deepStrictEqual([writes, size()], [["aéc"], 0])
      push("d")
      yield* Effect.promise(() => Promise.resolve())
      assert.deepStrictEqual(writes, ["aéc", "d"])
    }))

  it.effect("writes what was pushed before it runs", () =>
    Effect.gen(function*() {
      const writes: Array<string> = []
      const writer = writers.make((chunk) => Effect.sync(() => void writes.push(String(chunk))))
      writer.push("a", 1)
      writer.push("b", 1)
      yield* fork(writer.run)
      assert.deepStrictEqual(writes, ["ab"])
    }))

  it.effect("gathers while the socket takes no more, and writes that as one when it does", () =>
    Effect.gen(function*() {
      const drained = yield* Deferred.make<void>()
      const { push, size, writes } = yield* start(Deferred.await(drained))
      push("a")
      yield* Effect.yieldNow
      push("b")
      push("c")
      yield* Effect.yieldNow
      assert.deepStrictEqual([writes, size()], [["a"], 2])
      yield* Deferred.succeed(drained, undefined)
      yield* Effect.yieldNow
      assert.deepStrictEqual([writes, size()], [["a", "bc"], 0])
    }))

  it.effect("writes much in several pieces of whole texts", () =>
    Effect.gen(function*() {
      const { push, size, writes } = yield* start()
      const texts = Array.from({ length: 10 }, (_, n) => `${n}é`.repeat(8_000))
      for (const text of texts) push(text)
      yield* Effect.yieldNow
      assert.strictEqual(writes.join(""), texts.join(""))
      assert.deepStrictEqual(writes.map((text) => Buffer.byteLength(text)), [72_000, 72_000, 72_000, 24_000])
      assert.strictEqual(size(), 0)
    }))

  it.effect("fails with the write that does", () =>
    Effect.gen(function*() {
      const { push, running } = yield* start(Effect.fail(gone))
      push("a")
      assert.strictEqual(yield* Effect.flip(Fiber.join(running)), gone)
    }))
})

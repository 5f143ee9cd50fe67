import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, FiberSet, Latch } from "effect"
import { Socket } from "effect/socket"
import { Outbox, Outboxes, type Sink } from "../../src/internal/outbox.ts"

/** A socket that notes each write, and takes it at once unless `taking` is closed. */
const makeSink = Effect.gen(function*() {
  const taking = Latch.makeUnsafe(true)
  const isTaking = { value: true }
  const writes: Array<string> = []
  const blocks: Array<"blocked" | "unblocked"> = []
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  return {
    writes,
    blocks,
    blockNow: () => {
      isTaking.value = false
      taking.closeUnsafe()
    },
    block: Effect.andThen(Effect.sync(() => isTaking.value = false), taking.close),
    unblock: Effect.andThen(Effect.sync(() => isTaking.value = true), taking.open),
    sink: {
      write: (text: string): Effect.Effect<void, Socket.SocketError> | undefined => {
        writes.push(text)
        return isTaking.value ? undefined : taking.await
      },
      onBlocked: () => blocks.push("blocked"),
      onUnblocked: () => blocks.push("unblocked"),
      onWritten: () => {},
      fork
    }
  }
})

/** One that is alone on its endpoint. */
const makeOutbox = (sink: Sink) => new Outbox(sink, new Outboxes())

const turn = Effect.andThen(Effect.promise(() => Promise.resolve()), Effect.yieldNow)
const flushOf = (outbox: Outbox) => outbox.flush() ?? Effect.void
const fork = Effect.forkChild({ startImmediately: true })

describe("outbox", () => {
  it.effect("writes nothing on a push", () =>
    Effect.gen(function*() {
      const { sink, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      outbox.push("a")
      assert.deepStrictEqual(writes, [])
      assert.strictEqual(outbox.size, 1)
    }))

  it.effect("writes all that was pushed at once, in order, and has nothing to wait for", () =>
    Effect.gen(function*() {
      const { blocks, sink, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      for (const text of ["a", "b", "c"]) outbox.push(text)
      assert.isUndefined(outbox.flush())
      assert.deepStrictEqual(writes, ["abc"])
      assert.deepStrictEqual([outbox.size, outbox.unread, blocks.length], [0, 0, 0])
    }))

  it.effect("writes nothing when there is nothing", () =>
    Effect.gen(function*() {
      const { sink, writes } = yield* makeSink
      assert.isUndefined(makeOutbox(sink).flush())
      assert.deepStrictEqual(writes, [])
    }))

  it.effect("counts bytes, not characters", () =>
    Effect.gen(function*() {
      const outbox = makeOutbox((yield* makeSink).sink)
      outbox.push("é🦊")
      assert.strictEqual(outbox.size, 6)
    }))

  it.effect("writes what gathers during a write in one more", () =>
    Effect.gen(function*() {
      const { block, sink, unblock, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      yield* block
      outbox.push("a")
      const first = yield* fork(flushOf(outbox))
      outbox.push("b")
      outbox.push("c")
      const second = yield* fork(flushOf(outbox))
      assert.deepStrictEqual(writes, ["a"])
      yield* unblock
      yield* Fiber.join(first)
      yield* Fiber.join(second)
      assert.deepStrictEqual(writes, ["a", "bc"])
    }))

  it.effect("tells that the socket does not take more, and that it does again", () =>
    Effect.gen(function*() {
      const { block, blocks, sink, unblock } = yield* makeSink
      const outbox = makeOutbox(sink)
      yield* block
      outbox.push("a")
      const flushing = yield* fork(flushOf(outbox))
      assert.isTrue(outbox.isBlocked)
      assert.deepStrictEqual(blocks, ["blocked"])
      yield* unblock
      yield* Fiber.join(flushing)
      assert.isFalse(outbox.isBlocked)
      assert.deepStrictEqual(blocks, ["blocked", "unblocked"])
    }))

  it.effect("writes at the end of the turn once woken, as often as it is woken", () =>
    Effect.gen(function*() {
      const { sink, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      for (const text of ["a", "b"]) {
        outbox.push(text)
        outbox.wake()
        outbox.push(text.toUpperCase())
        outbox.wake()
        assert.notInclude(writes.join(""), text)
        yield* turn
      }
      assert.deepStrictEqual(writes, ["aA", "bB"])
    }))

  it.effect("misses no wake that comes during a write", () =>
    Effect.gen(function*() {
      const { block, sink, unblock, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      yield* block
      outbox.push("a")
      outbox.wake()
      yield* turn
      outbox.push("b")
      outbox.wake()
      yield* turn
      assert.deepStrictEqual(writes, ["a"])
      yield* unblock
      yield* turn
      assert.deepStrictEqual(writes, ["a", "b"])
    }))

  it.effect("fails with the failure of the socket, for all who wait, and goes on", () =>
    Effect.gen(function*() {
      const { sink } = yield* makeSink
      const gone = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
      const failing = Latch.makeUnsafe(false)
      const outbox = makeOutbox({ ...sink, write: () => Effect.andThen(failing.await, Effect.fail(gone)) })
      outbox.push("a")
      const first = yield* fork(Effect.flip(flushOf(outbox)))
      outbox.push("b")
      const second = yield* fork(Effect.flip(flushOf(outbox)))
      yield* failing.open
      assert.strictEqual(yield* Fiber.join(first), gone)
      assert.strictEqual(yield* Fiber.join(second), gone)
      assert.isFalse(outbox.isBlocked)
    }))

  it.effect("is not blocked for ever by a write that was interrupted", () =>
    Effect.gen(function*() {
      const { block, sink, unblock, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      yield* block
      outbox.push("a")
      yield* Fiber.interrupt(yield* fork(flushOf(outbox)))
      yield* unblock
      outbox.push("b")
      assert.isUndefined(outbox.flush())
      assert.deepStrictEqual(writes, ["a", "b"])
    }))

  it.effect("gives the socket no more than a piece of what waits, in order", () =>
    Effect.gen(function*() {
      const { block, sink, unblock, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      yield* block
      const texts = Array.from({ length: 10 }, (_, n) => String(n).repeat(10_000))
      for (const text of texts) outbox.push(text)
      const flushing = yield* fork(flushOf(outbox))
      assert.deepStrictEqual(writes, [texts.slice(0, 4).join("")])
      assert.strictEqual(outbox.size, 60_000)
      assert.strictEqual(outbox.unread, 100_000)
      yield* unblock
      yield* Fiber.join(flushing)
      assert.strictEqual(writes.join(""), texts.join(""))
      assert.strictEqual(writes.length, 3)
      assert.strictEqual(outbox.unread, 0)
    }))

  it.effect.each([
    { sizes: [32_768], writes: [32_768] },
    { sizes: [32_767, 1], writes: [32_768] },
    { sizes: [32_768, 1], writes: [32_768, 1] },
    { sizes: [32_767, 2], writes: [32_769] },
    { sizes: [1, 32_768], writes: [32_769] }
  ])("writes whole texts, until it is 32 KiB: $sizes", ({ sizes, writes: expected }) =>
    Effect.gen(function*() {
      const { sink, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      for (const size of sizes) outbox.push("a".repeat(size))
      assert.isUndefined(outbox.flush())
      assert.deepStrictEqual(writes.map((text) => text.length), expected)
    }))

  it.effect("does not ask again and again while the socket takes nothing", () =>
    Effect.gen(function*() {
      const { block, sink } = yield* makeSink
      let flushes = 0
      class Counted extends Outbox {
        override flush() {
          flushes++
          return super.flush()
        }
      }
      const outbox = new Counted(sink, new Outboxes())
      yield* block
      outbox.push("a")
      yield* fork(flushOf(outbox))
      yield* fork(flushOf(outbox))
      yield* Effect.repeat(Effect.yieldNow, { times: 10 })
      assert.strictEqual(flushes, 2)
    }))

  it.effect("has no fiber wait for a socket that takes at once what it is woken for", () =>
    Effect.gen(function*() {
      const { sink, writes } = yield* makeSink
      let forks = 0
      const outbox = makeOutbox({ ...sink, fork: () => void forks++ })
      outbox.push("a")
      outbox.wake()
      yield* turn
      assert.deepStrictEqual([writes, forks], [["a"], 0])
    }))

  it.effect("has no fiber wait for a socket that a flush after the wake has found blocked", () =>
    Effect.gen(function*() {
      const { block, sink, unblock, writes } = yield* makeSink
      let forks = 0
      const outbox = makeOutbox({ ...sink, fork: () => void forks++ })
      yield* block
      outbox.push("a")
      outbox.wake()
      const flushing = yield* fork(flushOf(outbox))
      outbox.push("b")
      yield* turn
      assert.deepStrictEqual([writes, forks], [["a"], 0])
      yield* unblock
      yield* Fiber.join(flushing)
      assert.deepStrictEqual(writes, ["a", "b"])
    }))

  it.effect("is written together with the others that were woken in the turn, or before they end", () =>
    Effect.gen(function*() {
      const { sink, writes } = yield* makeSink
      const all = new Outboxes()
      const outboxes = ["a", "b"].map((text) => {
        const outbox = new Outbox(sink, all)
        outbox.push(text)
        outbox.wake()
        return outbox
      })
      all.flush()
      assert.deepStrictEqual(writes, ["a", "b"])
      for (const outbox of outboxes) {
        outbox.push("c")
        outbox.wake()
      }
      yield* turn
      assert.deepStrictEqual(writes, ["a", "b", "c", "c"])
    }))

  it.effect("writes nothing more within a write that lets others write, and finds the socket blocked", () =>
    Effect.gen(function*() {
      const { blockNow, sink, unblock, writes } = yield* makeSink
      const all = new Outboxes()
      let hasRoom = true
      const outbox: Outbox = new Outbox({
        ...sink,
        onWritten: () => {
          if (!hasRoom) return
          hasRoom = false
          blockNow()
          for (const text of ["b", "c"]) {
            outbox.push(text.repeat(40_000))
            outbox.wake()
          }
        }
      }, all)
      outbox.push("a")
      const flushing = outbox.flush()
      assert.deepStrictEqual(writes.map((text) => text.length), [1, 40_000])
      yield* unblock
      yield* flushing ?? Effect.void
      assert.deepStrictEqual(writes.map((text) => text.length), [1, 40_000, 40_000])
      assert.strictEqual(all.unreadBytes, 0)
    }))

  it.effect("counts what all outboxes together have not passed on", () =>
    Effect.gen(function*() {
      const { block, sink, unblock } = yield* makeSink
      const total = new Outboxes()
      const [one, other] = [new Outbox(sink, total), new Outbox(sink, total)]
      yield* block
      one.push("aé")
      other.push("bb")
      const flushing = yield* fork(flushOf(one))
      assert.strictEqual(total.unreadBytes, 5)
      yield* unblock
      yield* Fiber.join(flushing)
      assert.strictEqual(total.unreadBytes, 2)
    }))

  it.effect("counts nothing and takes nothing once it is disposed of, also when a write returns later", () =>
    Effect.gen(function*() {
      const { block, sink, unblock, writes } = yield* makeSink
      const total = new Outboxes()
      const outbox = new Outbox(sink, total)
      yield* block
      outbox.push("a")
      const flushing = yield* fork(flushOf(outbox))
      outbox.push("b")
      outbox.dispose()
      outbox.push("c")
      assert.deepStrictEqual([total.unreadBytes, outbox.unread], [0, 0])
      yield* unblock
      yield* Fiber.join(flushing)
      assert.deepStrictEqual(writes, ["a"])
      assert.strictEqual(total.unreadBytes, 0)
    }))

  it.effect("keeps nobody waiting for a write that does not end once it is disposed of", () =>
    Effect.gen(function*() {
      const { blocks, sink } = yield* makeSink
      const outbox = makeOutbox({ ...sink, write: () => Effect.never })
      outbox.push("a")
      yield* fork(flushOf(outbox))
      const waiting = yield* fork(flushOf(outbox))
      outbox.dispose()
      yield* Fiber.join(waiting)
      assert.deepStrictEqual([outbox.isBlocked, blocks], [false, ["blocked"]])
    }))

  it.effect("says at each write that less is unread, once it is", () =>
    Effect.gen(function*() {
      const { block, sink, unblock } = yield* makeSink
      const unread: Array<number> = []
      const outbox: Outbox = makeOutbox({ ...sink, onWritten: () => unread.push(outbox.unread) })
      outbox.push("a".repeat(40_000))
      outbox.push("b".repeat(10_000))
      assert.isUndefined(outbox.flush())
      yield* block
      outbox.push("c")
      const flushing = yield* fork(flushOf(outbox))
      outbox.push("d")
      yield* unblock
      yield* Fiber.join(flushing)
      assert.deepStrictEqual(unread, [10_000, 0, 1, 0])
    }))

  it.effect("is blocked within the turn in which much is pushed, little by little", () =>
    Effect.gen(function*() {
      const { block, sink, writes } = yield* makeSink
      const outbox = makeOutbox(sink)
      yield* block
      for (let n = 0; n < 40; n++) {
        outbox.push("a".repeat(1_000))
        outbox.wake()
      }
      assert.isTrue(outbox.isBlocked)
      assert.deepStrictEqual(writes.map((text) => text.length), [33_000])
    }))

  it.effect("is blocked within the turn in which much is pushed, also just after a flush", () =>
    Effect.gen(function*() {
      const { block, sink } = yield* makeSink
      const outbox = makeOutbox(sink)
      outbox.push("a".repeat(40_000))
      outbox.wake()
      yield* block
      outbox.push("b".repeat(40_000))
      outbox.wake()
      assert.isTrue(outbox.isBlocked)
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, FiberSet, Scope } from "effect"
import { Socket } from "effect/socket"
import { dial } from "../../src/internal/dialled.ts"
import { Outboxes } from "../../src/internal/outbox.ts"
import { connectMemory } from "../utils/memoryPeer.ts"

const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "gone" }) })
// What is to be written is written by an immediate; one that is asked for later comes behind it.
const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** A dialled connection whose writes are noted, and end as told. */
const dialled = Effect.fnUntraced(function*(writing: Effect.Effect<void, Socket.SocketError> = Effect.void) {
  const { socket } = yield* connectMemory
  const writes: Array<string> = []
  const write = (chunk: unknown) => Effect.andThen(Effect.sync(() => void writes.push(String(chunk))), writing)
  const noted: Socket.Socket = {
    ...socket,
    writer: Effect.map(socket.writer, (writer) => ({ ...writer, write }))
  }
  const scope = yield* Scope.fork(yield* Scope.Scope)
  const outboxes = new Outboxes()
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  const { outbox } = yield* Scope.provide(dial(noted, { fork, outboxes }), scope)
  const say = (text: string) => {
    outbox.push(text)
    outbox.wake()
  }
  return { outbox, outboxes, say, scope, writes }
})

describe("dialled", () => {
  it.effect("writes all of one turn of the event loop at its end, at once, in order", () =>
    Effect.gen(function*() {
      const { outbox, say, writes } = yield* dialled()
      for (const text of ["a", "é", "c"]) say(text)
      assert.deepStrictEqual([writes, outbox.size], [[], 4])
      yield* turn
      assert.deepStrictEqual([writes, outbox.size], [["aéc"], 0])
    }))

  it.effect("gathers while the socket takes no more, and writes that as one when it does", () =>
    Effect.gen(function*() {
      const drained = yield* Deferred.make<void>()
      const { outbox, say, writes } = yield* dialled(Deferred.await(drained))
      say("a")
      yield* turn
      for (const text of ["b", "c"]) say(text)
      yield* turn
      assert.deepStrictEqual([writes, outbox.size], [["a"], 2])
      yield* Deferred.succeed(drained, undefined)
      yield* Effect.yieldNow
      assert.deepStrictEqual([writes, outbox.size], [["a", "bc"], 0])
    }))

  it.effect("leaves a write that fails to the reading", () =>
    Effect.gen(function*() {
      const { say, writes } = yield* dialled(Effect.fail(gone))
      say("a")
      yield* turn
      say("b")
      yield* turn
      assert.deepStrictEqual(writes, ["a", "b"])
    }))

  it.effect("drops what is not written when its scope closes", () =>
    Effect.gen(function*() {
      const { outbox, say, scope, writes } = yield* dialled()
      say("a")
      yield* Scope.close(scope, Exit.void)
      say("b")
      yield* turn
      assert.deepStrictEqual([writes, outbox.size], [[], 0])
    }))
})

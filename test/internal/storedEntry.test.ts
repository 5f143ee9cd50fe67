import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import type { Outcome } from "../../src/Inbox.ts"
import { StoredEntry } from "../../src/internal/storedEntry.ts"
import * as Message from "../../src/Message.ts"

/** An entry, what its observer was told, and the room that its asker has. */
const make = (message: Message.Message) => {
  const told: Array<Outcome> = []
  const room = Latch.makeUnsafe(true)
  const observer = {
    onOutcome: (outcome: Outcome) => told.push(outcome) > 0,
    room: () => room.isOpen() ? undefined : room.await
  }
  const received = { message, sender: { address: undefined, verified: true }, bytes: 1, observer }
  return { entry: new StoredEntry(7, received, { millis: 0 }), room, told }
}

const replied = (data: string): Outcome => ({ _tag: "Replied", data })

describe("storedEntry", () => {
  it("is named by its ordinal", () => {
    assert.strictEqual(make(Message.text("a")).entry.id, "uds-7")
  })

  it.effect("answers a query once, and nothing else", () =>
    Effect.gen(function*() {
      const query = make(Message.query("a"))
      assert.deepStrictEqual([yield* query.entry.reply("b"), query.entry.answer("c")], [true, false])
      assert.deepStrictEqual(query.told, [replied("b")])
      const text = make(Message.text("a"))
      assert.deepStrictEqual([yield* text.entry.reply("b"), text.told], [false, []])
    }))

  it.effect("answers when there is room, and tells the end of its handling behind the answer", () =>
    Effect.gen(function*() {
      const { entry, room, told } = make(Message.query("a"))
      yield* room.close
      const replying = yield* Effect.forkChild(entry.reply("b"), { startImmediately: true })
      entry.settle(true)
      assert.deepStrictEqual([told, entry.status], [[], "processed"])
      yield* room.open
      assert.isTrue(yield* Fiber.join(replying))
      assert.deepStrictEqual(told, [replied("b"), { _tag: "Handled" }])
    }))

  it.effect("is failed for its asker where an answer that waits is given up, and answered by nobody then", () =>
    Effect.gen(function*() {
      const { entry, room, told } = make(Message.query("a"))
      yield* room.close
      const replying = yield* Effect.forkChild(entry.reply("b"), { startImmediately: true })
      entry.settle(false)
      yield* Fiber.interrupt(replying)
      assert.deepStrictEqual(told, [{ _tag: "Failed", answered: false }])
      assert.isFalse(entry.answer("late"))
    }))
})

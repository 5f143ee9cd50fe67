import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import type { Outcome } from "../../src/Inbox.ts"
import * as deliveriesOf from "../../src/internal/deliveries.ts"
import { makeRandom } from "../utils/effort.ts"

const make = (limits: { readonly count?: number; readonly bytes?: number } = {}) =>
  deliveriesOf.make({
    maxRememberedMessages: limits.count ?? 100,
    maxInboxBytes: limits.bytes ?? 100,
    rememberTimeout: Duration.minutes(10)
  })

const delivery = (ackId: string, rememberedAt = 0, deliveries = make()) =>
  Object.assign(new deliveriesOf.Delivery(deliveries, rememberedAt), { ackId })

const age = Duration.toMillis(Duration.minutes(10))

const handled: Outcome = { _tag: "Handled" }
const replied = (data: string): Outcome => ({ _tag: "Replied", data })

describe("deliveries", () => {
  it("finds a message by its sender and its id", () => {
    const deliveries = make()
    const stored = delivery("uds-1")
    deliveries.remember("/alice", "m1", stored)
    assert.strictEqual(deliveries.find("/alice", "m1", 0), stored)
    assert.isUndefined(deliveries.find("/alice", "m2", 0))
    assert.isUndefined(deliveries.find("/bob", "m1", 0))
    assert.isUndefined(deliveries.find("", "m1", 0))
  })

  it("tells ids apart that mean the same number, or only look like one", () => {
    const ids = ["m-1", "m-01", "m-1.0", "m-1e0", "m-+1", "m-", "m", "1", "01", "m-1 ", "M-1", "m-\u0661", "m-10"]
    for (const first of ids) {
      const deliveries = make()
      const others = ids.filter((id) => id !== first)
      for (const id of [first, ...others]) {
        assert.isUndefined(deliveries.find("/alice", id, 0), `${id} behind ${first}`)
        deliveries.remember("/alice", id, delivery(id))
      }
      for (const id of ids) assert.strictEqual(deliveries.find("/alice", id, 0)?.ackId, id)
    }
  })

  it("tells long numbers apart that a number cannot", () => {
    const deliveries = make()
    const ids = ["m-9007199254740992", "m-9007199254740993", "m-999999999999999", "m-1000000000000000"]
    for (const id of ids) deliveries.remember("/alice", id, delivery(id))
    for (const id of ids) assert.strictEqual(deliveries.find("/alice", id, 0)?.ackId, id)
  })

  it.each([1, 16, 17, 1_000])(
    "finds what it should, and only that, where %d is the longest step between ids",
    (step) => {
      const random = makeRandom()
      const count = 3_000
      const deliveries = make({ count })
      const model = new Map<string, deliveriesOf.Delivery>()
      let number = 0
      for (let i = 0; i < 4 * count; i++) {
        number += 1 + Math.floor(random() * step)
        // Now and then one that comes late, or again, or is no number.
        const dice = random()
        const id = dice < 0.02 ? `m-${Math.floor(random() * number)}` : dice < 0.04 ? `${i} other` : `m-${number}`
        assert.strictEqual(deliveries.find("/alice", id, 0), model.get(id))
        if (model.has(id)) continue
        const stored = delivery(`uds-${i}`)
        deliveries.remember("/alice", id, stored)
        model.set(id, stored)
        const [oldest = ""] = model.keys()
        if (model.size > count) model.delete(oldest)
      }
      for (let n = 0; n <= number; n += step) {
        assert.strictEqual(deliveries.find("/alice", `m-${n}`, 0), model.get(`m-${n}`))
      }
      for (const [id, stored] of model) assert.strictEqual(deliveries.find("/alice", id, 0), stored)
    }
  )

  it("finds what several programs without an address number in turns, each behind its own prefix", () => {
    const random = makeRandom()
    const count = 100
    const deliveries = make({ count })
    const model = new Map<string, deliveriesOf.Delivery>()
    for (let i = 0; i < 20 * count; i++) {
      const sender = random() < 0.2 ? "/alice" : ""
      // Few enough that a series is forgotten as a whole, and begins anew.
      const id = `${["a-", "b-", "b-0", "", `${Math.floor(random() * 50)}-`][Math.floor(random() * 5)]}${
        Math.floor(random() * 30)
      }`
      const key = `${sender} ${id}`
      assert.strictEqual(deliveries.find(sender, id, 0), model.get(key))
      if (model.has(key)) continue
      const stored = delivery(`uds-${i}`)
      deliveries.remember(sender, id, stored)
      model.set(key, stored)
      const [oldest = ""] = model.keys()
      if (model.size > count) model.delete(oldest)
    }
  })

  it("forgets the oldest beyond the count", () => {
    const deliveries = make({ count: 2 })
    for (const n of [1, 2, 3]) deliveries.remember("/alice", `m${n}`, delivery(`uds-${n}`))
    const found = [1, 2, 3].map((n) => deliveries.find("/alice", `m${n}`, 0)?.ackId)
    assert.deepStrictEqual(found, [undefined, "uds-2", "uds-3"])
  })

  it("counts the messages of all senders together", () => {
    const deliveries = make({ count: 1 })
    deliveries.remember("/alice", "m1", delivery("uds-1"))
    deliveries.remember("/bob", "m1", delivery("uds-2"))
    assert.isUndefined(deliveries.find("/alice", "m1", 0))
    assert.strictEqual(deliveries.find("/bob", "m1", 0)?.ackId, "uds-2")
  })

  it("forgets a message when its time is over, not before", () => {
    const deliveries = make()
    deliveries.remember("/alice", "m1", delivery("uds-1", 5))
    assert.strictEqual(deliveries.find("/alice", "m1", 5 + age - 1)?.ackId, "uds-1")
    assert.isUndefined(deliveries.find("/alice", "m1", 5 + age))
  })

  it("keeps the younger when the older are forgotten by age", () => {
    const deliveries = make()
    deliveries.remember("/alice", "m1", delivery("uds-1", 0))
    deliveries.remember("/alice", "m2", delivery("uds-2", 1))
    assert.strictEqual(deliveries.find("/alice", "m2", age)?.ackId, "uds-2")
  })

  it("tells the connection that listens, and says that it has", () => {
    const deliveries = make()
    const heard: Array<Outcome> = []
    const stored = delivery("uds-1")
    stored.listener = { tell: (outcome) => heard.push(outcome), room: () => undefined }
    assert.isTrue(deliveries.settle(stored, replied("because")))
    assert.isTrue(deliveries.settle(stored, handled))
    assert.deepStrictEqual(heard, [replied("because"), handled])
  })

  it("keeps outcomes for a sender that comes back, and says that nobody listens", () => {
    const deliveries = make()
    const stored = delivery("uds-1")
    deliveries.remember("/alice", "m1", stored)
    assert.isFalse(deliveries.settle(stored, replied("because")))
    assert.isFalse(deliveries.settle(stored, handled))
    assert.deepStrictEqual(deliveries.find("/alice", "m1", 0)?.outcomes, [replied("because"), handled])
  })

  it("forgets the oldest answers beyond the size, and remembers their messages", () => {
    const deliveries = make({ bytes: 10 })
    const [first, second, third] = [delivery("uds-1"), delivery("uds-2"), delivery("uds-3")]
    for (const stored of [first, second, third]) deliveries.remember("/alice", stored.ackId, stored)
    deliveries.settle(first, replied("12345"))
    deliveries.settle(second, replied("12345"))
    assert.deepStrictEqual(first.outcomes, [replied("12345")])
    deliveries.settle(third, replied("1"))
    assert.deepStrictEqual([first.outcomes, second.outcomes, third.outcomes], [[], [replied("12345")], [replied("1")]])
    assert.strictEqual(deliveries.find("/alice", "uds-1", 0), first)
  })

  it("forgets an answer and not the end of its handling, and knows that there was one", () => {
    const deliveries = make({ bytes: 10 })
    const [first, second] = [delivery("uds-1"), delivery("uds-2")]
    deliveries.settle(first, replied("12345678"))
    deliveries.settle(first, handled)
    assert.isFalse(first.hasLostAnswer)
    deliveries.settle(second, replied("12345678"))
    assert.deepStrictEqual([first.outcomes, first.hasLostAnswer], [[handled], true])
    assert.deepStrictEqual([second.outcomes, second.hasLostAnswer], [[replied("12345678")], false])
  })

  it("keeps the newest answer whatever its size", () => {
    const deliveries = make({ bytes: 10 })
    const [first, second] = [delivery("uds-1"), delivery("uds-2")]
    deliveries.settle(first, replied("1"))
    deliveries.settle(second, replied("x".repeat(11)))
    assert.deepStrictEqual([first.outcomes.length, second.outcomes.length], [0, 1])
  })

  it("has room again for answers whose messages are forgotten", () => {
    const deliveries = make({ bytes: 10 })
    const old = delivery("uds-1", 0)
    deliveries.remember("/alice", "m1", old)
    deliveries.settle(old, replied("1234567890"))
    deliveries.find("/alice", "m1", age)
    const [second, third] = [delivery("uds-2"), delivery("uds-3")]
    deliveries.settle(second, replied("12345"))
    deliveries.settle(third, replied("12345"))
    assert.deepStrictEqual([second.outcomes.length, third.outcomes.length], [1, 1])
  })

  it("tells who listens for a message that is forgotten, and keeps nothing of it", () => {
    const deliveries = make({ count: 1, bytes: 10 })
    const heard: Array<Outcome> = []
    const forgotten = delivery("uds-1")
    forgotten.listener = { tell: (outcome) => heard.push(outcome), room: () => undefined }
    for (const stored of [forgotten, delivery("uds-2")]) deliveries.remember("/alice", stored.ackId, stored)
    assert.isTrue(deliveries.settle(forgotten, replied("12345")))
    assert.isTrue(deliveries.settle(forgotten, handled))
    assert.deepStrictEqual(heard, [replied("12345"), handled])
    assert.deepStrictEqual(forgotten.outcomes, [])
  })
})

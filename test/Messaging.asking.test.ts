import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Latch, Option } from "effect"
import { TestClock } from "effect/testing"
import { Capability } from "../src/Capability.ts"
import * as Layers from "../src/Layers.ts"
import * as Message from "../src/Message.ts"
import { InboxFull, MessagingError, Timeout } from "../src/MessagingError.ts"
import { Transport } from "../src/Transport.ts"
import { askingSuite } from "./suites/asking.ts"
import { type DiallerOptions, endpointsOf, handling, makeDialler } from "./utils/endpoints.ts"

askingSuite("the in-memory network", {
  test: it.effect,
  around: Effect.provide(Layers.memoryNetwork),
  layer: Layers.layerMemory,
  network: Layers.memoryNetwork,
  secondsPass: TestClock.adjust("2 seconds")
})

const around = Effect.provide(Layers.memoryNetwork)
const endpoint = endpointsOf(Layers.layerMemory)
const dialler = (options?: DiallerOptions) => makeDialler(Layers.memoryNetwork, options)
const fork = Effect.forkChild({ startImmediately: true })

const late = (socketPath: string, mayBeStored: boolean) =>
  new MessagingError({ reason: new Timeout({ socketPath, mayBeStored }) })

describe("the deadline", () => {
  it.effect("of a question that nobody answers ends it in doubt, not before", () =>
    Effect.gen(function*() {
      const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
      const asking = yield* fork(Effect.flip(messaging.ask(bob.socketPath, "why?")))
      yield* bob.inbox.take
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(asking.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(asking), late(bob.socketPath, true))
    }).pipe(around))

  it.effect("of a message whose handler has not finished ends it in doubt, not before", () =>
    Effect.gen(function*() {
      const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
      yield* handling(bob, () => Effect.never)
      const options = { until: "handled", timeout: "1 second" } as const
      const sending = yield* fork(Effect.flip(messaging.send(bob.socketPath, Message.text("a"), options)))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(sending.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(sending), late(bob.socketPath, true))
    }).pipe(around))

  it.effect("that is missed leaves the connection to the next request", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler(), yield* endpoint()]
      const asking = yield* fork(Effect.flip(alice.ask(bob.socketPath, "why?", { timeout: "1 second" })))
      yield* bob.inbox.take
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(asking)
      yield* alice.send(bob.socketPath, Message.text("a"))
      assert.strictEqual(alice.dials(), 1)
    }).pipe(around))
})

describe("the deadline of a message to a name", () => {
  /** An endpoint called bob, and another that does not answer, so that looking for a name takes the probe's 3 seconds. */
  const searching = Effect.gen(function*() {
    const silent = "/run/silent/messaging.sock"
    yield* Effect.flatMap(Transport, (transport) => transport.listen({ socketPath: silent }))
    yield* Effect.flatMap(Capability, (capability) => capability.publish(silent))
    return { alice: yield* dialler(), bob: yield* endpoint({ name: "bob" }) }
  })

  it.effect("ends the search for it, without a doubt", () =>
    Effect.gen(function*() {
      const { alice, bob } = yield* searching
      const sending = yield* fork(Effect.flip(alice.send("bob", Message.text("a"), { timeout: "1 second" })))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(sending.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(sending), late("bob", false))
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* bob.inbox.drain, [])
    }).pipe(around))

  it.effect("counts the search for it", () =>
    Effect.gen(function*() {
      const { alice, bob } = yield* searching
      const asking = yield* fork(Effect.flip(alice.ask("bob", "why?")))
      yield* TestClock.adjust("3 seconds")
      yield* bob.inbox.take
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(asking.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(asking), late(bob.socketPath, true))
    }).pipe(around))

  it.effect("may be none", () =>
    Effect.gen(function*() {
      const { alice, bob } = yield* searching
      const asking = yield* fork(alice.ask("bob", "why?", { timeout: Duration.infinity }))
      yield* TestClock.adjust("1 day")
      yield* (yield* bob.inbox.take).reply("because")
      assert.strictEqual(yield* Fiber.join(asking), "because")
    }).pipe(around))
})

describe("with two messages in flight at most", () => {
  const limits = { maxInFlightMessages: 2 }

  it.effect("a third waits, and fails at its own deadline without having been sent", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler({ limits }), yield* endpoint()]
      const ask = fork(alice.ask(bob.socketPath, "why?", { timeout: "1 hour" }))
      const asking = [yield* ask, yield* ask]
      const entries = [yield* bob.inbox.take, yield* bob.inbox.take]
      const third = yield* fork(Effect.flip(alice.send(bob.socketPath, Message.text("c"), { timeout: "1 second" })))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(third.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Fiber.join(third), late(bob.socketPath, false))
      for (const entry of entries) yield* entry.reply("because")
      assert.deepStrictEqual(yield* Effect.forEach(asking, Fiber.join), ["because", "because"])
      assert.deepStrictEqual(yield* bob.inbox.drain, [])
    }).pipe(around))

  it.effect("a third is sent as soon as one is answered", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler({ limits }), yield* endpoint()]
      const ask = fork(alice.ask(bob.socketPath, "why?"))
      const first = yield* ask
      yield* ask
      const entry = yield* bob.inbox.take
      yield* bob.inbox.take
      const third = yield* fork(alice.send(bob.socketPath, Message.text("c")))
      yield* Effect.yieldNow
      assert.isUndefined(third.pollUnsafe())
      yield* entry.reply("because")
      yield* Fiber.join(first)
      yield* Fiber.join(third)
      assert.strictEqual((yield* bob.inbox.take).message.data, "c")
    }).pipe(around))

  it.effect("one that is interrupted makes room", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler({ limits }), yield* endpoint()]
      const ask = fork(alice.ask(bob.socketPath, "why?"))
      const [first] = [yield* ask, yield* ask]
      yield* bob.inbox.take
      yield* bob.inbox.take
      const third = yield* fork(alice.send(bob.socketPath, Message.text("c")))
      yield* Fiber.interrupt(first)
      yield* Fiber.join(third)
      assert.strictEqual((yield* bob.inbox.take).message.data, "c")
    }).pipe(around))
})

it.effect("with more bytes in flight than the limit a message waits", () =>
  Effect.gen(function*() {
    const alice = yield* dialler({ limits: { maxFrameBytes: 1_000, maxInFlightBytes: 1_000 } })
    const bob = yield* endpoint()
    yield* fork(alice.ask(bob.socketPath, "x".repeat(600), { timeout: "1 hour" }))
    const entry = yield* bob.inbox.take
    const second = yield* fork(alice.send(bob.socketPath, Message.text("x".repeat(600))))
    yield* TestClock.adjust("1 second")
    assert.isUndefined(second.pollUnsafe())
    yield* entry.reply("because")
    yield* Fiber.join(second)
  }).pipe(around))

describe("a full inbox", () => {
  const limits = { maxInboxEntries: 1, retryAfter: "100 millis" } as const

  it.effect("fails a send with the time after which to try again", () =>
    Effect.gen(function*() {
      const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint({ limits })]
      yield* messaging.send(bob.socketPath, Message.text("a"))
      const error = yield* Effect.flip(messaging.send(bob.socketPath, Message.text("b")))
      const reason = new InboxFull({ socketPath: bob.socketPath, retryAfter: Option.some(Duration.millis(100)) })
      assert.deepStrictEqual(error, new MessagingError({ reason }))
    }).pipe(around))

  it.effect("is tried again after that time where the caller asked for it", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler(), yield* endpoint({ limits })]
      yield* alice.send(bob.socketPath, Message.text("a"))
      const sending = yield* fork(alice.send(bob.socketPath, Message.text("b"), { retryWhenFull: true }))
      // The pong comes behind the refusal.
      yield* alice.ping(bob.socketPath)
      yield* bob.inbox.take
      yield* TestClock.adjust("99 millis")
      assert.isUndefined(sending.pollUnsafe())
      // Up to a quarter later, so that not all senders come at once.
      yield* TestClock.adjust("26 millis")
      assert.deepStrictEqual((yield* Fiber.join(sending)).id, Option.some("uds-2"))
      assert.deepStrictEqual((yield* bob.inbox.drain).map(({ message }) => message.data), ["b"])
      assert.strictEqual(alice.dials(), 1)
    }).pipe(around))

  it.effect("is tried again until the deadline", () =>
    Effect.gen(function*() {
      const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint({ limits })]
      yield* messaging.send(bob.socketPath, Message.text("a"))
      const sending = yield* fork(
        Effect.flip(messaging.send(bob.socketPath, Message.text("b"), { retryWhenFull: true }))
      )
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(sending.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual((yield* Fiber.join(sending)).reason._tag, "Timeout")
      assert.deepStrictEqual((yield* bob.inbox.drain).map(({ message }) => message.data), ["a"])
    }).pipe(around))
})

describe("the shared connection", () => {
  it.effect("is closed when it has not been used for a while, and opened again", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler(), yield* endpoint()]
      yield* alice.send(bob.socketPath, Message.text("a"))
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(alice.open(), 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(alice.open(), 0)
      yield* alice.send(bob.socketPath, Message.text("b"))
      assert.deepStrictEqual([alice.dials(), alice.open()], [2, 1])
    }).pipe(around))

  it.effect("stays open as long as it is used now and then", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler(), yield* endpoint()]
      for (let n = 0; n < 10; n++) {
        yield* alice.send(bob.socketPath, Message.text("a"))
        yield* TestClock.adjust("9 seconds")
      }
      assert.deepStrictEqual([alice.dials(), alice.open()], [1, 1])
    }).pipe(around))

  it.effect("outlives the peer's idle limit while a question waits", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler(), yield* endpoint({ limits: { idleTimeout: "12 seconds" } })]
      const answer = yield* Latch.make()
      yield* handling(bob, () => Effect.as(answer.await, "because"))
      const asking = yield* fork(alice.ask(bob.socketPath, "why?", { timeout: "1 hour" }))
      for (let n = 0; n < 60; n++) yield* TestClock.adjust("1 second")
      yield* answer.open
      assert.strictEqual(yield* Fiber.join(asking), "because")
      assert.strictEqual(alice.dials(), 1)
    }).pipe(around))

  it.effect("does not fail a later send for what an earlier one, given up, has met", () =>
    Effect.gen(function*() {
      const bob = yield* endpoint()
      // Nobody accepts there, so no handshake ends.
      const silent = "/run/silent/messaging.sock"
      yield* Effect.flatMap(Transport, (transport) => transport.listen({ socketPath: silent }))
      let isStuck = true
      const alice = yield* dialler({ via: (socketPath) => isStuck ? silent : socketPath })
      const message = Message.text("a")
      const first = yield* fork(Effect.flip(alice.send(bob.socketPath, message, { timeout: "1 second" })))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(first), late(bob.socketPath, false))
      yield* TestClock.adjust("5 seconds")
      isStuck = false
      const { id } = yield* alice.send(bob.socketPath, message)
      assert.deepStrictEqual(id, Option.some("uds-1"))
    }).pipe(around))

  it.effect("is not lost again and again to a message that the peer's frames have no room for", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler(), yield* endpoint({ limits: { maxFrameBytes: 1_000 } })]
      const sending = yield* fork(Effect.flip(alice.send(bob.socketPath, Message.text("x".repeat(2_000)))))
      yield* TestClock.adjust("5 seconds")
      const { reason } = yield* Fiber.join(sending)
      assert.notStrictEqual(reason._tag, "Timeout")
      assert.isAtMost(alice.dials(), 2)
    }).pipe(around))
})

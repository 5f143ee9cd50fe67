import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { MessagingError, Timeout } from "../../src/MessagingError.ts"
import { Network } from "../../src/testing/index.ts"
import { endpointsOf } from "../utils/endpoints.ts"

const endpoint = endpointsOf(Layers.layerMemory)

const [alicePath, bobPath, carolPath] = ["/memory/alice.sock", "/memory/bob.sock", "/memory/carol.sock"] as const

/** A test in a network of its own. */
const check = (
  behaviour: string,
  options: Network.Options,
  body: () => Effect.Effect<void, unknown, Scope.Scope | Network.Network>
) =>
  it.effect(
    behaviour,
    () => Effect.suspend(body).pipe(Effect.provide(Layer.mergeAll(Layers.memoryNetwork, Network.layer(options))))
  )

const names = (count: number) => Array.from({ length: count }, (_, n) => `message ${n}`)
const data = (entries: ReadonlyArray<{ readonly message: Message.Message }>) =>
  entries.map(({ message }) => message.data)
const millis = Effect.clockWith((clock) => clock.currentTimeMillis)

/** Everything that happened while two senders, over a bad network, send ten messages each. */
const rough = (seed: number) =>
  Effect.gen(function*() {
    const bob = yield* endpoint({ socketPath: bobPath })
    const senders = [yield* endpoint({ socketPath: alicePath }), yield* endpoint({ socketPath: carolPath })]
    const exits = yield* Network.run(Effect.forEach(
      senders,
      ({ messaging }) => Effect.forEach(names(10), (text) => Effect.exit(messaging.send(bobPath, Message.text(text)))),
      { concurrency: "unbounded" }
    ))
    const network = yield* Network.Network
    return {
      events: yield* network.log,
      stored: data(yield* bob.inbox.drain),
      sent: exits.flat().filter(Exit.isSuccess)
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(
      Layer.mergeAll(
        Layers.memoryNetwork,
        Network.layer({ seed, maxDelay: "80 millis", dropAcks: 0.1, cut: 0.1 })
      ),
      TestClock.layer()
    ))
  )

describe("Network", () => {
  check("does nothing to frames unless told to", {}, () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* endpoint({ socketPath: alicePath }), yield* endpoint({ socketPath: bobPath })]
      yield* alice.messaging.send(bobPath, Message.text("hello"))
      assert.deepStrictEqual(data(yield* bob.inbox.drain), ["hello"])
      const { log } = yield* Network.Network
      assert.deepStrictEqual(
        (yield* log).map(({ direction, fate, frame }) => `${direction} ${frame} ${fate}`),
        [
          "request hello delivered",
          "reply challenge delivered",
          "request auth delivered",
          "request text delivered",
          "reply ack delivered"
        ]
      )
    }))

  check(
    "lets each frame be under way as long as its delay, by Effect's clock",
    { minDelay: "100 millis" },
    () =>
      Effect.gen(function*() {
        const alice = yield* endpoint({ socketPath: alicePath })
        yield* endpoint({ socketPath: bobPath })
        yield* Network.run(alice.messaging.send(bobPath, Message.text("hello")))
        // hello, challenge, auth with the message, ack.
        assert.strictEqual(yield* millis, 400)
      })
  )

  check(
    "keeps the order of one connection whatever the delays",
    { maxDelay: "100 millis" },
    () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint({ socketPath: alicePath }), yield* endpoint({ socketPath: bobPath })]
        yield* Network.run(Effect.forEach(
          names(50),
          (text) => alice.messaging.send(bobPath, Message.text(text)),
          { concurrency: "unbounded" }
        ))
        assert.deepStrictEqual(data(yield* bob.inbox.drain), names(50))
      })
  )

  check(
    "lets the frames of one connection overtake those of another",
    { maxDelay: "100 millis" },
    () =>
      Effect.gen(function*() {
        const bob = yield* endpoint({ socketPath: bobPath })
        const senders = [yield* endpoint({ socketPath: alicePath }), yield* endpoint({ socketPath: carolPath })]
        yield* Network.run(Effect.forEach(
          senders.entries(),
          ([n, { messaging }]) =>
            Effect.forEach(names(10), (text) => messaging.send(bobPath, Message.text(`${n} ${text}`))),
          { concurrency: "unbounded" }
        ))
        const stored = data(yield* bob.inbox.drain)
        const taking = names(10).flatMap((text) => [`0 ${text}`, `1 ${text}`])
        assert.sameMembers(stored, taking)
        assert.notDeepEqual(stored, taking)
      })
  )

  check(
    "loses acks and leaves the connection: the sender waits and may have been heard",
    { dropAcks: 1 },
    () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint({ socketPath: alicePath }), yield* endpoint({ socketPath: bobPath })]
        const error = yield* Network.run(Effect.flip(alice.messaging.send(bobPath, Message.text("hello"))))
        assert.deepStrictEqual(
          error,
          new MessagingError({ reason: new Timeout({ socketPath: bobPath, mayBeStored: true }) })
        )
        assert.strictEqual(yield* millis, 5_000)
        assert.deepStrictEqual(data(yield* bob.inbox.drain), ["hello"])
      })
  )

  check(
    "cuts a connection: what lost its ack is sent again and stored once",
    { dropAcks: 1, minDelay: 10 },
    () =>
      Effect.gen(function*() {
        const network = yield* Network.Network
        const [alice, bob] = [yield* endpoint({ socketPath: alicePath }), yield* endpoint({ socketPath: bobPath })]
        const cutting = Effect.gen(function*() {
          while (!(yield* network.log).some(({ fate }) => fate === "dropped")) yield* Effect.sleep(10)
          yield* network.set({ dropAcks: 0 })
          assert.strictEqual(yield* network.cut(bobPath), 1)
        })
        const [receipt] = yield* Network.run(Effect.all(
          [alice.messaging.send(bobPath, Message.text("hello")), cutting],
          { concurrency: "unbounded" }
        ))
        assert.deepStrictEqual(receipt.id, Option.some("uds-1"))
        assert.deepStrictEqual(data(yield* bob.inbox.drain), ["hello"])
        assert.deepStrictEqual([...new Set((yield* network.log).map(({ connection }) => connection))], [1, 2])
      })
  )

  check("cuts in the place of a frame", { cut: 1 }, () =>
    Effect.gen(function*() {
      const network = yield* Network.Network
      const alice = yield* endpoint({ socketPath: alicePath })
      yield* endpoint({ socketPath: bobPath })
      const error = yield* Network.run(Effect.flip(alice.messaging.send(bobPath, Message.text("hello"))))
      assert.strictEqual(error.reason._tag, "Timeout")
      const events = yield* network.log
      assert.isAbove(events.length, 5)
      assert.deepStrictEqual([...new Set(events.map(({ fate, frame }) => `${frame} ${fate}`))], ["hello cut"])
    }))

  check("cuts nothing that leads elsewhere", {}, () =>
    Effect.gen(function*() {
      const network = yield* Network.Network
      const alice = yield* endpoint({ socketPath: alicePath })
      yield* endpoint({ socketPath: bobPath })
      yield* alice.messaging.ping(bobPath)
      assert.deepStrictEqual([yield* network.cut(carolPath), yield* network.cut()], [0, 1])
    }))

  it.effect("gives the same run for the same seed", () =>
    Effect.gen(function*() {
      const [first, ...others] = [yield* rough(7), yield* rough(7), yield* rough(7)]
      assert.isAbove(first.events.filter(({ fate }) => fate === "cut").length, 3)
      assert.isAbove(first.events.filter(({ fate }) => fate === "dropped").length, 0)
      assert.isAbove(first.sent.length, 5)
      for (const other of others) assert.deepStrictEqual(other, first)
    }))

  it.effect("gives another run for another seed", () =>
    Effect.gen(function*() {
      assert.notDeepEqual((yield* rough(7)).events, (yield* rough(8)).events)
    }))

  it.effect.each(
    [
      { options: { cut: 1.1 }, told: "the network's cut cannot be 1.1" },
      { options: { dropAcks: -1 }, told: "the network's dropAcks cannot be -1" },
      {
        options: { minDelay: "1 second", maxDelay: 10 },
        told: "the network's maxDelay cannot be 10 ms, less than minDelay"
      },
      { options: { minDelay: "Infinity" }, told: "the network's minDelay cannot be Infinity" }
    ] as const
  )("refuses what cannot be: $told", ({ options, told }) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provide(Effect.void, Network.layer(options)))
      assert.strictEqual(error.message, told)
    }))
})

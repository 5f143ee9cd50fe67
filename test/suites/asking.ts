/**
 * What becomes of a message after it is stored, as its sender hears it: receipts, answers, failures, over one shared
 * connection; over any network, on any clock.
 */
import { assert, describe, type Vitest } from "@effect/vitest"
import { Deferred, Effect, Fiber, Latch, type Layer, Option, Random, type Scope } from "effect"
import type { Capability } from "../../src/Capability.ts"
import type * as Inbox from "../../src/Inbox.ts"
import type * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import type * as Messaging from "../../src/Messaging.ts"
import { ConnectionLost, HandlerFailed, MessagingError, NotSupported } from "../../src/MessagingError.ts"
import type { Transport } from "../../src/Transport.ts"
import { type DiallerOptions, endpointsOf, handling, makeDialler } from "../utils/endpoints.ts"

export interface Kit {
  readonly test: Vitest.Tester<Scope.Scope>
  /** What the endpoints of one test share: a network, or a host. */
  readonly around: <A, E>(body: Effect.Effect<A, E, Scope.Scope>) => Effect.Effect<A, E, Scope.Scope>
  readonly layer: (options?: Layers.Options) => Layer.Layer<Messaging.Messaging | Inbox.Inbox, Layers.StartError>
  readonly network: Layer.Layer<Capability | Transport, Layers.StartError>
  /** Lets two seconds pass, where the clock does not run by itself. */
  readonly secondsPass: Effect.Effect<void>
}

const count = (length: number, name: string) => Array.from({ length }, (_, n) => `${name} ${n}`)

const texts = (entries: ReadonlyArray<Inbox.Entry>) => entries.map(({ message }) => message.data)

const failed = (socketPath: string) => new MessagingError({ reason: new HandlerFailed({ socketPath }) })

const echo = ({ message }: Inbox.Entry) => Effect.succeed(`to ${message.data}`)

const fork = Effect.forkChild({ startImmediately: true })

export const askingSuite = (name: string, { around, layer, network, secondsPass, test }: Kit) => {
  const endpoint = endpointsOf(layer)
  const dialler = (options?: DiallerOptions) => makeDialler(network, options)

  const check = <A, E>(behaviour: string, body: () => Effect.Effect<A, E, Scope.Scope>) =>
    test(behaviour, () => around(Effect.suspend(body)))

  describe(`receipts over ${name}`, () => {
    check("resolves a send until handled only after the handler", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        const [begun, finish] = [yield* Deferred.make<void>(), yield* Latch.make()]
        yield* handling(bob, () => Effect.andThen(Deferred.succeed(begun, undefined), finish.await))
        const sending = yield* fork(messaging.send(bob.socketPath, Message.text("a"), { until: "handled" }))
        yield* Deferred.await(begun)
        // The pong comes behind all that the peer has said so far.
        yield* messaging.ping(bob.socketPath)
        assert.isUndefined(sending.pollUnsafe())
        yield* finish.open
        assert.deepStrictEqual(yield* Fiber.join(sending), { socketPath: bob.socketPath, id: Option.some("uds-1") })
      }))

    const faults: ReadonlyArray<readonly [string, Effect.Effect<never, string>]> = [
      ["fails", Effect.fail("no")],
      ["dies", Effect.die(new Error("a fault of the handler"))]
    ]
    for (const [how, fault] of faults) {
      check(`fails a send until handled with HandlerFailed when the handler ${how}`, () =>
        Effect.gen(function*() {
          const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
          yield* handling(bob, () => fault)
          const sending = messaging.send(bob.socketPath, Message.text("a"), { until: "handled" })
          assert.deepStrictEqual(yield* Effect.flip(sending), failed(bob.socketPath))
        }))

      check(`fails a question with HandlerFailed when the handler ${how}`, () =>
        Effect.gen(function*() {
          const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
          yield* handling(bob, () => fault)
          assert.deepStrictEqual(yield* Effect.flip(messaging.ask(bob.socketPath, "why?")), failed(bob.socketPath))
        }))

      check(`serves the next question after a handler ${how}`, () =>
        Effect.gen(function*() {
          const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
          yield* handling(bob, ({ message }) => message.data === "bad" ? fault : Effect.succeed("fine"))
          yield* Effect.flip(messaging.ask(bob.socketPath, "bad"))
          assert.strictEqual(yield* messaging.ask(bob.socketPath, "good"), "fine")
        }))
    }

    check("resolves a send until stored although the handler fails", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        yield* handling(bob, () => Effect.fail("no"))
        const { id } = yield* messaging.send(bob.socketPath, Message.text("a"))
        assert.deepStrictEqual(id, Option.some("uds-1"))
      }))
  })

  describe(`questions over ${name}`, () => {
    check("are answered by the handler's value", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        yield* handling(bob, echo)
        assert.strictEqual(yield* messaging.ask(bob.socketPath, "why?"), "to why?")
      }))

    check("are answered by a reply to the entry", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        const asking = yield* fork(messaging.ask(bob.socketPath, "why?"))
        const entry = yield* bob.inbox.take
        yield* entry.reply("because")
        assert.strictEqual(yield* Fiber.join(asking), "because")
      }))

    check("reach the asker though the endpoint ends with the answer", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        const asking = yield* fork(messaging.ask(bob.socketPath, "why?"))
        const entry = yield* bob.inbox.take
        yield* Effect.andThen(entry.reply("because"), bob.close)
        assert.strictEqual(yield* Fiber.join(asking), "because")
      }))

    check("let a reply know that somebody waits for it", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        yield* fork(messaging.ask(bob.socketPath, "why?"))
        const entry = yield* bob.inbox.take
        assert.deepStrictEqual([yield* entry.reply("because"), yield* entry.reply("again")], [true, false])
      }))

    check("are answered by a reply that was passed on without its entry", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        const asking = yield* fork(messaging.ask(bob.socketPath, "why?"))
        const { reply } = yield* bob.inbox.take
        yield* reply("because")
        assert.strictEqual(yield* Fiber.join(asking), "because")
      }))

    check(
      "are all answered or told of their failure, also when that is more than a peer may leave unread",
      () =>
        Effect.gen(function*() {
          const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
          const questions = count(400, "question")
          const answer = "x".repeat(60_000)
          const all = yield* Latch.make()
          let begun = 0
          // One in ten fails.
          const isGood = (n: number) => n % 10 !== 9
          const handler = ({ message }: Inbox.Entry) => {
            const n = begun++
            return Effect.andThen(
              begun === questions.length ? all.open : all.await,
              isGood(n) ? Effect.succeed(`${message.data} ${answer}`) : Effect.fail("no")
            )
          }
          yield* handling(bob, handler, { concurrency: questions.length })
          const answers = yield* Effect.forEach(
            questions,
            (question) =>
              Effect.catch(
                messaging.ask(bob.socketPath, question),
                ({ reason }) => Effect.succeed(reason._tag)
              ),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(
            answers,
            questions.map((question, n) => isGood(n) ? `${question} ${answer}` : "HandlerFailed")
          )
          assert.strictEqual(begun, questions.length)
        })
    )

    check("are answered once, by the first reply", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        yield* handling(bob, (entry) => Effect.as(entry.reply("first"), "second"))
        assert.strictEqual(yield* messaging.ask(bob.socketPath, "why?"), "first")
        assert.strictEqual(yield* messaging.ask(bob.socketPath, "and?"), "first")
      }))

    check("keep every character of the answer", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        const answer = "a\nb\r\t\"\\\u0000é🦊\u2028"
        yield* handling(bob, () => Effect.succeed(answer))
        assert.strictEqual(yield* messaging.ask(bob.socketPath, "why?"), answer)
      }))

    check("come from a sender that has proved its address", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* handling(bob, ({ sender }) => Effect.succeed(JSON.stringify(sender)))
        const answer = yield* alice.messaging.ask(bob.socketPath, "who am I?")
        assert.deepStrictEqual(JSON.parse(answer), { address: alice.socketPath, verified: true })
      }))

    check("to oneself are answered", () =>
      Effect.gen(function*() {
        const alice = yield* endpoint()
        yield* handling(alice, echo)
        assert.strictEqual(yield* alice.messaging.ask(alice.socketPath, "me"), "to me")
      }))

    check("to oneself are answered while a question of one's own is handled", () =>
      Effect.gen(function*() {
        const alice = yield* endpoint()
        yield* handling(alice, (entry) =>
          entry.message.data === "outer" ? alice.messaging.ask(alice.socketPath, "inner") : echo(entry), {
          concurrency: 2
        })
        assert.strictEqual(yield* alice.messaging.ask(alice.socketPath, "outer"), "to inner")
      }))

    check("let a message to oneself be handled", () =>
      Effect.gen(function*() {
        const alice = yield* endpoint()
        yield* handling(alice, echo)
        yield* alice.messaging.send(alice.socketPath, Message.text("me"), { until: "handled" })
        assert.deepStrictEqual(yield* alice.inbox.size, { entries: 0, bytes: 0 })
      }))

    check("of two peers to each other at once are answered", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* handling(alice, echo)
        yield* handling(bob, echo)
        const questions = count(20, "question")
        const [there, back] = yield* Effect.all([
          Effect.forEach(questions, (q) => alice.messaging.ask(bob.socketPath, q), { concurrency: "unbounded" }),
          Effect.forEach(questions, (q) => bob.messaging.ask(alice.socketPath, q), { concurrency: "unbounded" })
        ], { concurrency: 2 })
        assert.deepStrictEqual([there, back], [questions.map((q) => `to ${q}`), questions.map((q) => `to ${q}`)])
      }))

    check("fail at once, in doubt, when the peer ends", () =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpoint(), yield* endpoint()]
        const asking = yield* fork(Effect.flip(messaging.ask(bob.socketPath, "why?", { timeout: "1 hour" })))
        yield* bob.inbox.take
        yield* bob.close
        yield* secondsPass
        const reason = new ConnectionLost({ socketPath: bob.socketPath, mayBeStored: true })
        assert.deepStrictEqual(yield* Fiber.join(asking), new MessagingError({ reason }))
      }))

    check("10,000 at once over one connection each get their own answer, in any order", () =>
      Effect.gen(function*() {
        const questions = count(10_000, "question")
        const [messages, bytes] = [questions.length, 8_388_608]
        const bob = yield* endpoint({ limits: { maxInboxEntries: messages, maxInboxBytes: bytes } })
        const alice = yield* dialler({ limits: { maxInFlightMessages: messages, maxInFlightBytes: bytes } })
        const asking = yield* Effect.forkChild(
          Effect.forEach(questions, (question) => alice.ask(bob.socketPath, question, { timeout: "1 hour" }), {
            concurrency: "unbounded"
          })
        )
        const entries = yield* Effect.forEach(questions, () => bob.inbox.take)
        const inRandomOrder = yield* Random.withSeed(Random.shuffle(entries), "asking")
        for (const entry of inRandomOrder) yield* entry.reply(`to ${entry.message.data}`)
        assert.deepStrictEqual(yield* Fiber.join(asking), questions.map((question) => `to ${question}`))
        assert.strictEqual(alice.dials(), 1)
      }))
  })

  describe(`a peer of protocol 1 over ${name}`, () => {
    check("has no receipts", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler({ protocol: 1 }), yield* endpoint()]
        const error = yield* Effect.flip(alice.send(bob.socketPath, Message.text("a"), { until: "handled" }))
        const reason = new NotSupported({ socketPath: bob.socketPath, what: "receipts" })
        assert.deepStrictEqual(error, new MessagingError({ reason }))
      }))

    check("has no answers", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler({ protocol: 1 }), yield* endpoint()]
        const error = yield* Effect.flip(alice.ask(bob.socketPath, "why?"))
        const reason = new NotSupported({ socketPath: bob.socketPath, what: "answers" })
        assert.deepStrictEqual(error, new MessagingError({ reason }))
        assert.strictEqual((yield* bob.inbox.size).entries, 0)
      }))
  })

  describe(`the shared connection over ${name}`, () => {
    check("is one for 50 sends at once", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler(), yield* endpoint()]
        const sent = count(50, "message")
        yield* Effect.forEach(sent, (data) => alice.send(bob.socketPath, Message.text(data)), {
          concurrency: "unbounded"
        })
        assert.sameMembers([...texts(yield* bob.inbox.drain)], sent)
        assert.strictEqual(alice.dials(), 1)
      }))

    check("keeps the order of each fiber's messages", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler(), yield* endpoint()]
        const fibers = count(10, "fiber").map((fiber) => count(20, fiber))
        yield* Effect.forEach(fibers, Effect.forEach((data) => alice.send(bob.socketPath, Message.text(data))), {
          concurrency: "unbounded"
        })
        const stored = texts(yield* bob.inbox.drain)
        assert.deepStrictEqual(fibers.map((sent) => stored.filter((data) => sent.includes(data ?? ""))), fibers)
      }))

    check("serves the others after one request is interrupted", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler(), yield* endpoint()]
        const ask = (question: string) => fork(alice.ask(bob.socketPath, question))
        const [first, second, third] = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
        const entries = yield* Effect.forEach([1, 2, 3], () => bob.inbox.take)
        yield* Fiber.interrupt(second)
        for (const entry of entries) yield* entry.reply(`to ${entry.message.data}`)
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(third)], ["to a", "to c"])
        yield* alice.send(bob.socketPath, Message.text("d"))
        assert.deepStrictEqual(texts(yield* bob.inbox.drain), ["d"])
        assert.strictEqual(alice.dials(), 1)
      }))

    check("serves the others after the one that opens it is interrupted", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler(), yield* endpoint()]
        const first = yield* fork(alice.send(bob.socketPath, Message.text("a")))
        const second = yield* fork(alice.send(bob.socketPath, Message.text("b")))
        yield* Fiber.interrupt(first)
        yield* Fiber.join(second)
        assert.include(texts(yield* bob.inbox.drain), "b")
        assert.strictEqual(alice.dials(), 1)
      }))

    check("is one for each peer", () =>
      Effect.gen(function*() {
        const [alice, bob, carol] = [yield* dialler(), yield* endpoint(), yield* endpoint()]
        for (const { socketPath } of [bob, carol, bob, carol]) yield* alice.send(socketPath, Message.text("a"))
        assert.deepStrictEqual([alice.dials(), alice.open()], [2, 2])
      }))

    check("is replaced after the peer has restarted at its path", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* dialler(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.text("a"))
        yield* bob.close
        const again = yield* endpoint({ socketPath: bob.socketPath })
        const sending = yield* fork(alice.send(bob.socketPath, Message.text("b")))
        yield* secondsPass
        assert.deepStrictEqual(yield* Fiber.join(sending), { socketPath: bob.socketPath, id: Option.some("uds-1") })
        assert.deepStrictEqual(texts(yield* again.inbox.drain), ["b"])
      }))
  })
}

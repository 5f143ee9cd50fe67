/**
 * What every endpoint does, whatever carries its messages. Instantiated once for each way to build endpoints.
 */
import { assert, describe, type Vitest } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { InvalidAddress } from "../../src/Address.ts"
import * as Inbox from "../../src/Inbox.ts"
import type * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import * as Messaging from "../../src/Messaging.ts"
import { InboxFull, MessagingError, PeerNotFound } from "../../src/MessagingError.ts"

export interface Kit {
  /** What the capabilities of the endpoints say. */
  readonly protocol: 1 | 2
  readonly test: Vitest.Tester<Scope.Scope>
  /** What the endpoints of one test share: a network, or a host. */
  readonly around: <A, E>(body: Effect.Effect<A, E, Scope.Scope>) => Effect.Effect<A, E, Scope.Scope>
  readonly layer: (options?: Layers.Options) => Layer.Layer<Messaging.Messaging | Inbox.Inbox, Layers.StartError>
  /** Endpoints that only send. */
  readonly layerClient: Layer.Layer<Messaging.Messaging, Layers.StartError>
}

/** A valid path at which nobody has ever listened. */
const nobody = "/tmp/nobody/messaging.sock"

const unreachable = new MessagingError({ reason: new PeerNotFound({ socketPath: nobody }) })

const cycle: Record<string, unknown> = {}
cycle["self"] = { cycle }

const texts = (entries: ReadonlyArray<Inbox.Entry>) => entries.map(({ message }) => message.data)

const names = (from: string, count: number) => Array.from({ length: count }, (_, n) => `${from} ${n}`)

export const messagingSuite = (name: string, { around, layer, layerClient, protocol, test }: Kit) => {
  /** An endpoint that lives as long as the test, or until it is closed. */
  const endpoint = Effect.fnUntraced(function*(options?: Layers.Options) {
    const scope = yield* Scope.fork(yield* Scope.Scope)
    const services = yield* Layer.buildWithScope(layer(options), scope)
    const messaging = Context.get(services, Messaging.Messaging)
    return {
      ...messaging,
      inbox: Context.get(services, Inbox.Inbox),
      socketPath: Option.getOrThrow(messaging.address).socketPath,
      close: Scope.close(scope, Exit.void)
    }
  })

  const client = Effect.map(Layer.build(layerClient), (services) => Context.get(services, Messaging.Messaging))

  const check = <A, E>(behaviour: string, body: () => Effect.Effect<A, E, Scope.Scope>) =>
    test(behaviour, () => around(Effect.suspend(body)))

  describe(`Messaging over ${name}`, () => {
    check("resolves a send with the id of the entry and the path of the peer", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        const receipt = yield* alice.send(bob.socketPath, Message.text("hello"))
        assert.deepStrictEqual(receipt, { socketPath: bob.socketPath, id: Option.some("uds-1") })
      }))

    check("has stored the message when a send resolves", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.text("hello"))
        assert.deepStrictEqual(texts(yield* bob.inbox.drain), ["hello"])
      }))

    check("counts the ids of an inbox from 1, whoever sends", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        const receipts = [
          yield* alice.send(bob.socketPath, Message.text("a")),
          yield* bob.send(bob.socketPath, Message.text("b")),
          yield* alice.send(bob.socketPath, Message.text("c"))
        ]
        assert.deepStrictEqual(receipts.map(({ id }) => Option.getOrNull(id)), ["uds-1", "uds-2", "uds-3"])
      }))

    check("keeps the order of the messages of one fiber", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        const sent = names("message", 50)
        yield* Effect.forEach(sent, (data) => alice.send(bob.socketPath, Message.text(data)))
        assert.deepStrictEqual(texts(yield* bob.inbox.drain), sent)
      }))

    // What only protocol 2 can prove, and only protocol 2 can say.
    const [verified, retryAfter] = protocol === 2
      ? [true, Option.some(Duration.millis(100))]
      : [false, Option.none()]

    check(
      `delivers the message without a token, from ${verified ? "a verified" : "an unverified"} sender`,
      () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint()]
          yield* alice.send(bob.socketPath, Message.query("when?", { ts: "then", meta: { n: [1, null] } }))
          const { message, sender } = yield* bob.inbox.take
          assert.deepStrictEqual({ message, sender }, {
            message: { type: "query", data: "when?", from: alice.socketPath, ts: "then", meta: { n: [1, null] } },
            sender: { address: alice.socketPath, verified }
          })
        })
    )

    check("delivers a message without meta without one", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.notification("done"))
        const { message } = yield* bob.inbox.take
        assert.deepStrictEqual(message, { type: "notification", data: "done", from: alice.socketPath })
      }))

    check("lets the token of the message's own meta neither through nor out", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.text("hello", { meta: { authToken: "mine", kept: true } }))
        assert.deepStrictEqual((yield* bob.inbox.take).message.meta, { kept: true })
      }))

    check("keeps the sender that a message states", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.text("hello", { from: "/somebody/else" }))
        assert.strictEqual((yield* bob.inbox.take).message.from, "/somebody/else")
      }))

    check(
      `takes for the sender who ${verified ? "has proved itself, whatever the message" : "the message"} states`,
      () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint()]
          yield* alice.send(bob.socketPath, Message.text("hello", { from: "/somebody/else" }))
          const address = verified ? alice.socketPath : "/somebody/else"
          assert.deepStrictEqual((yield* bob.inbox.take).sender, { address, verified })
        })
    )

    check("pings a peer", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        assert.isTrue(Duration.isFinite(yield* alice.ping(bob.socketPath)))
      }))

    check("stores nothing for a ping", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.ping(bob.socketPath)
        assert.deepStrictEqual(yield* bob.inbox.size, { entries: 0, bytes: 0 })
      }))

    check(`${verified ? "tells" : "is not told"} what is in a peer's inbox`, () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.text("hello"))
        const { inbox, roundTrip } = yield* alice.status(bob.socketPath)
        const size = yield* bob.inbox.size
        assert.strictEqual(size.entries, 1)
        assert.deepStrictEqual(inbox, verified ? Option.some(size) : Option.none())
        assert.isTrue(Duration.isFinite(roundTrip))
      }))

    check("sends to itself", () =>
      Effect.gen(function*() {
        const alice = yield* endpoint()
        yield* alice.send(alice.socketPath, Message.text("note"))
        const { message, sender } = yield* alice.inbox.take
        assert.deepStrictEqual([message.data, sender.address], ["note", alice.socketPath])
      }))

    check("lets two endpoints send to each other at once", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        const [toBob, toAlice] = [names("to bob", 20), names("to alice", 20)]
        const concurrency = { concurrency: 10 }
        yield* Effect.all([
          Effect.forEach(toBob, (data) => alice.send(bob.socketPath, Message.text(data)), concurrency),
          Effect.forEach(toAlice, (data) => bob.send(alice.socketPath, Message.text(data)), concurrency)
        ], { concurrency: 2 })
        const received = [texts(yield* alice.inbox.drain), texts(yield* bob.inbox.drain)]
        assert.sameMembers([...received[0] ?? []], toAlice)
        assert.sameMembers([...received[1] ?? []], toBob)
      }))

    check("gives each endpoint an inbox of its own", () =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* endpoint(), yield* endpoint()]
        yield* alice.send(bob.socketPath, Message.text("hello"))
        assert.deepStrictEqual(yield* alice.inbox.drain, [])
      }))

    describe("inbox", () => {
      check("shows messages from others as arrivals without taking them", () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint()]
          const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(bob.inbox.arrivals, 2)), {
            startImmediately: true
          })
          yield* alice.send(bob.socketPath, Message.text("a"))
          yield* alice.send(bob.socketPath, Message.text("b"))
          assert.deepStrictEqual(texts(yield* Fiber.join(seen)), ["a", "b"])
          assert.deepStrictEqual(texts(yield* bob.inbox.drain), ["a", "b"])
        }))

      check("streams messages from others and takes them", () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint()]
          yield* alice.send(bob.socketPath, Message.text("a"))
          yield* alice.send(bob.socketPath, Message.text("b"))
          yield* alice.send(bob.socketPath, Message.text("c"))
          assert.deepStrictEqual(texts(yield* Stream.runCollect(Stream.take(bob.inbox.stream, 2))), ["a", "b"])
          assert.deepStrictEqual(texts(yield* bob.inbox.drain), ["c"])
        }))
    })

    describe("failures", () => {
      check("fails with PeerNotFound for a message to nobody", () =>
        Effect.gen(function*() {
          const alice = yield* endpoint()
          const error = yield* Effect.flip(alice.send(nobody, Message.text("hello")))
          assert.deepStrictEqual(error, unreachable)
        }))

      check("fails with PeerNotFound for a ping to nobody", () =>
        Effect.gen(function*() {
          const alice = yield* endpoint()
          const error = yield* Effect.flip(alice.ping(nobody))
          assert.deepStrictEqual(error, unreachable)
        }))

      check("does not find an endpoint that has closed", () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint()]
          yield* bob.close
          const { reason } = yield* Effect.flip(alice.send(bob.socketPath, Message.text("hello")))
          assert.include(["PeerNotFound", "PeerUnreachable"], reason._tag)
        }))

      check("fails with InboxFull when the peer has no room", () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint({ limits: { maxInboxEntries: 1 } })]
          yield* alice.send(bob.socketPath, Message.text("a"))
          const error = yield* Effect.flip(alice.send(bob.socketPath, Message.text("b")))
          const reason = new InboxFull({ socketPath: bob.socketPath, retryAfter })
          assert.deepStrictEqual(error, new MessagingError({ reason }))
        }))

      check("sends again once the peer has room", () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* endpoint(), yield* endpoint({ limits: { maxInboxEntries: 1 } })]
          yield* alice.send(bob.socketPath, Message.text("a"))
          yield* Effect.flip(alice.send(bob.socketPath, Message.text("b")))
          yield* bob.inbox.take
          const { id } = yield* alice.send(bob.socketPath, Message.text("c"))
          assert.deepStrictEqual(id, Option.some("uds-2"))
        }))

      check(
        "fails with MessageTooLarge and stores nothing when the envelope exceeds a frame",
        () =>
          Effect.gen(function*() {
            const [alice, bob] = [yield* endpoint(), yield* endpoint()]
            const { reason } = yield* Effect.flip(alice.send(bob.socketPath, Message.text("x".repeat(65_536))))
            assert.strictEqual(reason._tag, "MessageTooLarge")
            assert.deepStrictEqual(yield* bob.inbox.drain, [])
          })
      )

      const unsendable: ReadonlyArray<readonly [string, unknown]> = [
        ["a BigInt in meta", { value: 1n }],
        ["a cycle in meta", cycle],
        ["NaN in meta", { value: Number.NaN }],
        ["a Date in meta", { value: new Date(0) }],
        ["a getter that throws in meta", {
          get value() {
            throw new Error("a fault of the caller")
          }
        }],
        ["an array for meta", ["lost"]],
        ["a Map for meta", new Map([["lost", true]])],
        ["a string for meta", "lost"]
      ]
      for (const [what, meta] of unsendable) {
        check(`fails with InvalidMessage and stores nothing for ${what}`, () =>
          Effect.gen(function*() {
            const [alice, bob] = [yield* endpoint(), yield* endpoint()]
            const message = { type: "text", data: "hello", meta } as Message.Message
            const { reason } = yield* Effect.flip(alice.send(bob.socketPath, message))
            assert.strictEqual(reason._tag, "InvalidMessage")
            assert.deepStrictEqual(texts(yield* bob.inbox.drain), [])
          }))
      }
    })

    describe("addresses", () => {
      const forms: ReadonlyArray<readonly [string, (socketPath: string) => Messaging.To]> = [
        ["a path", (socketPath) => socketPath],
        ["an address text", (socketPath) => `uds:${socketPath}`],
        ["an object with a path", (socketPath) => ({ socketPath })]
      ]
      for (const [form, to] of forms) {
        check(`sends to ${form}`, () =>
          Effect.gen(function*() {
            const bob = yield* endpoint()
            const receipt = yield* bob.send(to(bob.socketPath), Message.text("hello"))
            assert.strictEqual(receipt.socketPath, bob.socketPath)
          }))
      }

      for (
        const [what, given] of [["a relative path", "run/a.sock"], ["nothing", ""], ["a NUL", "/run/a\0.sock"]] as const
      ) {
        check(`refuses ${what} as an address`, () =>
          Effect.gen(function*() {
            const alice = yield* endpoint()
            const { reason } = yield* Effect.flip(alice.send(given, Message.text("hello")))
            assert.instanceOf(reason, InvalidAddress)
            assert.deepStrictEqual(reason.given, Option.some(given))
          }))
      }

      check("refuses an address with a token without repeating it", () =>
        Effect.gen(function*() {
          const alice = yield* endpoint()
          const error = yield* Effect.flip(alice.send("uds:/run/a.sock#token=c0ffee", Message.text("hello")))
          assert.instanceOf(error.reason, InvalidAddress)
          assert.notInclude(`${JSON.stringify(error)} ${error.message} ${String(error)} ${error.stack}`, "c0ffee")
        }))
    })

    describe("an endpoint that only sends", () => {
      check("has no address", () =>
        Effect.gen(function*() {
          assert.deepStrictEqual((yield* client).address, Option.none())
        }))

      check("sends without stating a sender", () =>
        Effect.gen(function*() {
          const bob = yield* endpoint()
          yield* (yield* client).send(bob.socketPath, Message.text("hello"))
          const { message, sender } = yield* bob.inbox.take
          assert.deepStrictEqual({ message, sender }, {
            message: { type: "text", data: "hello" },
            sender: { address: undefined, verified: false }
          })
        }))

      check("pings", () =>
        Effect.gen(function*() {
          const bob = yield* endpoint()
          assert.isTrue(Duration.isFinite(yield* (yield* client).ping(bob.socketPath)))
        }))
    })
  })
}

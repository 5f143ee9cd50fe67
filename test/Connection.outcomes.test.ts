import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, References } from "effect"
import type { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import type * as Inbox from "../src/Inbox.ts"
import { defaults, Limits } from "../src/Limits.ts"
import { makeEndpoint, neverRead } from "./utils/memoryPeer.ts"
import {
  ack2,
  answer,
  duplicate,
  failed,
  full,
  handled,
  noAnswer,
  ping2,
  pong2,
  query,
  request,
  serveProven2,
  shake,
  withReceipt
} from "./utils/protocol2.ts"

const withLimits = (overrides: Partial<typeof defaults>) => Effect.provideService(Limits, { ...defaults, ...overrides })

const isOpen = ({ session }: { readonly session: Fiber.Fiber<unknown> }) => session.pollUnsafe() === undefined

const dataOf = (entries: ReadonlyArray<Inbox.Entry>) => entries.map(({ message }) => message.data)

/** Handles what arrives until the test ends; what its handler does wrong is not logged. */
const handling = <E>({ inbox }: { readonly inbox: Inbox.Inbox["Service"] }, handler: Inbox.Handler<E, never>) =>
  inbox.consume(handler).pipe(
    Effect.provideService(References.MinimumLogLevel, "None"),
    Effect.forkScoped({ startImmediately: true })
  )

/** An endpoint to which peers connect and prove themselves, each perhaps with a path. */
const makeProving = Effect.gen(function*() {
  const { connect, inbox } = yield* makeEndpoint()
  return {
    inbox,
    connect: Effect.fnUntraced(function*(from?: string) {
      const served = yield* connect()
      yield* shake(served.peer, { from })
      return served
    })
  }
})

/** Reads as many replies as are asked for. */
const lines = ({ line }: { readonly line: Effect.Effect<string | undefined> }, count: number) =>
  Effect.replicateEffect(line, count)

describe("Connection, protocol 2", () => {
  describe("a repeated message", () => {
    it.effect("gets the first ack, marked, and is stored once", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("a") + request("b") + request("a") + request("a", { data: "other" }))
        assert.deepStrictEqual(yield* lines(peer, 4), [
          ack2(1, "a"),
          ack2(2, "b"),
          duplicate(1, "a"),
          duplicate(1, "a")
        ])
        assert.deepStrictEqual(dataOf(yield* inbox.drain), ["a", "b"])
      }))

    it.effect("is known on another connection of its sender", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const first = yield* connect("/run/alice.sock")
        yield* first.peer.write(request("a"))
        assert.strictEqual(yield* first.peer.line, ack2(1, "a"))
        yield* first.peer.hangUp
        const second = yield* connect("/run/alice.sock")
        yield* second.peer.write(request("a"))
        assert.strictEqual(yield* second.peer.line, duplicate(1, "a"))
        assert.deepStrictEqual(dataOf(yield* inbox.drain), ["a"])
      }))

    it.effect("is not known from another sender", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const peers = [yield* connect("/run/alice.sock"), yield* connect("/run/bob.sock"), yield* connect()]
        for (const [n, { peer }] of peers.entries()) {
          yield* peer.write(request("a"))
          assert.strictEqual(yield* peer.line, ack2(n + 1, "a"))
        }
        assert.deepStrictEqual(dataOf(yield* inbox.drain), ["a", "a", "a"])
      }))

    it.effect("is known after it was taken, and while the inbox is full", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, ack2(1, "a"))
        yield* inbox.take
        yield* peer.write(request("b") + request("a") + request("c"))
        assert.deepStrictEqual(yield* lines(peer, 3), [ack2(2, "b"), duplicate(1, "a"), full("c")])
      }).pipe(withLimits({ maxInboxEntries: 1 })))

    it.effect("is stored when the first try was refused", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("a") + request("b"))
        assert.deepStrictEqual(yield* lines(peer, 2), [ack2(1, "a"), full("b")])
        yield* inbox.take
        yield* peer.write(request("b") + request("b"))
        assert.deepStrictEqual(yield* lines(peer, 2), [ack2(2, "b"), duplicate(2, "b")])
      }).pipe(withLimits({ maxInboxEntries: 1 })))

    it.effect("is forgotten, the oldest first, beyond maxRememberedMessages", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(["a", "b", "c", "b", "a"].map((id) => request(id)).join(""))
        assert.deepStrictEqual(yield* lines(peer, 5), [
          ack2(1, "a"),
          ack2(2, "b"),
          ack2(3, "c"),
          duplicate(2, "b"),
          ack2(4, "a")
        ])
        assert.deepStrictEqual(dataOf(yield* inbox.drain), ["a", "b", "c", "a"])
      }).pipe(withLimits({ maxRememberedMessages: 2 })))

    it.effect("is known just before rememberTimeout", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2()
        yield* peer.write(request("a"))
        yield* peer.line
        yield* TestClock.adjust("19999 millis")
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, duplicate(1, "a", 19_999))
      }).pipe(withLimits({ rememberTimeout: Duration.seconds(20) })))

    it.effect("is forgotten at rememberTimeout, which a repetition does not move", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2()
        yield* peer.write(request("a"))
        yield* peer.line
        yield* TestClock.adjust("19 seconds")
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, duplicate(1, "a", 19_000))
        yield* TestClock.adjust("1 second")
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, ack2(2, "a", 20_000))
      }).pipe(withLimits({ rememberTimeout: Duration.seconds(20) })))
  })

  describe("receipts", () => {
    it.effect("say handled after the ack, also when the handler takes no time", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.void)
        yield* served.peer.write(withReceipt("a"))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(1, "a"), handled("a")])
      }))

    it.effect("wait for the handler", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.sleep("3 seconds"))
        yield* served.peer.write(withReceipt("a"))
        assert.strictEqual(yield* served.peer.line, ack2(1, "a"))
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* served.peer.line, handled("a", 3000))
      }))

    it.effect.each([
      { what: "fails", handler: () => Effect.fail("no") },
      { what: "dies", handler: () => Effect.die("no") },
      {
        what: "throws",
        handler: () => {
          throw new Error("no")
        }
      }
    ])("say failed, and no more, when the handler $what", ({ handler }) =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling<string>(served, handler)
        yield* served.peer.write(withReceipt("a"))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(1, "a"), failed("a")])
      }))

    it.effect.each([
      { what: "no receipt", data: request("a") },
      { what: "a receipt of another kind", data: request("a", { meta: { receipt: "read" } }) }
    ])("are not sent for $what", ({ data }) =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.void)
        yield* served.peer.write(data)
        yield* served.peer.line
        yield* served.peer.write(withReceipt("b"))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(2, "b"), handled("b")])
      }))

    it.effect("go to the connection that asks again after the first has died", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const first = yield* connect("/run/alice.sock")
        yield* first.peer.write(withReceipt("a"))
        assert.strictEqual(yield* first.peer.line, ack2(1, "a"))
        yield* first.peer.hangUp
        yield* Fiber.join(first.session)
        const { peer } = yield* connect("/run/alice.sock")
        yield* peer.write(withReceipt("a"))
        assert.strictEqual(yield* peer.line, duplicate(1, "a"))
        yield* handling({ inbox }, () => Effect.void)
        assert.strictEqual(yield* peer.line, handled("a"))
      }))

    it.effect("are told again when the message was handled while its sender had no connection", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const first = yield* connect("/run/alice.sock")
        yield* first.peer.write(withReceipt("a"))
        yield* first.peer.line
        yield* first.peer.hangUp
        yield* Fiber.join(first.session)
        yield* handling({ inbox }, () => Effect.fail("no"))
        yield* Effect.repeat(inbox.size, { until: ({ entries }) => entries === 0 })
        const { peer } = yield* connect("/run/alice.sock")
        yield* peer.write(withReceipt("a"))
        assert.deepStrictEqual(yield* lines(peer, 2), [duplicate(1, "a"), failed("a")])
      }))
  })

  describe("answers", () => {
    it.effect("name the query, in the order in which they are given", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(query("a") + query("b"))
        const [a, b] = [yield* inbox.take, yield* inbox.take]
        assert.deepStrictEqual(yield* lines(peer, 2), [ack2(1, "a"), ack2(2, "b")])
        assert.isTrue(yield* b.reply("to b"))
        assert.isTrue(yield* a.reply("to a"))
        assert.deepStrictEqual(yield* lines(peer, 2), [answer("to b", "b"), answer("to a", "a")])
      }))

    it.effect("are what the handler of a query gives, before its receipt", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, ({ message }) => Effect.succeed(`${message.data}!`))
        yield* served.peer.write(query("a", { receipt: "handled" }))
        assert.deepStrictEqual(yield* lines(served.peer, 3), [ack2(1, "a"), answer("a!", "a"), handled("a")])
      }))

    it.effect("are not made of what the handler of another message gives", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.succeed("lost"))
        yield* served.peer.write(withReceipt("a"))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(1, "a"), handled("a")])
      }))

    it.effect("count once: the first", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        const replies: Array<boolean> = []
        yield* handling(served, (entry) =>
          Effect.gen(function*() {
            for (const data of ["first", "second"]) replies.push(yield* entry.reply(data))
            return "third"
          }))
        yield* served.peer.write(query("a", { receipt: "handled" }))
        assert.deepStrictEqual(yield* lines(served.peer, 3), [ack2(1, "a"), answer("first", "a"), handled("a")])
        assert.isFalse(replies[1])
      }))

    it.effect("say failed when the handler fails, with a receipt too if it was asked for", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.fail("no"))
        yield* served.peer.write(query("a") + query("b", { receipt: "handled" }))
        assert.deepStrictEqual(
          (yield* lines(served.peer, 5)).sort(),
          [
            ack2(1, "a"),
            noAnswer("a"),
            ack2(2, "b"),
            failed("b"),
            noAnswer("b")
          ].sort()
        )
      }))

    it.effect("are not followed by another when the handler fails after its answer", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, (entry) => Effect.andThen(entry.reply("yes"), Effect.fail("no")))
        yield* served.peer.write(query("a"))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(1, "a"), answer("yes", "a")])
        yield* served.peer.write(query("b"))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(2, "b"), answer("yes", "b")])
      }))

    it.effect("go to the connection that asks again, with what is known already", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const first = yield* connect("/run/alice.sock")
        yield* first.peer.write(query("a"))
        yield* first.peer.line
        yield* first.peer.hangUp
        yield* Fiber.join(first.session)
        assert.isFalse(yield* (yield* inbox.take).reply("yes"))
        const { peer } = yield* connect("/run/alice.sock")
        yield* peer.write(query("a"))
        assert.deepStrictEqual(yield* lines(peer, 2), [duplicate(1, "a"), answer("yes", "a")])
      }))

    it.effect("are said to have failed to whoever asks again when they are forgotten, and receipts are not", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const first = yield* connect("/run/alice.sock")
        yield* first.peer.write(query("a", { receipt: "handled" }) + query("b"))
        yield* lines(first.peer, 2)
        yield* first.peer.hangUp
        yield* Fiber.join(first.session)
        yield* handling({ inbox }, () => Effect.succeed("x".repeat(200)))
        yield* Effect.repeat(inbox.size, { until: ({ entries }) => entries === 0 })
        const { peer } = yield* connect("/run/alice.sock")
        yield* peer.write(query("a", { receipt: "handled" }) + query("b"))
        const said = yield* lines(peer, 5)
        assert.deepStrictEqual(said, [
          duplicate(1, "a"),
          noAnswer("a"),
          handled("a"),
          duplicate(2, "b"),
          answer("x".repeat(200), "b")
        ])
      }).pipe(withLimits({ maxInboxBytes: 300 })))

    it.effect("stay with the connection that asked again when the first one ends after all", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeProving
        const [first, second] = [yield* connect("/run/alice.sock"), yield* connect("/run/alice.sock")]
        yield* first.peer.write(query("a"))
        assert.strictEqual(yield* first.peer.line, ack2(1, "a"))
        yield* second.peer.write(query("a"))
        assert.strictEqual(yield* second.peer.line, duplicate(1, "a"))
        yield* first.peer.hangUp
        yield* Fiber.join(first.session)
        assert.isTrue(yield* (yield* inbox.take).reply("yes"))
        assert.strictEqual(yield* second.peer.line, answer("yes", "a"))
      }))

    it.effect("are waited for however many later messages have been handled meanwhile", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* served.peer.write(query("slow"))
        yield* served.peer.line
        const slow = yield* served.inbox.take
        yield* handling(served, () => Effect.void)
        for (const [n, id] of ["a", "b", "c"].entries()) {
          yield* served.peer.write(withReceipt(id))
          assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(n + 2, id), handled(id)])
        }
        assert.isTrue(yield* slow.reply("yes"))
        assert.strictEqual(yield* served.peer.line, answer("yes", "slow"))
      }).pipe(withLimits({ maxRememberedMessages: 2, maxInboxEntries: 1 })))

    it.effect("are not waited for, the oldest first, beyond maxRememberedMessages", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        const entries: Array<Inbox.Entry> = []
        for (const id of ["a", "b", "c"]) {
          yield* peer.write(query(id))
          yield* peer.line
          entries.push(yield* inbox.take)
        }
        assert.deepStrictEqual(yield* Effect.forEach(entries, (entry) => entry.reply("yes")), [false, true, true])
        assert.deepStrictEqual(yield* lines(peer, 2), [answer("yes", "b"), answer("yes", "c")])
      }).pipe(withLimits({ maxRememberedMessages: 2, maxInboxEntries: 1 })))

    it.effect("are waited for while their queries are in the inbox", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(query("a") + query("b"))
        yield* lines(peer, 2)
        const entries = yield* inbox.drain
        assert.deepStrictEqual(yield* Effect.forEach(entries, (entry) => entry.reply("yes")), [true, true])
      }).pipe(withLimits({ maxRememberedMessages: 1, maxInboxEntries: 2 })))

    it.effect("may fill a frame, and are none when they are longer", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        const most = 65_536 - answer("", "a").length
        yield* handling(served, ({ message }) => Effect.succeed("x".repeat(Number(message.data))))
        yield* served.peer.write(query("a").replace(`"data":"a"`, `"data":"${most}"`))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(1, "a"), answer("x".repeat(most), "a")])
        yield* served.peer.write(query("b").replace(`"data":"b"`, `"data":"${most + 1}"`))
        assert.deepStrictEqual(yield* lines(served.peer, 2), [ack2(2, "b"), noAnswer("b")])
      }))

    it.effect.each([
      { what: "an answered query", asked: query("a"), told: [answer("yes", "a")] },
      { what: "a handled message", asked: withReceipt("a"), told: [handled("a")] },
      {
        what: "an answered query with a receipt",
        asked: query("a", { receipt: "handled" }),
        told: [answer("yes", "a"), handled("a")]
      },
      { what: "a message that asks for nothing", asked: request("a"), told: [] }
    ])("are followed by nothing else: $what", ({ asked, told }) =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.succeed("yes"))
        yield* served.peer.write(asked)
        assert.deepStrictEqual(yield* lines(served.peer, 1 + told.length), [ack2(1, "a"), ...told])
        yield* served.peer.write(ping2("b"))
        assert.strictEqual(yield* served.peer.line, pong2("b", 0, 0))
      }))

    it.effect("are never frames that the protocol has no room for", () =>
      Effect.gen(function*() {
        const served = yield* serveProven2()
        yield* handling(served, () => Effect.succeed("x".repeat(70_000)))
        yield* served.peer.write(query("a"))
        for (const line of yield* lines(served.peer, 2)) assert.isAtMost(Buffer.byteLength(line ?? ""), 65_536)
      }))
  })

  describe("a peer that does not read its answers", () => {
    /** Reads what is written until told to stop; from then on a write leaves its text and does not finish. */
    const stoppable = (written: Array<string>) => {
      let stopped = false
      const through = (socket: Socket.Socket): Socket.Socket => {
        const stuck = neverRead(written)(socket)
        return {
          ...socket,
          writer: Effect.map(Effect.all([socket.writer, stuck.writer]), ([reading, unread]) => ({
            ...reading,
            write: (chunk) => stopped ? unread.write(chunk) : reading.write(chunk)
          }))
        }
      }
      return { through, stop: () => void (stopped = true) }
    }

    it.effect("is cut at the write deadline, and not before", () =>
      Effect.gen(function*() {
        const written: Array<string> = []
        const { stop, through } = stoppable(written)
        const { inbox, peer, session } = yield* serveProven2({ through })
        yield* peer.write(query("a"))
        yield* peer.line
        stop()
        yield* (yield* inbox.take).reply("yes")
        yield* TestClock.adjust("4999 millis")
        assert.isUndefined(session.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(session)
        assert.deepStrictEqual(written, [`${answer("yes", "a")}\n`])
      }))

    it.effect("is sent no more answers once maxUnreadBytes wait for it, and cut at the write deadline", () =>
      Effect.gen(function*() {
        const written: Array<string> = []
        const { stop, through } = stoppable(written)
        const { inbox, peer, session } = yield* serveProven2({ through })
        yield* peer.write(Array.from({ length: 100 }, (_, n) => query(`${n}`)).join(""))
        yield* lines(peer, 100)
        stop()
        const replying = yield* Effect.forkScoped(
          Effect.forEach(yield* inbox.drain, (entry) => Effect.tap(entry.reply("x".repeat(100)), () => Effect.yieldNow))
        )
        yield* TestClock.adjust("4999 millis")
        assert.deepStrictEqual([replying.pollUnsafe(), session.pollUnsafe()], [undefined, undefined])
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(session)
        const answered = yield* Fiber.join(replying)
        assert.strictEqual(answered.length, 100)
        assert.isAtMost(answered.filter((told) => told).length * 100, 1000 + 2 * 200)
        assert.isAtMost(written.join("").length, 1000 + 2 * 200)
      }).pipe(withLimits({ maxUnreadBytes: 1000 })))

    it.effect("waits above an equal share once all together leave maxTotalUnreadBytes, and no other does", () =>
      Effect.gen(function*() {
        const { stop, through } = stoppable([])
        const { connect, inbox } = yield* makeEndpoint()
        const [much, little, reader] = [yield* connect({ through }), yield* connect({ through }), yield* connect()]
        for (const [n, { peer }] of [much, little, reader].entries()) {
          yield* shake(peer, { from: `/run/${n}.sock` })
          yield* peer.write(query("a") + query("b") + query("c"))
          yield* lines(peer, 3)
        }
        stop()
        const entries = yield* inbox.drain
        const reply = (n: number, size: number) =>
          Effect.andThen(entries[n]?.reply("x".repeat(size)) ?? Effect.die("no entry"), Effect.yieldNow)
        yield* reply(0, 3_000)
        yield* reply(3, 100)
        yield* reply(1, 1_500)
        // 4,000 are reached; a share is 1,000.
        yield* reply(4, 100)
        yield* reply(6, 3_000)
        const waiting = yield* Effect.forkScoped(reply(2, 1))
        yield* reply(5, 100)
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        assert.isUndefined(waiting.pollUnsafe())
        assert.deepStrictEqual([much, little, reader].map(isOpen), [true, true, true])
        assert.strictEqual((yield* lines(reader.peer, 1))[0]?.length, answer("x".repeat(3_000), "a").length)
      }).pipe(withLimits({ maxTotalUnreadBytes: 4_000, maxPeers: 4 })))

    it.effect("does not keep others from their answers", () =>
      Effect.gen(function*() {
        const { stop, through } = stoppable([])
        const { connect, inbox } = yield* makeEndpoint()
        const [deaf, other] = [yield* connect({ through }), yield* connect()]
        yield* shake(deaf.peer, { from: "/run/deaf.sock" })
        yield* shake(other.peer, { from: "/run/other.sock" })
        yield* deaf.peer.write(query("a"))
        yield* deaf.peer.line
        stop()
        yield* handling({ inbox }, () => Effect.succeed("yes"))
        yield* other.peer.write(query("b"))
        assert.deepStrictEqual(yield* lines(other.peer, 2), [ack2(2, "b"), answer("yes", "b")])
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Metric, Queue } from "effect"
import { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import * as wires from "../../src/internal/wire.ts"
import { defaults, Limits } from "../../src/Limits.ts"
import { ack, error, makeEndpoint, ping, pong, serve, text } from "../utils/memoryPeer.ts"
import { answer, handled, query, request, shake, withReceipt } from "../utils/protocol2.ts"

const withLimits = (overrides: Partial<typeof defaults>) => Effect.provideService(Limits, { ...defaults, ...overrides })

const gone = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })

/**
 * A wire whose peer is the test: what arrives, chunk by chunk; whether the system takes what is written; and when the
 * connection is gone, which does not follow from its being destroyed.
 */
const makeWire = Effect.gen(function*() {
  const arriving = yield* Queue.unbounded<wires.Chunks, Socket.SocketError>()
  const lines = yield* Queue.unbounded<string>()
  const writes: Array<string> = []
  const taken = Latch.makeUnsafe(false)
  let isTaking = true
  let destroyed = 0
  const note = (text: string) => {
    writes.push(text)
    for (const line of text.split("\n").slice(0, -1)) Queue.offerUnsafe(lines, line)
  }
  let endReading = () => {}
  const wire = wires.make({
    pull: Effect.raceFirst(
      Queue.take(arriving),
      Effect.callback<never, Socket.SocketError>((resume) => {
        endReading = () => resume(Effect.fail(gone))
      })
    ),
    write: (chunk) => {
      note(String(chunk))
      return isTaking ? undefined : taken.await
    },
    end: (chunk) => Effect.sync(() => note(chunk)),
    destroy: () => destroyed++
  })
  const arrive = (...chunks: ReadonlyArray<string>) =>
    Effect.asVoid(Queue.offer(arriving, chunks.map((chunk) => Buffer.from(chunk))))
  return {
    through: (socket: Socket.Socket): Socket.Socket => ({ ...socket, ...wire }),
    writes,
    arrive,
    peer: { write: (data: string | Uint8Array) => arrive(String(data)), line: Queue.take(lines) },
    stopTaking: () => void (isTaking = false),
    takeAfterAll: taken.open,
    destroyed: () => destroyed,
    goAway: Effect.asVoid(Queue.fail(arriving, gone)),
    /** There and then, as a socket tells it. */
    endNow: Effect.sync(() => endReading())
  }
})

const turns = Effect.repeat(Effect.yieldNow, { times: 20 })

const serveWire = Effect.gen(function*() {
  const wire = yield* makeWire
  return { ...wire, ...yield* serve({ through: wire.through }), peer: wire.peer }
})

type MemoryEndpoint = Effect.Success<ReturnType<typeof makeEndpoint>>

/** A connection of protocol 2 whose peer has proved itself, and the acks of what it said since. */
const proven = Effect.fnUntraced(function*({ connect }: MemoryEndpoint, from: string, said: ReadonlyArray<string>) {
  const wire = yield* makeWire
  const { session } = yield* connect({ through: wire.through })
  yield* shake(wire.peer, { from })
  yield* wire.arrive(said.join(""))
  for (const _ of said) yield* wire.peer.line
  const before = wire.writes.length
  /** What was written since the acks. */
  const told = () => wire.writes.slice(before).join("")
  return { ...wire, session, told }
})

const idsOf = (count: number) => Array.from({ length: count }, (_, n) => String(n))

/** One that waits for `count` receipts. */
const waiting = Effect.fnUntraced(function*(endpoint: MemoryEndpoint, count: number, from: string) {
  const peer = yield* proven(endpoint, from, idsOf(count).map(withReceipt))
  const ends = yield* Queue.unbounded<void>()
  yield* endpoint.inbox.consume(() => Queue.take(ends), { concurrency: count }).pipe(
    Effect.forkScoped({ startImmediately: true })
  )
  yield* turns
  /** Has the next receipt told. */
  const tell = Effect.andThen(Queue.offer(ends, undefined), turns)
  return { ...peer, tell }
})

/** One that waits for `count` answers, and the entries to answer. */
const asking = Effect.fnUntraced(function*(endpoint: MemoryEndpoint, count: number, from = "/run/a.sock") {
  const peer = yield* proven(endpoint, from, idsOf(count).map((id) => query(id)))
  const entries = yield* endpoint.inbox.drain
  const reply = (n: number, data = "x") =>
    Effect.tap(Effect.forkScoped(entries[n]?.reply(data) ?? Effect.die("no such entry")), turns)
  return { ...peer, reply }
})

describe("accepted", () => {
  it.effect("writes what was answered in the turn in which the peer closes its side", () =>
    Effect.gen(function*() {
      const endpoint = yield* makeEndpoint()
      const peer = yield* proven(endpoint, "/run/a.sock", [query("0")])
      const [entry] = yield* endpoint.inbox.drain
      yield* Effect.andThen(entry?.reply("in time") ?? Effect.die("no entry"), peer.endNow)
      yield* turns
      assert.include(peer.told(), "in time")
    }))

  describe("what arrives", () => {
    it.effect("is judged in order, all the chunks of it, long and short", () =>
      Effect.gen(function*() {
        const { arrive, inbox, peer } = yield* serveWire
        const long = Array.from({ length: 200 }, (_, n) => text(`${n}`.padStart(100))).join("")
        assert.isAbove(long.length, 2 * 16_384)
        yield* arrive(long, text("200"), "\n", text("201"))
        for (let n = 1; n <= 202; n++) assert.strictEqual(yield* peer.line, ack(n))
        const stored = yield* inbox.drain
        assert.deepStrictEqual(stored.map(({ message }) => Number(message.data)), stored.map((_, n) => n))
      }))

    it.effect("is stored with the time at which it arrived", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeEndpoint()
        const [old, young] = [yield* connect(), yield* connect()]
        yield* TestClock.adjust("1 second")
        yield* old.peer.write(text("a"))
        yield* old.peer.line
        yield* shake(young.peer)
        yield* TestClock.adjust("2 seconds")
        yield* young.peer.write(request("b"))
        yield* young.peer.line
        assert.deepStrictEqual((yield* inbox.drain).map(({ receivedAt }) => receivedAt.epochMilliseconds), [
          1_000,
          3_000
        ])
      }))

    it.effect("is answered at once while the system takes the answers, however many", () =>
      Effect.gen(function*() {
        const { arrive, writes } = yield* serveWire
        yield* arrive(ping.repeat(100))
        yield* turns
        assert.strictEqual(writes.join(""), `${pong()}\n`.repeat(100))
      }).pipe(withLimits({ maxUnreadBytes: 500 })))

    it.effect("is answered in one write for as many as may be left unread", () =>
      Effect.gen(function*() {
        const { arrive, writes } = yield* serveWire
        yield* arrive(ping.repeat(7))
        yield* turns
        assert.deepStrictEqual(writes, [3, 3, 1].map((count) => `${pong()}\n`.repeat(count)))
      }).pipe(withLimits({ maxUnreadBytes: 3 * (pong().length + 1) })))

    it.effect("is not judged after the last word that a deadline brings", () =>
      Effect.gen(function*() {
        const { arrive, inbox, writes } = yield* serveWire
        yield* TestClock.adjust("2 seconds")
        yield* arrive(text("a"))
        yield* turns
        assert.deepStrictEqual(writes, [`${error("authentication timeout", 2000)}\n`])
        assert.strictEqual((yield* inbox.size).entries, 0)
      }))

    it.effect("is not judged once the connection is cut, though the system takes after all what was written", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const peer = yield* waiting(endpoint, 1, "/run/a.sock")
        peer.stopTaking()
        yield* peer.tell
        yield* TestClock.adjust("5 seconds")
        yield* peer.arrive(request("b"))
        yield* peer.takeAfterAll
        yield* turns
        assert.strictEqual((yield* endpoint.inbox.size).entries, 0)
      }))
  })

  describe("the connection", () => {
    it.effect("is destroyed when there is no room for the peer", () =>
      Effect.gen(function*() {
        const wire = yield* makeWire
        const { session } = yield* serve({ through: wire.through, admit: () => false })
        yield* wire.arrive(ping)
        yield* Fiber.join(session)
        assert.deepStrictEqual([wire.destroyed(), wire.writes], [1, []])
      }))

    it.effect("is destroyed once when the peer does not read, however long it takes to be gone", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const peer = yield* waiting(endpoint, 1, "/run/a.sock")
        peer.stopTaking()
        yield* peer.tell
        yield* TestClock.adjust("4 seconds")
        // Another connection has deadlines to look at.
        yield* endpoint.connect()
        yield* TestClock.adjust("999 millis")
        assert.strictEqual(peer.destroyed(), 0)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(peer.destroyed(), 1)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(peer.destroyed(), 1)
      }))

    it.effect("is destroyed at the close deadline after its last word, which is said once", () =>
      Effect.gen(function*() {
        const { destroyed, writes } = yield* serveWire
        yield* TestClock.adjust("2999 millis")
        assert.strictEqual(destroyed(), 0)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual([destroyed(), writes], [1, [`${error("authentication timeout", 2000)}\n`]])
      }))

    it.effect("ends without a word and without a failure where the socket cannot be read", () =>
      Effect.gen(function*() {
        const { session } = yield* serve({ through: (socket) => ({ ...socket, reader: Effect.fail(gone) }) })
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(session)))
      }))

    it.effect("has no deadline any more once the peer is gone", () =>
      Effect.gen(function*() {
        const wire = yield* serveWire
        yield* wire.goAway
        yield* Fiber.join(wire.session)
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual([wire.writes, wire.destroyed()], [[], 0])
      }))

    it.effect("is not told of what comes of its messages once the peer is gone", () =>
      Effect.gen(function*() {
        const peer = yield* waiting(yield* makeEndpoint(), 1, "/run/a.sock")
        yield* peer.goAway
        yield* Fiber.join(peer.session)
        yield* peer.tell
        assert.strictEqual(peer.told(), "")
      }))
  })

  describe("what a peer leaves unread", () => {
    const size = `${handled("0")}\n`.length

    /** Tells one receipt that the peer does not take, and then another. */
    const tellTwo = Effect.gen(function*() {
      const peer = yield* waiting(yield* makeEndpoint(), 2, "/run/a.sock")
      peer.stopTaking()
      yield* peer.tell
      assert.strictEqual(peer.told().length, size)
      yield* peer.tell
      return peer.destroyed()
    })

    it.effect.each([
      { name: "has reached twice its limit", limits: { maxUnreadBytes: size / 2 }, cuts: 1 },
      { name: "is below that", limits: { maxUnreadBytes: (size + 1) / 2 }, cuts: 0 },
      {
        name: "has reached twice that of all, of which it has more than a share",
        limits: { maxTotalUnreadBytes: size / 2 },
        cuts: 1
      },
      { name: "is below twice that of all", limits: { maxTotalUnreadBytes: (size + 1) / 2 }, cuts: 0 }
    ])(
      "costs it the connection $cuts times when it $name and more is to be told",
      ({ cuts, limits }) =>
        Effect.gen(function*() {
          assert.strictEqual(yield* tellTwo, cuts)
        }).pipe(withLimits({ maxPeers: 2, ...limits }))
    )

    it.effect("is too much when all leave twice too much and it is twice an equal share, and not below", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const [much, little] = [
          yield* waiting(endpoint, 3, "/run/a.sock"),
          yield* waiting(endpoint, 2, "/run/b.sock")
        ]
        for (const peer of [much, little]) peer.stopTaking()
        yield* little.tell
        yield* much.tell
        yield* much.tell
        // All together have reached three times the size: twice a share is one and a half.
        yield* little.tell
        assert.deepStrictEqual([much.destroyed(), little.destroyed()], [0, 0])
        yield* much.tell
        assert.deepStrictEqual([much.destroyed(), little.destroyed()], [1, 0])
      }).pipe(withLimits({ maxTotalUnreadBytes: 3 * size / 2, maxPeers: 2 })))

    it.effect("is too much when it is exactly twice an equal share", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const peers = [yield* waiting(endpoint, 2, "/run/a.sock"), yield* waiting(endpoint, 1, "/run/b.sock")]
        for (const peer of peers) {
          peer.stopTaking()
          yield* peer.tell
        }
        yield* peers[0]?.tell ?? Effect.void
        assert.deepStrictEqual(peers.map((peer) => peer.destroyed()), [1, 0])
      }).pipe(withLimits({ maxTotalUnreadBytes: size, maxPeers: 2 })))

    it.effect("counts no more for others once it is gone", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const first = yield* waiting(endpoint, 3, "/run/a.sock")
        const other = yield* waiting(endpoint, 2, "/run/b.sock")
        first.stopTaking()
        for (let n = 0; n < 3; n++) yield* first.tell
        yield* first.goAway
        yield* Fiber.join(first.session)
        other.stopTaking()
        for (let n = 0; n < 2; n++) yield* other.tell
        assert.deepStrictEqual([first.destroyed(), other.destroyed()], [0, 0])
      }).pipe(withLimits({ maxTotalUnreadBytes: 2 * size, maxPeers: 1_000 })))

    it.effect("ends the connection as one that took too long", () =>
      Effect.gen(function*() {
        yield* tellTwo
        const refused = (yield* Metric.snapshot).find(({ id }) => id === "effect_messaging_refused")
        assert.deepStrictEqual(refused?.attributes, { reason: "timeout" })
      }).pipe(withLimits({ maxUnreadBytes: 1 }), Effect.provideService(Metric.MetricRegistry, new Map())))
  })

  describe("an answer to a peer that leaves too much unread", () => {
    const size = `${answer("x", "0")}\n`.length

    /** One answer that the peer does not take, and the next. */
    const answerTwo = Effect.gen(function*() {
      const peer = yield* asking(yield* makeEndpoint(), 3)
      peer.stopTaking()
      yield* peer.reply(0)
      const second = yield* peer.reply(1)
      return { ...peer, second }
    })

    it.effect.each([
      { name: "has reached its limit", limits: { maxUnreadBytes: size }, waits: true },
      { name: "is below its limit", limits: { maxUnreadBytes: size + 1 }, waits: false },
      {
        name: "has reached that of all, of which it has more than a share",
        limits: { maxTotalUnreadBytes: size },
        waits: true
      },
      { name: "is below that of all", limits: { maxTotalUnreadBytes: size + 1 }, waits: false }
    ])("waits: $waits, when it $name", ({ limits, waits }) =>
      Effect.gen(function*() {
        const { destroyed, second, told } = yield* answerTwo
        assert.deepStrictEqual([second.pollUnsafe() === undefined, destroyed()], [waits, 0])
        assert.strictEqual(told(), `${answer("x", "0")}\n`)
      }).pipe(withLimits({ maxPeers: 2, ...limits })))

    it.effect("is told once the peer reads, and says so", () =>
      Effect.gen(function*() {
        const { second, takeAfterAll, told } = yield* answerTwo
        yield* takeAfterAll
        assert.isTrue(yield* Fiber.join(second))
        yield* turns
        assert.strictEqual(told(), `${answer("x", "0")}\n${answer("x", "1")}\n`)
      }).pipe(withLimits({ maxUnreadBytes: size })))

    it.effect("is told nobody once the peer is cut off, and says so", () =>
      Effect.gen(function*() {
        const { destroyed, goAway, second, session, takeAfterAll, told } = yield* answerTwo
        yield* TestClock.adjust("4999 millis")
        assert.strictEqual(destroyed(), 0)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(destroyed(), 1)
        // Though the connection is not gone yet, and its write has not returned.
        assert.isFalse(yield* Fiber.join(second))
        yield* goAway
        yield* Fiber.join(session)
        yield* takeAfterAll
        assert.strictEqual(told(), `${answer("x", "0")}\n`)
      }).pipe(withLimits({ maxUnreadBytes: size })))

    it.effect("is none when its wait is interrupted: another may be given", () =>
      Effect.gen(function*() {
        const { reply, second, takeAfterAll, told } = yield* answerTwo
        yield* Fiber.interrupt(second)
        const other = yield* reply(1, "y")
        yield* takeAfterAll
        assert.isTrue(yield* Fiber.join(other))
        yield* turns
        assert.strictEqual(told(), `${answer("x", "0")}\n${answer("y", "1")}\n`)
      }).pipe(withLimits({ maxUnreadBytes: size })))

    it.effect("is the first of two that wait for the same room", () =>
      Effect.gen(function*() {
        const { reply, second, takeAfterAll } = yield* answerTwo
        const other = yield* reply(1, "y")
        yield* takeAfterAll
        assert.deepStrictEqual([yield* Fiber.join(second), yield* Fiber.join(other)], [true, false])
      }).pipe(withLimits({ maxUnreadBytes: size })))

    it.effect("keeps what arrives from being judged, like every reply", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const peer = yield* asking(endpoint, 1)
        peer.stopTaking()
        yield* peer.reply(0)
        yield* peer.arrive(query("0"), query("b"))
        yield* turns
        // Not even the repeated question, which is not stored but would be answered again.
        assert.strictEqual(peer.told(), `${answer("x", "0")}\n`)
        assert.deepStrictEqual([peer.destroyed(), (yield* endpoint.inbox.size).entries], [0, 0])
        yield* peer.takeAfterAll
        yield* turns
        assert.strictEqual((yield* endpoint.inbox.size).entries, 1)
      }).pipe(withLimits({ maxUnreadBytes: size })))
  })
})

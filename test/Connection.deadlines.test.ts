import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { defaults, Limits } from "../src/Limits.ts"
import { ack, error, type MemoryPeer, neverRead, ping, pong, serve, text } from "./utils/memoryPeer.ts"
import { ack2, duplicate, request, serveProven2 } from "./utils/protocol2.ts"

const withLimits = (overrides: Partial<typeof defaults>) => Effect.provideService(Limits, { ...defaults, ...overrides })

/** A connection whose peer has proved itself at the start of the clock. */
const serveProven = Effect.gen(function*() {
  const served = yield* serve()
  yield* served.peer.write(ping)
  assert.strictEqual(yield* served.peer.line, pong())
  return served
})

const isOpen = (session: Fiber.Fiber<unknown>) => session.pollUnsafe() === undefined

/** What the connection says by itself until it closes; empty while it has neither spoken nor closed. */
const listen = (peer: MemoryPeer) =>
  Effect.map(
    Effect.forkChild(peer.rest, { startImmediately: true }),
    (fiber) => ({ isQuiet: () => fiber.pollUnsafe() === undefined, lines: Fiber.join(fiber) })
  )

describe("Connection deadlines", () => {
  describe("authentication", () => {
    it.effect("leaves a silent peer connected just before the deadline", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        const said = yield* listen(peer)
        yield* TestClock.adjust("1999 millis")
        assert.isTrue(said.isQuiet())
        assert.isTrue(isOpen(session))
      }))

    it.effect("refuses a silent peer at the deadline", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("authentication timeout", 2000)])
      }))

    it.effect("accepts a first frame just before the deadline", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* TestClock.adjust("1999 millis")
        yield* peer.write(text("a"))
        assert.strictEqual(yield* peer.line, ack(1, 1999))
      }))

    it.effect.each([
      { what: "single bytes", part: " " },
      { what: "blank lines", part: " \r\n" }
    ])("is not moved by $what", ({ part }) =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* Effect.forkScoped(Effect.repeat(peer.write(part), Schedule.spaced("150 millis")))
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("authentication timeout", 2000)])
      }))

    it.effect("is not moved by half a frame", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* TestClock.adjust("1 second")
        yield* peer.write(ping.slice(0, -1))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* peer.rest, [error("authentication timeout", 2000)])
      }))

    it.effect("ends with the first good frame", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serveProven
        const said = yield* listen(peer)
        yield* TestClock.adjust("10 seconds")
        assert.isTrue(said.isQuiet())
        assert.isTrue(isOpen(session))
      }))

    it.effect("is judged after a frame in the pipe when the clock jumps past it", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* peer.write(text("a"))
        yield* TestClock.adjust("10 seconds")
        yield* peer.end
        assert.deepStrictEqual(yield* peer.rest, [ack(1)])
      }))

    it.effect("is judged after bytes that arrived during a stall of the process", () =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        let stall = 0n
        let arrive: Effect.Effect<void> = Effect.void
        // The timer goes off 600 ms late, and what arrived meanwhile is in the pipe and not read yet.
        const stalling: Clock.Clock = {
          ...clock,
          monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + stall,
          sleep: (duration) =>
            Effect.andThen(
              clock.sleep(duration),
              Effect.suspend(() => {
                stall = 600_000_000n
                return arrive
              })
            )
        }
        const { peer } = yield* Effect.provideService(serve(), Clock.Clock, stalling)
        arrive = peer.write(text("a"))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* peer.line, ack(1, 2000))
      }))
  })

  describe("the wall clock", () => {
    /** The test's clock, whose wall clock can be set. */
    const makeJumping = Effect.map(Clock.Clock, (clock) => {
      let ahead = 0
      const jumping: Clock.Clock = {
        ...clock,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + ahead,
        currentTimeMillis: Effect.suspend(() => Effect.map(clock.currentTimeMillis, (now) => now + ahead))
      }
      return { jumping, jump: (millis: number) => void (ahead += millis) }
    })

    it.effect.each([3_600_000, -3_600_000])(
      "moves no deadline when it jumps by %d ms",
      (millis) =>
        Effect.gen(function*() {
          const { jump, jumping } = yield* makeJumping
          const { session } = yield* Effect.provideService(serve(), Clock.Clock, jumping)
          yield* TestClock.adjust("1 seconds")
          jump(millis)
          yield* TestClock.adjust("999 millis")
          assert.isTrue(isOpen(session))
          // The deadline itself, and a second for the last word.
          yield* TestClock.adjust("1001 millis")
          yield* Fiber.join(session)
        })
    )

    it.effect("makes no message forgotten when it jumps", () =>
      Effect.gen(function*() {
        const { jump, jumping } = yield* makeJumping
        const { inbox, peer } = yield* Effect.provideService(serveProven2(), Clock.Clock, jumping)
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, ack2(1, "a"))
        jump(3_600_000)
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, duplicate(1, "a", 3_600_000))
        assert.strictEqual((yield* inbox.drain).length, 1)
      }))
  })

  describe("idle", () => {
    it.effect("leaves a proven peer connected just before the deadline", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serveProven
        const said = yield* listen(peer)
        yield* TestClock.adjust("29999 millis")
        assert.isTrue(said.isQuiet())
        assert.isTrue(isOpen(session))
      }))

    it.effect("closes a proven peer that says nothing at the deadline", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("idle timeout", 30_000)])
      }))

    it.effect.each([
      { what: "a message", part: text("a"), said: [ack(1, 29_000)] },
      { what: "a blank line", part: "\n", said: [] }
    ])("runs again from $what", ({ part, said }) =>
      Effect.gen(function*() {
        const { peer, session } = yield* serveProven
        yield* TestClock.adjust("29 seconds")
        yield* peer.write(part)
        yield* TestClock.adjust("29999 millis")
        assert.isTrue(isOpen(session))
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* peer.rest, [...said, error("idle timeout", 59_000)])
      }))

    it.effect("is judged after bytes that arrived during a stall of the process", () =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        let arrive: Effect.Effect<void> = Effect.void
        const stalling: Clock.Clock = {
          ...clock,
          sleep: (duration) => Effect.andThen(clock.sleep(duration), Effect.suspend(() => arrive))
        }
        const { peer } = yield* Effect.provideService(serve(), Clock.Clock, stalling)
        yield* peer.write(ping)
        yield* TestClock.adjust("29999 millis")
        arrive = peer.write(text("a"))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* peer.line, pong())
        assert.strictEqual(yield* peer.line, ack(1, 30_000))
      }))
  })

  describe("frame", () => {
    const half = text("a").slice(0, 20)

    it.effect("leaves a peer with half a frame connected just before the deadline", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serveProven
        const said = yield* listen(peer)
        yield* TestClock.adjust("3 seconds")
        yield* peer.write(half)
        yield* TestClock.adjust("4999 millis")
        assert.isTrue(said.isQuiet())
        assert.isTrue(isOpen(session))
      }))

    it.effect("closes a peer with half a frame at the deadline", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven
        yield* TestClock.adjust("3 seconds")
        yield* peer.write(half)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("frame timeout", 8000)])
      }))

    it.effect("is not moved by further bytes of the same frame", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven
        yield* Effect.forkScoped(Effect.repeat(peer.write(" "), Schedule.spaced("1 second")))
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("frame timeout", 5000)])
      }))

    it.effect("accepts a frame that ends just before the deadline", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven
        yield* peer.write(half)
        yield* TestClock.adjust("4999 millis")
        yield* peer.write(text("a").slice(20))
        assert.strictEqual(yield* peer.line, ack(1, 4999))
      }))

    it.effect("does not cut a peer that always has half a frame pending and completes each", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serveProven
        const whole = text("a")
        yield* peer.write(half)
        for (let n = 1; n <= 20; n++) {
          yield* TestClock.adjust("4 seconds")
          yield* peer.write(whole.slice(20) + half)
          assert.strictEqual(yield* peer.line, ack(n, n * 4000))
        }
        assert.isTrue(isOpen(session))
      }))

    it.effect("runs for the frame that follows a completed one in the same bytes", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven
        yield* TestClock.adjust("1 second")
        yield* peer.write(text("a") + half)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* peer.rest, [ack(1, 1000), error("frame timeout", 6000)])
      }))
  })

  describe("write", () => {
    const unread = 1000
    const flood = ping.repeat(500)

    it.effect("keeps a peer that does not read until just before the deadline", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve({ through: neverRead([]) })
        yield* peer.write(ping)
        yield* TestClock.adjust("4999 millis")
        assert.isTrue(isOpen(session))
      }))

    it.effect("cuts off a peer that does not read at the deadline without a word", () =>
      Effect.gen(function*() {
        const written: Array<string> = []
        const { peer, session } = yield* serve({ through: neverRead(written) })
        yield* peer.write(ping)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(session)
        assert.deepStrictEqual(written, [`${pong()}\n`])
      }))

    it.effect("cuts off a peer that floods pings and reads nothing", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* Effect.forkScoped(Effect.forever(peer.write(flood)))
        yield* TestClock.adjust(Duration.sum(defaults.writeTimeout, defaults.writeTimeout))
        yield* Fiber.join(session)
      }).pipe(withLimits({ maxUnreadBytes: unread })))

    it.effect("leaves at most the limit and one reply to a peer that does not read", () =>
      Effect.gen(function*() {
        const written: Array<string> = []
        const { peer } = yield* serve({ through: neverRead(written) })
        yield* peer.write(flood)
        yield* peer.write(flood)
        yield* TestClock.adjust("4999 millis")
        assert.isAbove(written.join("").length, 0)
        assert.isAtMost(written.join("").length, unread + pong().length + 1)
      }).pipe(withLimits({ maxUnreadBytes: unread })))

    it.effect("counts what a peer leaves unread in bytes and not in characters", () =>
      Effect.gen(function*() {
        const written: Array<string> = []
        const path = `/run/${"é".repeat(40)}.sock`
        const { peer } = yield* serve({ path, through: neverRead(written) })
        yield* peer.write(flood)
        yield* TestClock.adjust("4999 millis")
        assert.isAtMost(Buffer.byteLength(written.join("")), unread + Buffer.byteLength(pong(0, path)) + 1)
      }).pipe(withLimits({ maxUnreadBytes: unread })))

    it.effect("judges no further frame while replies wait", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve({ through: neverRead([]) })
        yield* peer.write(flood)
        yield* peer.write(text("a"))
        yield* TestClock.adjust("4999 millis")
        assert.deepStrictEqual(yield* inbox.size, { entries: 0, bytes: 0 })
      }).pipe(withLimits({ maxUnreadBytes: unread })))

    it.effect("reads no further while replies wait", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve({ through: neverRead([]) })
        yield* peer.write(ping)
        const sending = yield* Effect.forkChild(Effect.repeat(peer.write(ping), { times: 100 }))
        yield* TestClock.adjust("4999 millis")
        assert.isUndefined(sending.pollUnsafe())
      }))

    it.effect("reads on once the peer has read", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        yield* peer.write(flood)
        yield* Effect.forkScoped(peer.write(text("a")))
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual((yield* inbox.size).entries, 0)
        yield* Effect.forkScoped(peer.rest)
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual((yield* inbox.size).entries, 1)
      }).pipe(withLimits({ maxUnreadBytes: unread })))
  })

  describe("close", () => {
    it.effect("waits for a peer that does not hang up after an error until just before the deadline", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* peer.write("{}\n")
        yield* TestClock.adjust("999 millis")
        assert.isTrue(isOpen(session))
      }))

    it.effect("ends at the deadline when the peer does not hang up after an error", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* peer.write("{}\n")
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(session)
      }))

    it.effect("ends at the deadline when the peer does not read the error", () =>
      Effect.gen(function*() {
        const written: Array<string> = []
        const { peer, session } = yield* serve({ through: neverRead(written) })
        yield* peer.write("{}\n")
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(session)
        assert.deepStrictEqual(written, [`${error("unauthorized")}\n`])
      }))

    it.effect("is not moved by a peer that goes on sending", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* peer.write("{}\n")
        yield* Effect.forkScoped(Effect.repeat(peer.write(ping), Schedule.spaced("100 millis")))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(session)
      }))

    it.effect("ends at once when the peer hangs up after an error", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* peer.write("{}\n")
        yield* peer.line
        yield* peer.hangUp
        yield* Fiber.join(session)
      }))
  })
})

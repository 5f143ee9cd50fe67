import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Metric } from "effect"
import { TestClock } from "effect/testing"
import { defaults, Limits } from "../src/Limits.ts"
import { ack, error, frame, ping, pong, serve, type ServeOptions, text, token } from "./utils/memoryPeer.ts"

/** Everything a connection answers to `data` from a peer that then closes its side, and what it stored. */
const exchange = Effect.fnUntraced(function*(data: string, options?: ServeOptions) {
  const { inbox, peer, session } = yield* serve(options)
  yield* peer.write(data)
  yield* peer.end
  const lines = yield* peer.rest
  yield* Fiber.join(session)
  return { lines, stored: (yield* inbox.drain).map(({ message }) => message.data) }
})

/** Everything a connection says to a peer that stays connected: ends only when the connection closes by itself. */
const untilClosed = Effect.fnUntraced(function*(data: string, options?: ServeOptions) {
  const { inbox, peer } = yield* serve(options)
  yield* peer.write(data)
  return { lines: yield* peer.rest, stored: (yield* inbox.drain).map(({ message }) => message.data) }
})

const withLimits = (overrides: Partial<typeof defaults>) => Effect.provideService(Limits, { ...defaults, ...overrides })

describe("Connection", () => {
  describe("good frames", () => {
    it.effect("answers a ping with a pong that carries its path", () =>
      Effect.gen(function*() {
        const { lines } = yield* exchange(ping)
        assert.deepStrictEqual(lines, [pong()])
      }))

    it.effect("stores nothing for a ping", () =>
      Effect.gen(function*() {
        const { stored } = yield* exchange(ping)
        assert.deepStrictEqual(stored, [])
      }))

    it.effect("acknowledges each message with the id of its entry", () =>
      Effect.gen(function*() {
        const { lines } = yield* exchange(text("a") + text("b"))
        assert.deepStrictEqual(lines, [ack(1), ack(2)])
      }))

    it.effect("stores the message without its token, and the sender as unverified", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        const line = frame({ type: "query", data: "when?", from: "/run/a.sock", ts: "then", meta: { n: [1] } })
        yield* peer.write(line)
        const { bytes, id, message, sender } = yield* inbox.take
        assert.deepStrictEqual({ bytes, id, message, sender }, {
          bytes: line.length - 1,
          id: "uds-1",
          message: { type: "query", data: "when?", from: "/run/a.sock", ts: "then", meta: { n: [1] } },
          sender: { address: "/run/a.sock", verified: false }
        })
      }))

    it.effect.each(["response", "error", "pong"])("stores a %s that a peer sends", (type) =>
      Effect.gen(function*() {
        const { lines } = yield* exchange(frame({ type, data: "x" }))
        assert.deepStrictEqual(lines, [ack(1)])
      }))

    it.effect("keeps the order of the requests in its replies", () =>
      Effect.gen(function*() {
        const { lines } = yield* exchange(text("a") + ping + text("b") + ping)
        assert.deepStrictEqual(lines, [ack(1), pong(), ack(2), pong()])
      }))

    it.effect("stores a frame that arrives byte by byte once and whole", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        for (const byte of Buffer.from(text("größer"))) yield* peer.write(Uint8Array.of(byte))
        assert.strictEqual(yield* peer.line, ack(1))
        assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), ["größer"])
      }))

    it.effect("accepts a frame of exactly the limit", () =>
      Effect.gen(function*() {
        const room = 65_536 - (text("").length - 1)
        const { lines } = yield* exchange(text("x".repeat(room)))
        assert.deepStrictEqual(lines, [ack(1)])
      }))

    it.effect("says nothing to a blank line", () =>
      Effect.gen(function*() {
        const { lines } = yield* exchange("\n \t\r\n")
        assert.deepStrictEqual(lines, [])
      }))

    it.effect("counts a message by its bytes on the wire", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        const line = `{"type":"text","meta":{"authToken":"${token}","n":[${"1e20,".repeat(5000)}0]}}\n`
        yield* peer.write(line)
        yield* peer.line
        assert.deepStrictEqual(yield* inbox.size, { entries: 1, bytes: line.length - 1 })
      }))
  })

  describe("order of checks", () => {
    const full = { maxInboxEntries: 1 }
    const unknownType = { type: "shout" }
    it.effect.each([
      {
        first: "the length",
        next: "JSON",
        data: "x".repeat(65_537),
        text: "NDJSON frame exceeded 65536 bytes (65537)"
      },
      { first: "JSON", next: "the token", data: "{\n", text: "invalid frame" },
      { first: "the token", next: "the schema", data: `${JSON.stringify(unknownType)}\n`, text: "unauthorized" },
      { first: "the schema", next: "the inbox", data: frame(unknownType), text: "invalid frame" }
    ])("judges $first before $next", ({ data, text }) =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(data)
        assert.deepStrictEqual(lines, [error(text)])
      }))

    it.effect("judges the schema before it asks for admission", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(frame(unknownType), { admit: () => assert.fail("asked for admission") })
        assert.deepStrictEqual(lines, [error("invalid frame")])
      }))

    it.effect("judges the token before the inbox", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(`${text("a")}{"type":"text"}\n`)
        assert.deepStrictEqual(lines, [ack(1), error("unauthorized")])
      }).pipe(withLimits(full)))

    it.effect("answers a ping while the inbox is full", () =>
      Effect.gen(function*() {
        const { lines } = yield* exchange(text("a") + ping)
        assert.deepStrictEqual(lines, [ack(1), pong()])
      }).pipe(withLimits(full)))
  })

  describe("refusals", () => {
    it.effect.each([
      { given: "no meta", data: `{"type":"ping"}\n` },
      { given: "no token", data: `{"type":"ping","meta":{}}\n` },
      { given: "an empty token", data: `{"type":"ping","meta":{"authToken":""}}\n` },
      { given: "a token that is no string", data: `{"type":"ping","meta":{"authToken":["${token}"]}}\n` },
      { given: "a short token", data: ping.replace(token, token.slice(1)) },
      { given: "a long token", data: ping.replace(token, `${token}0`) },
      { given: "the token in upper case", data: ping.replace(token, token.toUpperCase()) },
      { given: "a wrong token", data: ping.replace(token, "f".repeat(64)) },
      { given: "a token with a character of two bytes", data: ping.replace(token, `${token.slice(1)}é`) },
      { given: "the token outside meta", data: `{"type":"ping","authToken":"${token}"}\n` },
      {
        given: "the token of a prototype of meta",
        data: `{"type":"ping","meta":{"__proto__":{"authToken":"${token}"}}}\n`
      },
      { given: "a prototype's meta", data: `{"type":"ping","__proto__":{"meta":{"authToken":"${token}"}}}\n` }
    ])("answers $given with the same bytes as any bad token", ({ data }) =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(data)
        assert.deepStrictEqual(lines, [error("unauthorized")])
      }))

    it.effect("asks every frame for the token", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(`${ping}{"type":"ping"}\n`)
        assert.deepStrictEqual(lines, [pong(), error("unauthorized")])
      }))

    it.effect("refuses another token after the right one", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(ping + ping.replace(token, "f".repeat(64)))
        assert.deepStrictEqual(lines, [pong(), error("unauthorized")])
      }))

    it.effect.each([
      { bad: "an unauthorized frame", data: "{}\n" },
      { bad: "an invalid frame", data: "?\n" },
      { bad: "a frame of the wrong shape", data: frame({ type: "text", data: 1 }) },
      { bad: "a frame that is too long", data: `${"x".repeat(70_000)}\n` }
    ])("stores what came before $bad and nothing after it", ({ data }) =>
      Effect.gen(function*() {
        const { stored } = yield* untilClosed(text("before") + data + text("after"))
        assert.deepStrictEqual(stored, ["before"])
      }))

    it.effect("stores nothing that arrives after the error", () =>
      Effect.gen(function*() {
        const { inbox, peer, session } = yield* serve()
        yield* peer.write("{}\n")
        yield* peer.line
        yield* peer.write(text("after"))
        yield* peer.end
        yield* Fiber.join(session)
        assert.deepStrictEqual(yield* inbox.drain, [])
      }))

    it.effect("says one error to 20,000 bad frames in one write", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed("{}\n".repeat(20_000))
        assert.deepStrictEqual(lines, [error("unauthorized")])
      }))

    it.effect("does not repeat a token that came as a bare line", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(`${token}\n`)
        assert.deepStrictEqual(lines, [error("invalid frame")])
      }))

    it.effect("refuses a type with a newline without repeating it", () =>
      Effect.gen(function*() {
        const { lines } = yield* untilClosed(frame({ type: "text\nlevel=ERROR" }))
        assert.deepStrictEqual(lines, [error("invalid frame")])
      }))

    it.effect("closes with an error when the inbox has no entry left", () =>
      Effect.gen(function*() {
        const result = yield* untilClosed(text("a") + text("b") + ping)
        assert.deepStrictEqual(result, { lines: [ack(1), error("inbox full")], stored: ["a"] })
      }).pipe(withLimits({ maxInboxEntries: 1 })))

    it.effect("closes with an error when the inbox has no bytes left", () =>
      Effect.gen(function*() {
        const result = yield* untilClosed(text("a") + text("b"))
        assert.deepStrictEqual(result, { lines: [ack(1), error("inbox full")], stored: ["a"] })
      }).pipe(withLimits({ maxInboxBytes: 2 * text("a").length - 3 })))

    it.effect("closes without a reply a peer that is not admitted", () =>
      Effect.gen(function*() {
        const result = yield* untilClosed(text("a") + ping, { admit: () => false })
        assert.deepStrictEqual(result, { lines: [], stored: [] })
      }))

    it.effect("asks for admission once", () =>
      Effect.gen(function*() {
        let asked = 0
        yield* exchange(ping + text("a") + ping, { admit: () => ++asked > 0 })
        assert.strictEqual(asked, 1)
      }))

    it.effect("asks for no admission before the first good frame", () =>
      Effect.gen(function*() {
        let asked = 0
        yield* untilClosed("\n{}\n", { admit: () => ++asked > 0 })
        assert.strictEqual(asked, 0)
      }))
  })

  describe("the end", () => {
    it.effect("ends when the peer hangs up", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* peer.write(ping)
        yield* peer.line
        yield* peer.hangUp
        yield* Fiber.join(session)
      }))

    it.effect("closes when the peer closes its side", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* peer.end
        assert.strictEqual(yield* peer.line, undefined)
        yield* Fiber.join(session)
      }))

    it.effect("keeps the message of a peer that is gone before its ack", () =>
      Effect.gen(function*() {
        const { inbox, peer, session } = yield* serve()
        yield* peer.write(text("a"))
        yield* peer.hangUp
        yield* Fiber.join(session)
        assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), ["a"])
      }))

    it.effect("drops what follows the last line end", () =>
      Effect.gen(function*() {
        const result = yield* exchange(text("a") + text("b").trimEnd())
        assert.deepStrictEqual(result, { lines: [ack(1)], stored: ["a"] })
      }))

    it.effect.each([
      { end: "the peer hung up", data: text("a") },
      { end: "an error", data: `${text("a")}{}\n` },
      { end: "a refused admission", data: ping, admit: () => false }
    ])("leaves no fiber, and no timer but the endpoint's, after $end", ({ admit, data }) =>
      Effect.gen(function*() {
        // Or else the first sleep brings the fiber of the test clock's warning.
        yield* TestClock.adjust(0)
        // Written when a fiber or a sleep begins and when it ends.
        const alive = { fibers: 0, timers: 0 }
        const clock = yield* Clock.Clock
        const counting: Clock.Clock = {
          ...clock,
          sleep: (duration) =>
            Effect.acquireUseRelease(
              Effect.sync(() => alive.timers++),
              () => clock.sleep(duration),
              () => Effect.sync(() => alive.timers--)
            )
        }
        const { peer, session } = yield* serve({ admit }).pipe(
          Effect.provideService(Clock.Clock, counting),
          Effect.provideService(Metric.FiberRuntimeMetrics, {
            recordFiberStart: () => alive.fibers++,
            recordFiberEnd: () => alive.fibers--
          })
        )
        // The session, and the timer that the endpoint has for all of them.
        assert.deepStrictEqual(alive, { fibers: 2, timers: 1 })
        yield* peer.write(data)
        yield* peer.line
        yield* peer.hangUp
        yield* Fiber.join(session)
        assert.deepStrictEqual(alive, { fibers: 1, timers: 1 })
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(alive, { fibers: 0, timers: 0 })
      }))
  })
})

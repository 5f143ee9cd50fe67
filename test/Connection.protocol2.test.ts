import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import * as Capability from "../src/Capability.ts"
import { defaults, Limits } from "../src/Limits.ts"
import { ack, error, makeEndpoint, ping, pong, serve, text, token } from "./utils/memoryPeer.ts"
import {
  ack2,
  auth,
  type Claims,
  full,
  greet,
  hello,
  hmac,
  line,
  ping2,
  pong2,
  request,
  serveProven2,
  shake
} from "./utils/protocol2.ts"

const withLimits = (overrides: Partial<typeof defaults>) => Effect.provideService(Limits, { ...defaults, ...overrides })

const from = "/run/memory/alice.sock"

/** Capabilities among which `from` is published, and its token. */
const published = Effect.gen(function*() {
  const capability = Context.get(yield* Layer.build(Capability.layerMemory), Capability.Capability)
  return { capability, fromToken: Redacted.value((yield* capability.publish(from)).token) }
})

describe("Connection, protocol 2", () => {
  describe("handshake", () => {
    it.effect("answers hello with a nonce and the proof that it knows the token", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        const challenge = yield* greet(peer)
        assert.match(challenge.nonce, /^[0-9a-f]{64}$/)
        assert.deepStrictEqual(Object.entries(challenge), [
          ["type", "challenge"],
          ["nonce", challenge.nonce],
          ["proof", hmac(token, "server", challenge.nonce)]
        ])
      }))

    it.effect("proves itself to the sender that hello states", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        const { nonce, proof } = yield* greet(peer, from)
        assert.strictEqual(proof, hmac(token, "server", nonce, from))
      }))

    it.effect("makes another nonce for each connection", () =>
      Effect.gen(function*() {
        const { connect } = yield* makeEndpoint()
        const nonces = new Set<string>()
        for (let n = 0; n < 100; n++) nonces.add((yield* greet((yield* connect()).peer)).nonce)
        assert.strictEqual(nonces.size, 100)
      }))

    it.effect("serves messages that come in the same write as auth", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        const { nonce } = yield* greet(peer)
        yield* peer.write(auth(nonce) + request("a") + ping2("p") + request("b"))
        assert.deepStrictEqual([yield* peer.line, yield* peer.line, yield* peer.line], [
          ack2(1, "a"),
          pong2("p", 1, Buffer.byteLength(request("a")) - 1),
          ack2(2, "b")
        ])
        assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), ["a", "b"])
      }))

    it.effect("says nothing to a good auth", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2()
        yield* peer.end
        assert.deepStrictEqual(yield* peer.rest, [])
      }))

    it.effect("takes a handshake that arrives byte by byte", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        for (const byte of Buffer.from(hello())) yield* peer.write(Uint8Array.of(byte))
        const { nonce } = JSON.parse((yield* peer.line) ?? "")
        for (const byte of Buffer.from(auth(nonce) + request("a"))) yield* peer.write(Uint8Array.of(byte))
        assert.strictEqual(yield* peer.line, ack2(1, "a"))
      }))

    it.effect.each<{ readonly what: string; readonly second: (nonce: string) => string }>([
      { what: "a proof with another token", second: (nonce) => auth(nonce, { key: "f".repeat(64) }) },
      { what: "the proof of another nonce", second: () => auth("6".repeat(64)) },
      { what: "the proof of another sender", second: (nonce) => auth(nonce, { from }) },
      {
        what: "the server's own proof",
        second: (nonce) => line({ type: "auth", proof: hmac(token, "server", nonce) })
      },
      { what: "a short proof", second: (nonce) => auth(nonce).replace(/.."}\n$/, "\"}\n") },
      { what: "an empty proof", second: () => line({ type: "auth", proof: "" }) },
      { what: "no proof", second: () => line({ type: "auth" }) },
      { what: "a proof that is no string", second: () => line({ type: "auth", proof: [1] }) },
      { what: "a message instead of auth", second: () => request("a") },
      { what: "a message of protocol 1, with the token", second: () => text("a") },
      { what: "a ping of protocol 1, with the token", second: () => ping },
      { what: "a second hello", second: () => hello() },
      { what: "an object without a type", second: () => "{}\n" }
    ])("refuses $what with the same bytes, and stores nothing", ({ second }) =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        const { nonce } = yield* greet(peer)
        yield* peer.write(second(nonce) + request("after"))
        assert.deepStrictEqual(yield* peer.rest, [error("unauthorized")])
        assert.deepStrictEqual(yield* inbox.drain, [])
      }))

    it.effect.each([
      { what: "of another protocol", first: hello({ protocol: 3 }) },
      { what: "without a protocol", first: line({ type: "hello", nonce: "5".repeat(64) }) },
      { what: "with a short nonce", first: hello({ nonce: "5".repeat(63) }) },
      { what: "with a nonce that is not hex", first: hello({ nonce: "x".repeat(64) }) },
      { what: "with a line break in its sender", first: hello({ from: "/run/a\n/run/b" }) },
      { what: "with a sender that is no string", first: hello({ from: 1 }) }
    ])("refuses a hello $what as an invalid frame", ({ first }) =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* peer.write(first)
        assert.deepStrictEqual(yield* peer.rest, [error("invalid frame")])
      }))

    it.effect("refuses a second hello after auth as an invalid frame", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2()
        yield* peer.write(request("a") + hello() + request("b"))
        assert.deepStrictEqual(yield* peer.rest, [ack2(1, "a"), error("invalid frame")])
      }))

    it.effect("closes without a word a peer that is not admitted", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2({ admit: () => false })
        yield* peer.write(request("a"))
        assert.deepStrictEqual(yield* peer.rest, [])
        assert.deepStrictEqual(yield* inbox.drain, [])
      }))

    it.effect("asks for admission once, and not before auth is good", () =>
      Effect.gen(function*() {
        let asked = 0
        const { peer } = yield* serve({ admit: () => ++asked > 0 })
        const { nonce } = yield* greet(peer)
        assert.strictEqual(asked, 0)
        yield* peer.write(auth(nonce) + request("a") + request("b"))
        yield* peer.line
        yield* peer.line
        assert.strictEqual(asked, 1)
      }))
  })

  describe("authentication deadline", () => {
    it.effect("accepts an auth just before it, however late the hello", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* TestClock.adjust("1900 millis")
        const { nonce } = yield* greet(peer)
        yield* TestClock.adjust("99 millis")
        yield* peer.write(auth(nonce) + request("a"))
        assert.strictEqual(yield* peer.line, ack2(1, "a", 1999))
      }))

    it.effect("covers the whole handshake: hello does not move it", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serve()
        yield* TestClock.adjust("1900 millis")
        yield* greet(peer)
        yield* TestClock.adjust("99 millis")
        assert.isUndefined(session.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* peer.rest, [error("authentication timeout", 2000)])
      }))

    it.effect("ends with auth", () =>
      Effect.gen(function*() {
        const { peer, session } = yield* serveProven2()
        yield* TestClock.adjust("29999 millis")
        assert.isUndefined(session.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* peer.rest, [error("idle timeout", 30_000)])
      }))
  })

  describe("requests", () => {
    it.effect("need no token and ignore one", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("a", { meta: { authToken: "?" } }))
        assert.strictEqual(yield* peer.line, ack2(1, "a"))
        assert.isUndefined((yield* inbox.take).message.meta)
      }))

    it.effect("leave nothing of the envelope in the entry", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        const traceparent = `00-${"1".repeat(32)}-${"2".repeat(16)}-01`
        const meta = { authToken: token, receipt: "handled", traceparent, kept: { messageId: "inner" } }
        yield* peer.write(request("a", { data: "x", from: "/stated", ts: "then", meta, later: true }))
        const { message } = yield* inbox.take
        assert.deepStrictEqual(message, {
          type: "text",
          data: "x",
          from: "/stated",
          ts: "then",
          meta: { kept: { messageId: "inner" } }
        })
      }))

    it.effect.each([
      { given: "00-1", kept: "00-1" },
      { given: 1, kept: undefined },
      { given: {}, kept: undefined }
    ])("keep a trace context only where it is a text: $given", ({ given, kept }) =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("a", { meta: { traceparent: given } }))
        assert.strictEqual((yield* inbox.take).traceparent, kept)
      }))

    it.effect.each(["response", "error", "pong", "notification", "query"])(
      "store a %s",
      (type) =>
        Effect.gen(function*() {
          const { inbox, peer } = yield* serveProven2()
          yield* peer.write(request("a", { type }))
          assert.strictEqual(yield* peer.line, ack2(1, "a"))
          assert.strictEqual((yield* inbox.take).message.type, type)
        })
    )

    it.effect.each([" ", "x".repeat(64), "~!\"#\\/"])("may be named %j", (messageId) =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2()
        yield* peer.write(request(messageId))
        assert.deepStrictEqual(JSON.parse((yield* peer.line) ?? "").meta, { id: "uds-1", messageId })
      }))

    it.effect.each([
      { what: "without meta", data: line({ type: "text" }) },
      { what: "without an id", data: line({ type: "text", meta: {} }) },
      { what: "with an empty id", data: request("") },
      { what: "with an id of 65 characters", data: request("x".repeat(65)) },
      { what: "with a control character in its id", data: request("a\nb") },
      { what: "with a character beyond ASCII in its id", data: request("ä") },
      { what: "with a number for an id", data: request(1) },
      { what: "that is a ping without an id", data: line({ type: "ping" }) },
      { what: "of an unknown type", data: request("a", { type: "shout" }) },
      { what: "that is auth again", data: line({ type: "auth", proof: "0".repeat(64) }) },
      { what: "that is no JSON", data: "?\n" }
    ])("end the connection as an invalid frame $what", ({ data }) =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("before") + data + request("after"))
        assert.deepStrictEqual(yield* peer.rest, [ack2(1, "before"), error("invalid frame")])
        assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), ["before"])
      }))

    it.effect("are refused one by one while the inbox is full, and the connection stays", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serveProven2()
        yield* peer.write(request("a") + request("b") + ping2("p"))
        assert.deepStrictEqual([yield* peer.line, yield* peer.line, yield* peer.line], [
          ack2(1, "a"),
          full("b", 250),
          pong2("p", 1, Buffer.byteLength(request("a")) - 1)
        ])
        yield* inbox.take
        yield* peer.write(request("b"))
        assert.strictEqual(yield* peer.line, ack2(2, "b"))
        assert.strictEqual((yield* inbox.take).message.data, "b")
      }).pipe(withLimits({ maxInboxEntries: 1, retryAfter: Duration.millis(250) })))

    it.effect("are refused for their bytes as for their number", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2()
        yield* peer.write(request("a") + request("b", { data: "x".repeat(500) }) + request("c"))
        assert.deepStrictEqual([yield* peer.line, yield* peer.line, yield* peer.line], [
          ack2(1, "a"),
          full("b"),
          ack2(2, "c")
        ])
      }).pipe(withLimits({ maxInboxBytes: 400 })))
  })

  describe("sender", () => {
    const senderOf = Effect.fnUntraced(function*(
      capability: Capability.Capability["Service"],
      claims: Claims,
      stated: Record<string, unknown> = {}
    ) {
      const { inbox, peer } = yield* serveProven2({ capability, ...claims })
      yield* peer.write(request("a", stated))
      assert.strictEqual(yield* peer.line, ack2(1, "a"))
      return (yield* inbox.take).sender
    })

    it.effect("is verified by a good proof", () =>
      Effect.gen(function*() {
        const { capability, fromToken } = yield* published
        const sender = yield* senderOf(capability, { from, fromToken })
        assert.deepStrictEqual(sender, { address: from, verified: true })
      }))

    it.effect.each<{ readonly what: string; readonly claims: Claims }>([
      { what: "no proof", claims: { from } },
      { what: "a proof with another token", claims: { from, fromToken: "f".repeat(64) } },
      { what: "a proof with the server's token", claims: { from, fromToken: token } },
      { what: "a path that is not published", claims: { from: "/run/nobody.sock", fromToken: token } }
    ])("is served and not verified with $what", ({ claims }) =>
      Effect.gen(function*() {
        const { capability } = yield* published
        const sender = yield* senderOf(capability, claims)
        assert.deepStrictEqual(sender, { address: claims.from, verified: false })
      }))

    it.effect("is none without a path, whatever its messages state", () =>
      Effect.gen(function*() {
        const { capability } = yield* published
        const sender = yield* senderOf(capability, {}, { from })
        assert.deepStrictEqual(sender, { address: undefined, verified: false })
      }))
  })

  describe("protocol 1", () => {
    it.effect("is served beside it", () =>
      Effect.gen(function*() {
        const { connect } = yield* makeEndpoint()
        const [old, young] = [yield* connect(), yield* connect()]
        yield* old.peer.write(text("a") + ping)
        assert.deepStrictEqual([yield* old.peer.line, yield* old.peer.line], [ack(1), pong()])
        yield* shake(young.peer)
        yield* young.peer.write(request("b"))
        assert.strictEqual(yield* young.peer.line, ack2(2, "b"))
      }))

    it.effect("does not take a hello after its first frame", () =>
      Effect.gen(function*() {
        const { peer } = yield* serve()
        yield* peer.write(ping + hello())
        assert.deepStrictEqual(yield* peer.rest, [pong(), error("unauthorized")])
      }))

    it.effect.each([text("a"), ping, "{}\n"])(
      "is refused like a wrong token when it is turned off",
      (first) =>
        Effect.gen(function*() {
          const { inbox, peer, session } = yield* serve({ protocol1: false })
          yield* peer.write(first)
          assert.deepStrictEqual(yield* peer.rest, [error("unauthorized")])
          yield* peer.end
          yield* Fiber.join(session)
          assert.deepStrictEqual(yield* inbox.drain, [])
        })
    )

    it.effect("leaves protocol 2 when it is turned off", () =>
      Effect.gen(function*() {
        const { peer } = yield* serveProven2({ protocol1: false })
        yield* peer.write(request("a"))
        assert.strictEqual(yield* peer.line, ack2(1, "a"))
      }))
  })
})

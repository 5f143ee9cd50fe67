/** PROTOCOL.md section 3 from the server's side, seen by a peer of plain `node:net`: replies, tokens, limits. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  ack,
  error,
  frame,
  frameOf,
  isOpen,
  nothingStored,
  ping,
  pong,
  replied,
  repliedAndClosed,
  type Server,
  withPeer,
  withServer
} from "../utils/server.ts"

const data = (server: Server) => Effect.map(server.inbox.drain, (entries) => entries.map((entry) => entry.message.data))

interface Refusal {
  readonly name: string
  readonly text: string
  readonly bytes: (token: string) => string
}

const isPing = (n: number) => n % 5 === 0

const tooLong = "NDJSON frame exceeded 65536 bytes (65537)"

describe("replies", () => {
  it.live("answers a ping with its path and stays open", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(ping(server.token))
        yield* replied(peer, pong(server.socketPath))
        yield* isOpen(peer, server)
      })
    ))

  it.live("stores nothing for a ping", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* isOpen(peer, server)
        yield* nothingStored(server)
      })
    ))

  it.live("acks an accepted message with its id and stays open", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token))
        yield* replied(peer, ack(1))
        yield* peer.write(frame(server.token))
        yield* replied(peer, ack(2))
        yield* isOpen(peer, server)
      })
    ))

  it.live("acks with the id the entry has in the inbox", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token))
        yield* replied(peer, ack(1))
        assert.strictEqual((yield* server.inbox.take).id, "uds-1")
      })
    ))

  it.live.each(["text", "notification", "query", "response", "error", "pong"] as const)(
    "stores %s as an ordinary message",
    (type) =>
      withPeer((peer, server) =>
        Effect.gen(function*() {
          yield* peer.write(frame(server.token, { type, data: "x", from: "/a", ts: "2026-01-02T03:04:05.678Z" }))
          yield* replied(peer, ack(1))
          const { message } = yield* server.inbox.take
          assert.deepStrictEqual(message, { type, data: "x", from: "/a", ts: "2026-01-02T03:04:05.678Z" })
        })
      )
  )

  it.live.each<Refusal>([
    { name: "a bad token", text: "unauthorized", bytes: () => ping("0".repeat(64)) },
    { name: "a frame that is not JSON", text: "invalid frame", bytes: () => "{\n" },
    {
      name: "a frame outside the schema",
      text: "invalid frame",
      bytes: (token: string) => frame(token, { type: "x" })
    },
    { name: "a frame too long", text: tooLong, bytes: (token: string) => frameOf(token, 65_537) }
  ])("refuses $name with one error and closes", ({ bytes, text }) =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(bytes(server.token))
        yield* repliedAndClosed(peer, error(text))
        yield* nothingStored(server)
      })
    ))

  it.live("refuses what the inbox cannot take with one error and closes", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token, { data: "kept" }))
        yield* peer.write(frame(server.token, { data: "refused" }))
        yield* repliedAndClosed(peer, ack(1), error("inbox full"))
        assert.deepStrictEqual(yield* data(server), ["kept"])
      }), { maxInboxEntries: 1 }))

  it.live("still answers a ping while the inbox is full", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token))
        yield* replied(peer, ack(1))
        yield* isOpen(peer, server)
      }), { maxInboxEntries: 1 }))

  it.live("answers 500 pipelined frames in the order of the requests", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const numbers = Array.from({ length: 500 }, (_, n) => n)
        const frames = numbers.map((n) => isPing(n) ? ping(server.token) : frame(server.token, { data: `${n}` }))
        let stored = 0
        const replies = numbers.map((n) => isPing(n) ? pong(server.socketPath) : ack(++stored))
        yield* peer.write(frames.join(""))
        yield* peer.end
        yield* repliedAndClosed(peer, ...replies)
        assert.deepStrictEqual(yield* data(server), numbers.filter((n) => !isPing(n)).map(String))
      })
    ))
})

describe("the last word", () => {
  it.live.each<Refusal>([
    { name: "a bad token", text: "unauthorized", bytes: () => frame("0".repeat(64)) },
    { name: "an invalid frame", text: "invalid frame", bytes: () => "null\n" },
    { name: "a frame outside the schema", text: "invalid frame", bytes: (token: string) => frame(token, { data: 1 }) },
    { name: "a frame too long", text: tooLong, bytes: (token: string) => frameOf(token, 65_537) }
  ])(
    "answers what came before $name and nothing after it",
    ({ bytes, text }) =>
      withPeer((peer, server) =>
        Effect.gen(function*() {
          const good = (data: string) => frame(server.token, { data })
          const pinged = ping(server.token)
          yield* peer.write(
            good("before") + pinged + bytes(server.token) + good("after") + pinged + bytes(server.token)
          )
          yield* repliedAndClosed(peer, ack(1), pong(server.socketPath), error(text))
          assert.deepStrictEqual(yield* data(server), ["before"])
        })
      )
  )

  it.live("refuses what follows a full inbox, though it would fit", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(
          frameOf(server.token, 60_000) + frameOf(server.token, 10_000) + frame(server.token) + ping(server.token)
        )
        yield* repliedAndClosed(peer, ack(1), error("inbox full"))
        assert.strictEqual((yield* server.inbox.drain).length, 1)
      }), { maxInboxBytes: 65_536 }))

  it.live("does not store what is sent after the error has arrived", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write("null\n")
        yield* repliedAndClosed(peer, error("invalid frame"))
        yield* peer.write(frame(server.token, { data: "late" }))
        const other = yield* server.connect
        yield* other.write(frame(server.token, { data: "other" }))
        yield* replied(other, ack(1))
        assert.deepStrictEqual(yield* data(server), ["other"])
      })
    ))
})

const quoted = (token: string) => JSON.stringify(token)
const inMeta = (meta: string) => `{"type":"text","data":"x","meta":${meta}}\n`

describe("token", () => {
  it.live.each<{ readonly name: string; readonly bytes: (token: string) => string }>([
    { name: "no meta", bytes: () => "{\"type\":\"text\",\"data\":\"x\"}\n" },
    { name: "an empty meta", bytes: () => inMeta("{}") },
    { name: "a meta that is null", bytes: () => inMeta("null") },
    { name: "a meta that is a string", bytes: (token) => inMeta(quoted(token)) },
    { name: "a meta that is an array", bytes: (token) => inMeta(`[{"authToken":${quoted(token)}}]`) },
    { name: "a null token", bytes: () => inMeta("{\"authToken\":null}") },
    { name: "a number as token", bytes: () => inMeta("{\"authToken\":1}") },
    { name: "the token in an array", bytes: (token) => inMeta(`{"authToken":[${quoted(token)}]}`) },
    { name: "the token in an object", bytes: (token) => inMeta(`{"authToken":{"value":${quoted(token)}}}`) },
    { name: "an empty token", bytes: () => frame("") },
    { name: "a wrong token", bytes: () => frame("0".repeat(64)) },
    { name: "a wrong last digit", bytes: (token) => frame(token.slice(0, 63) + (token.endsWith("0") ? "1" : "0")) },
    { name: "a short token", bytes: (token) => frame(token.slice(0, 63)) },
    { name: "a long token", bytes: (token) => frame(`${token}0`) },
    { name: "a token with a NUL", bytes: (token) => frame(`${token}\0`) },
    { name: "a token with a space", bytes: (token) => frame(` ${token}`) },
    { name: "64 characters of two bytes", bytes: () => frame("é".repeat(64)) },
    { name: "32 characters of two bytes", bytes: () => frame("é".repeat(32)) },
    { name: "the token twice", bytes: (token) => frame(token + token) },
    { name: "the token at the top", bytes: (token) => `{"type":"text","authToken":${quoted(token)}}\n` },
    { name: "the token in a deeper meta", bytes: (token) => inMeta(`{"meta":{"authToken":${quoted(token)}}}`) },
    {
      name: "the token below meta.__proto__",
      bytes: (token) => inMeta(`{"__proto__":{"authToken":${quoted(token)}}}`)
    },
    {
      name: "the token below an escaped __proto__",
      bytes: (token) => inMeta(`{"\\u005f_proto__":{"authToken":${quoted(token)}}}`)
    },
    {
      name: "the meta below __proto__",
      bytes: (token) => `{"type":"text","__proto__":{"meta":{"authToken":${quoted(token)}}}}\n`
    },
    { name: "a ping without a token", bytes: () => "{\"type\":\"ping\"}\n" },
    { name: "a wrong token and a wrong type", bytes: () => frame("0".repeat(64), { type: "x" }) },
    { name: "an empty object", bytes: () => "{}\n" }
  ])(
    "answers $name with unauthorized and nothing else",
    ({ bytes }) =>
      withPeer((peer, server) =>
        Effect.gen(function*() {
          yield* peer.write(bytes(server.token))
          yield* repliedAndClosed(peer, error("unauthorized"))
          yield* nothingStored(server)
        })
      )
  )

  it.live("is asked for again in every frame", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token, { data: "with" }))
        yield* replied(peer, ack(1))
        yield* peer.write("{\"type\":\"text\",\"data\":\"without\"}\n")
        yield* repliedAndClosed(peer, error("unauthorized"))
        assert.deepStrictEqual(yield* data(server), ["with"])
      })
    ))

  it.live("is compared again in every frame", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token, { data: "right" }))
        yield* replied(peer, ack(1))
        yield* peer.write(frame("0".repeat(64), { data: "wrong" }))
        yield* repliedAndClosed(peer, error("unauthorized"))
        assert.deepStrictEqual(yield* data(server), ["right"])
      })
    ))

  it.live("is 64 lower-case hex digits, another for each endpoint", () =>
    withServer((one) =>
      withServer((other) =>
        Effect.sync(() => {
          assert.match(one.token, /^[0-9a-f]{64}$/)
          assert.match(other.token, /^[0-9a-f]{64}$/)
          assert.notStrictEqual(one.token, other.token)
        })
      )
    ))

  it.live("never reaches the inbox", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token, { data: "x", meta: { kept: 1 } }) + frame(server.token))
        yield* replied(peer, ack(1))
        yield* replied(peer, ack(2))
        const entries = yield* server.inbox.drain
        assert.deepStrictEqual(entries.map((entry) => entry.message), [
          { type: "text", data: "x", meta: { kept: 1 } },
          { type: "text" }
        ])
        assert.notInclude(JSON.stringify(entries), server.token)
      })
    ))
})

describe("inbox", () => {
  it.live("takes 1,000 entries and refuses the next", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const acks = Array.from({ length: 1_000 }, (_, n) => ack(n + 1))
        yield* peer.write(frame(server.token).repeat(1_001))
        yield* repliedAndClosed(peer, ...acks, error("inbox full"))
        assert.strictEqual((yield* server.inbox.size).entries, 1_000)
      })
    ))

  it.live("takes 2,097,152 bytes and refuses the next", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const acks = Array.from({ length: 32 }, (_, n) => ack(n + 1))
        yield* peer.write(frameOf(server.token, 65_536).repeat(32) + frame(server.token))
        yield* repliedAndClosed(peer, ...acks, error("inbox full"))
        assert.deepStrictEqual(yield* server.inbox.size, { entries: 32, bytes: 2_097_152 })
      })
    ))

  it.live("takes messages again once an entry has been taken", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token))
        yield* replied(peer, ack(1))
        yield* server.inbox.take
        yield* peer.write(frame(server.token))
        yield* replied(peer, ack(2))
      }), { maxInboxEntries: 1 }))
})

/** PROTOCOL.md sections 1 and 2 over a real socket, sent by a peer of plain `node:net`. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
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
  withPeer
} from "../utils/server.ts"

const bom = "\uFEFF"

/** A valid ping, padded to `bytes` bytes with `padding` before its LF. */
const padded = (token: string, padding: string, bytes: number) => {
  const json = ping(token).trimEnd()
  return `${json}${padding.repeat(bytes).slice(0, bytes - json.length)}\n`
}

describe("length", () => {
  it.live("accepts a frame of 65,536 bytes", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frameOf(server.token, 65_536))
        yield* replied(peer, ack(1))
        assert.strictEqual((yield* server.inbox.take).bytes, 65_536)
        yield* isOpen(peer, server)
      })
    ))

  it.live.each([
    { name: "with its LF", end: "\n" },
    { name: "before its LF", end: "" }
  ])("refuses a frame of 65,537 bytes $name", ({ end }) =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frameOf(server.token, 65_537).trimEnd() + end)
        yield* repliedAndClosed(peer, error("NDJSON frame exceeded 65536 bytes (65537)"))
        yield* nothingStored(server)
      })
    ))

  it.live.each([
    { name: "spaces", padding: " " },
    { name: "CR", padding: "\r" },
    { name: "tabs and CR", padding: "\t\r" }
  ])("counts $name after the JSON", ({ padding }) =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(padded(server.token, padding, 65_536))
        yield* replied(peer, pong(server.socketPath))
        yield* peer.write(padded(server.token, padding, 65_537))
        yield* repliedAndClosed(peer, error("NDJSON frame exceeded 65536 bytes (65537)"))
      })
    ))

  it.live("counts bytes, not characters", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const room = 65_536 - (frame(server.token, { data: "" }).length - 1)
        const full = "é".repeat(room >> 1) + "a".repeat(room & 1)
        yield* peer.write(frame(server.token, { data: full }))
        yield* replied(peer, ack(1))
        yield* peer.write(frame(server.token, { data: `${full}a` }))
        yield* repliedAndClosed(peer, error("NDJSON frame exceeded 65536 bytes (65537)"))
      })
    ))

  it.live("refuses a blank line of 65,537 bytes", () =>
    withPeer((peer) =>
      Effect.gen(function*() {
        yield* peer.write(`${" ".repeat(65_537)}\n`)
        yield* repliedAndClosed(peer, error("NDJSON frame exceeded 65536 bytes (65537)"))
      })
    ))

  it.live("names at least the limit's bytes for a frame of a megabyte", () =>
    withPeer((peer) =>
      Effect.gen(function*() {
        yield* peer.write("x".repeat(1_048_576))
        const [line, ...more] = yield* peer.rest
        assert.deepStrictEqual(more, [])
        const seen = /^\{"type":"error","data":"NDJSON frame exceeded 65536 bytes \((\d+)\)","ts":"[^"]+"\}$/
          .exec(line ?? "")?.[1]
        assert.isAbove(Number(seen), 65_536)
        assert.isAtMost(Number(seen), 1_048_576)
      })
    ))
})

describe("lines", () => {
  it.live.each([
    { name: "an empty line", line: "" },
    { name: "spaces", line: "   " },
    { name: "tabs", line: "\t\t" },
    { name: "a CR", line: "\r" },
    { name: "a mixture of the three", line: " \t\r \r\t" }
  ])("ignores $name, before and after authentication", ({ line }) =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(`${line}\n`)
        yield* isOpen(peer, server)
        yield* peer.write(`${line}\n${line}\n`)
        yield* isOpen(peer, server)
        yield* peer.end
        yield* repliedAndClosed(peer)
        yield* nothingStored(server)
      })
    ))

  it.live("takes CR between tokens and before the LF as whitespace", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(`\r{\r"type":\r"ping",\r"meta":{"authToken":"${server.token}"\r}\r}\r\n`)
        yield* replied(peer, pong(server.socketPath))
      })
    ))

  it.live("does not end a frame at a CR", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(`${ping(server.token).trimEnd()}\r${ping(server.token)}`)
        yield* repliedAndClosed(peer, error("invalid frame"))
      })
    ))

  it.live("ends a frame at an LF inside a string", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(`{"meta":{"authToken":"${server.token}"},"type":"text","data":"a\nb"}\n`)
        yield* repliedAndClosed(peer, error("invalid frame"))
      })
    ))

  it.live("drops the bytes after the last LF at the end of the stream", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token, { data: "whole" }) + frame(server.token, { data: "tail" }).trimEnd())
        yield* peer.end
        yield* repliedAndClosed(peer, ack(1))
        const entries = yield* server.inbox.drain
        assert.deepStrictEqual(entries.map((entry) => entry.message.data), ["whole"])
      })
    ))

  it.live("says nothing about a tail that is no frame", () =>
    withPeer((peer) =>
      Effect.gen(function*() {
        yield* peer.write("\0not a frame")
        yield* peer.end
        yield* repliedAndClosed(peer)
      })
    ))
})

/** Writes a whole ping and the head together, and the tail once the pong shows that the server has read them. */
const inTwo = (bytes: Buffer, cut: number) =>
  withPeer((peer, server) =>
    Effect.gen(function*() {
      const whole = Buffer.from(frame(server.token, { data: bytes.toString("utf8") }))
      const at = whole.indexOf(bytes) + cut
      yield* peer.write(Buffer.concat([Buffer.from(ping(server.token)), whole.subarray(0, at)]))
      yield* replied(peer, pong(server.socketPath))
      yield* peer.write(whole.subarray(at))
      yield* replied(peer, ack(1))
      assert.strictEqual((yield* server.inbox.take).message.data, bytes.toString("utf8"))
    })
  )

describe("splits", () => {
  it.live.each([1, 2, 3])(
    "joins a character of four bytes that is cut after %i",
    (cut) => inTwo(Buffer.from("😀"), cut)
  )

  it.live.each([1, 2])("joins a character of three bytes that is cut after %i", (cut) => inTwo(Buffer.from("€"), cut))

  it.live("joins a frame that comes in single bytes", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        for (const byte of Buffer.from(frame(server.token, { data: "é€😀" }))) {
          yield* Effect.callback<void>((resume) => {
            peer.socket.write(Uint8Array.of(byte), () => resume(Effect.void))
          })
        }
        yield* replied(peer, ack(1))
        assert.strictEqual((yield* server.inbox.take).message.data, "é€😀")
      })
    ))

  it.live("takes a CR and an LF that come in two writes as one end", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(`${ping(server.token)}${ping(server.token).trimEnd()}\r`)
        yield* replied(peer, pong(server.socketPath))
        yield* peer.write("\n")
        yield* replied(peer, pong(server.socketPath))
        yield* isOpen(peer, server)
      })
    ))
})

describe("encoding", () => {
  it.live.each([
    { name: "a BOM", prefix: bom },
    { name: "a NUL", prefix: "\0" },
    { name: "a form feed", prefix: "\f" },
    { name: "a vertical tab", prefix: "\v" },
    { name: "a no-break space", prefix: "\u00a0" }
  ])(
    "refuses $name before the JSON, in the first frame and in a later one",
    ({ prefix }) =>
      withPeer((peer, server) =>
        Effect.gen(function*() {
          yield* peer.write(prefix + ping(server.token))
          yield* repliedAndClosed(peer, error("invalid frame"))
          const later = yield* server.connect
          yield* later.write(ping(server.token) + prefix + ping(server.token))
          yield* repliedAndClosed(later, pong(server.socketPath), error("invalid frame"))
        })
      )
  )

  it.live("refuses a BOM also in a frame that comes in two writes", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(`${ping(server.token)}${bom}{`)
        yield* replied(peer, pong(server.socketPath))
        yield* peer.write(ping(server.token).slice(1))
        yield* repliedAndClosed(peer, error("invalid frame"))
      })
    ))

  it.live.each([
    { name: "a BOM", line: bom },
    { name: "a NUL", line: "\0" },
    { name: "a form feed", line: "\f" },
    { name: "a no-break space", line: "\u00a0" }
  ])(
    "does not take $name alone for a blank line",
    ({ line }) =>
      withPeer((peer) => Effect.andThen(peer.write(`${line}\n`), repliedAndClosed(peer, error("invalid frame"))))
  )

  it.live.each([
    { name: "a lone continuation byte", bytes: [0x80] },
    { name: "a cut character", bytes: [0xe2, 0x82] },
    { name: "an overlong slash", bytes: [0xc0, 0xaf] },
    { name: "an encoded surrogate", bytes: [0xed, 0xa0, 0x80] },
    { name: "a code point beyond the last", bytes: [0xf4, 0x90, 0x80, 0x80] },
    { name: "the byte FF", bytes: [0xff] }
  ])("refuses $name in a string", ({ bytes }) =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const [head = "", tail = ""] = frame(server.token, { data: "@" }).split("@")
        const damaged = Buffer.concat([Buffer.from(head), Uint8Array.from(bytes), Buffer.from(tail)])
        yield* peer.write(Buffer.concat([Buffer.from(frame(server.token, { data: "é" })), damaged]))
        yield* repliedAndClosed(peer, ack(1), error("invalid frame"))
        assert.strictEqual((yield* server.inbox.size).entries, 1)
      })
    ))
})

/** A frame in which `depth` containers are inside each other; `meta` is the second. */
const nested = (token: string, depth: number, [open, close]: readonly [string, string]) =>
  `{"type":"text","meta":{"authToken":"${token}","a":${open.repeat(depth - 2)}0${close.repeat(depth - 2)}}}\n`

describe("values", () => {
  it.live.each<{ readonly name: string; readonly brackets: readonly [string, string] }>([
    { name: "arrays", brackets: ["[", "]"] },
    { name: "objects", brackets: ["{\"a\":", "}"] }
  ])(
    "accepts $name at depth 64 and refuses them at 65",
    ({ brackets }) =>
      withPeer((peer, server) =>
        Effect.gen(function*() {
          yield* peer.write(nested(server.token, 64, brackets) + nested(server.token, 65, brackets))
          yield* repliedAndClosed(peer, ack(1), error("invalid frame"))
          assert.strictEqual((yield* server.inbox.size).entries, 1)
        })
      )
  )

  it.live("refuses 30,000 brackets", () =>
    withPeer((peer, server) =>
      Effect.andThen(
        peer.write(nested(server.token, 30_002, ["[", "]"])),
        repliedAndClosed(peer, error("invalid frame"))
      )
    ))

  it.live.each([
    "[]",
    "[{\"type\":\"ping\"}]",
    "null",
    "true",
    "1",
    "\"text\"",
    "{} {}",
    "{}x",
    "undefined",
    "{'a':1}"
  ])(
    "refuses %s",
    (line) =>
      withPeer((peer) => Effect.andThen(peer.write(`${line}\n`), repliedAndClosed(peer, error("invalid frame"))))
  )

  it.live.each([
    { name: "no type", fields: { type: undefined } },
    { name: "an unknown type", fields: { type: "hello" } },
    { name: "a type in capitals", fields: { type: "TEXT" } },
    { name: "a type that is a number", fields: { type: 1 } },
    { name: "data that is a number", fields: { data: 1 } },
    { name: "data that is null", fields: { data: null } },
    { name: "data that is an object", fields: { data: {} } },
    { name: "a from that is a number", fields: { from: 1 } },
    { name: "a ts that is a number", fields: { ts: 1 } }
  ])("refuses $name, though the token is right", ({ fields }) =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token, fields))
        yield* repliedAndClosed(peer, error("invalid frame"))
        yield* nothingStored(server)
      })
    ))

  it.live("drops unknown keys at the top and keeps every JSON value in meta", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const meta = { n: 1.5, s: "", b: false, z: null, a: [1, [2]], o: { deep: { er: "x" } } }
        yield* peer.write(frame(server.token, { extra: 1, toString: "x", meta }))
        yield* replied(peer, ack(1))
        assert.deepStrictEqual((yield* server.inbox.take).message, { type: "text", meta })
      })
    ))

  it.live("keeps keys that name a prototype from the application, at every depth", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        const unsafe = "\"__proto__\":{\"polluted\":true},\"constructor\":{\"prototype\":{\"polluted\":true}}," +
          "\"prototype\":1,\"\\u005f_proto__\":{\"polluted\":true}"
        yield* peer.write(
          `{"type":"text",${unsafe},"meta":{${unsafe},"authToken":"${server.token}",` +
            `"kept":{${unsafe},"a":1,"list":[[{${unsafe},"b":2}]]}}}\n`
        )
        yield* replied(peer, ack(1))
        const { message } = yield* server.inbox.take
        assert.strictEqual(
          JSON.stringify(message),
          "{\"type\":\"text\",\"meta\":{\"kept\":{\"a\":1,\"list\":[[{\"b\":2}]]}}}"
        )
        assert.isUndefined((message.meta as Record<string, unknown> | undefined)?.["polluted"])
        assert.isUndefined(({} as Record<string, unknown>)["polluted"])
      })
    ))
})

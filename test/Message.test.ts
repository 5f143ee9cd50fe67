import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import * as Framing from "../src/Framing.ts"
import { isFiniteJson } from "../src/internal/json.ts"
import { defaults } from "../src/Limits.ts"
import * as Message from "../src/Message.ts"
import { makeRandom, seed, sized } from "./utils/effort.ts"
import { biting, makeMutator } from "./utils/mutate.ts"

/** The value as the schema reads it, which `fromJson` must agree with; undefined where it is no message. */
const decoded = (value: unknown) => Result.getOrUndefined(Message.decodeResult(value))

/** The frames of `text`, as a decoder gives them. */
const frames = (text: string | Uint8Array) => {
  const out: Array<Framing.Frame> = []
  const bytes = typeof text === "string" ? Buffer.from(`${text}\n`) : text
  // Room for what one message costs more on the way out.
  Framing.makeDecoder({ ...defaults, maxFrameBytes: 60_000 }).push(bytes, out)
  return out.map(({ value }) => value)
}

/** As JSON writes it, which knows no negative zero. */
const written = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

/**
 * `fromJson` is the schema, and `encodeFrame` takes what the schema takes and no more; where a frame comes of it, that
 * holds the message. Says whether the value is a message.
 */
const agree = (value: Readonly<Record<string, unknown>>): boolean => {
  const expected = decoded(value)
  assert.deepStrictEqual(Message.fromJson(value), expected)
  // What a caller without types can pass.
  const frame = Framing.encodeFrame(value as unknown as Message.Message, defaults)
  assert.strictEqual(Result.isSuccess(frame), expected !== undefined, JSON.stringify(value))
  if (expected === undefined || Result.isFailure(frame)) return false
  assert.deepStrictEqual(JSON.parse(frame.success), written(expected))
  assert.deepStrictEqual(Framing.encodeFrame(expected, defaults), frame)
  return true
}

describe("Message", () => {
  it("makes each kind of message, without keys that were not given", () => {
    assert.deepStrictEqual(Message.text("a"), { type: "text", data: "a" })
    assert.deepStrictEqual(Message.notification("a", { ts: "2026-01-01T00:00:00.000Z" }), {
      type: "notification",
      data: "a",
      ts: "2026-01-01T00:00:00.000Z"
    })
    assert.deepStrictEqual(Message.query("a", { meta: { b: 1 }, from: "/c" }), {
      type: "query",
      data: "a",
      from: "/c",
      meta: { b: 1 }
    })
  })

  it.each(["text", "notification", "query", "response", "error", "ping", "pong"])("knows the type %s", (type) => {
    assert.isTrue(Result.isSuccess(Message.decodeResult({ type })))
  })

  it("takes the token out before an application sees the message, and an empty meta with it", () => {
    assert.deepStrictEqual(Message.withoutToken({ type: "text", meta: { authToken: "t" } }), { type: "text" })
    assert.deepStrictEqual(Message.withoutToken({ type: "text", meta: { authToken: "t", a: 1 } }), {
      type: "text",
      meta: { a: 1 }
    })
    assert.deepStrictEqual(Message.withoutToken({ type: "text" }), { type: "text" })
  })

  it.each([
    ["{}", undefined],
    ["{\"meta\":null}", undefined],
    ["{\"meta\":\"authToken\"}", undefined],
    ["{\"meta\":{}}", undefined],
    ["{\"meta\":{\"authToken\":1}}", undefined],
    ["{\"meta\":{\"authToken\":[\"t\"]}}", undefined],
    ["{\"meta\":{\"__proto__\":{\"authToken\":\"t\"}}}", undefined],
    ["{\"__proto__\":{\"meta\":{\"authToken\":\"t\"}}}", undefined],
    ["{\"meta\":{\"authToken\":\"t\"}}", "t"]
  ])("finds in %s only a token of its own: %s", (json, token) => {
    assert.strictEqual(Message.tokenOf(JSON.parse(json)), token)
  })

  it("escapes what it puts into replies", () => {
    const pong = Message.replies.pong("/a\"\n", "t")
    assert.strictEqual(pong.indexOf("\n"), pong.length - 1)
    assert.strictEqual(JSON.parse(pong).from, "/a\"\n")
  })

  describe("from JSON", () => {
    const json = [
      "{}",
      "{\"type\":null}",
      "{\"type\":[\"text\"]}",
      "{\"type\":\"Text\"}",
      "{\"type\":\"constructor\"}",
      "{\"type\":\"text\",\"data\":null}",
      "{\"type\":\"text\",\"data\":1}",
      "{\"type\":\"text\",\"data\":[\"a\"]}",
      "{\"type\":\"text\",\"from\":false}",
      "{\"type\":\"text\",\"ts\":{}}",
      "{\"type\":\"text\",\"meta\":null}",
      "{\"type\":\"text\",\"meta\":[]}",
      "{\"type\":\"text\",\"meta\":\"a\"}",
      "{\"type\":\"text\",\"meta\":0}",
      "{\"type\":\"text\",\"meta\":{\"a\":1e999}}",
      "{\"type\":\"text\",\"meta\":{\"a\":[0,{\"b\":[-1e999]}]}}"
    ]
    it.each(json)("takes %s for no message, as the schema does", (text) => {
      assert.isFalse(agree(JSON.parse(text)))
    })

    const messages = [
      "{\"type\":\"text\"}",
      "{\"type\":\"text\",\"data\":\"\",\"from\":\"\",\"ts\":\"\",\"meta\":{}}",
      "{\"type\":\"pong\",\"x\":1e999,\"y\":{\"z\":[null]}}",
      "{\"type\":\"query\",\"meta\":{\"a\":[null,true,-0,1e-999,\"\\ud800\",{\"length\":-1,\"toJSON\":{}}]}}"
    ]
    it.each(messages)("takes %s for a message, as the schema does", (text) => {
      assert.isTrue(agree(JSON.parse(text)))
    })

    const values = sized(1_500, 150_000)
    it.effect(`agrees with the schema and the encoder on ${values} arbitrary values`, () =>
      Effect.gen(function*() {
        const anything = Arbitrary.schema(Schema.Json)
        const key = Schema.Union([Schema.Literals(["type", "data", "from", "ts", "meta", "x"]), Schema.String])
        const candidates = Arbitrary.schema(Schema.Record(key, Schema.Json))
        const almost = Arbitrary.schema(Schema.Struct({
          type: Schema.Union([Message.MessageType, Schema.Json]),
          data: Schema.optionalKey(Schema.Union([Schema.String, Schema.String, Schema.Json])),
          from: Schema.optionalKey(Schema.Union([Schema.String, Schema.String, Schema.Json])),
          ts: Schema.optionalKey(Schema.Union([Schema.String, Schema.String, Schema.Json])),
          meta: Schema.optionalKey(Schema.Union([Message.Meta, Message.Meta, Schema.Json]))
        }))
        const found = { message: 0, none: 0 }
        for (const arbitrary of [anything, candidates, almost] as ReadonlyArray<Arbitrary.Arbitrary<unknown>>) {
          const checked = yield* Arbitrary.checkEffect(arbitrary, (value) =>
            Effect.try({
              try: () => {
                // A frame is an object without keys that name a prototype; anything else is none before it gets here.
                const [frame] = frames(JSON.stringify(value))
                if (frame !== undefined) found[agree(frame) ? "message" : "none"]++
                return true
              },
              catch: String
            }), { runs: values / 3, seed, size: 12 })
          assert.isUndefined(Arbitrary.formatCheckFailure(checked))
        }
        assert.isAbove(found.message, 50)
        assert.isAbove(found.none, 50)
      }))

    const mutated = sized(8_000, 800_000)
    it(`agrees with the schema and the encoder on ${mutated} mutated messages`, () => {
      const { below, mutate, pick } = makeMutator(makeRandom(seed))
      const found = { message: 0, none: 0, infinite: 0 }
      for (let n = 0; n < mutated; n++) {
        const message = {
          type: pick(Message.MessageType.literals),
          data: pick(["", "ok", "grüße 😀", "x".repeat(below(100))]),
          ...(below(2) === 0 ? {} : { from: "/run/a.sock" }),
          ts: "2026-01-01T00:00:00.000Z",
          meta: { id: `uds-${below(10)}`, [pick(biting)]: [1, { a: null, b: [below(9)] }] }
        }
        for (const frame of frames(mutate(message))) {
          found[agree(frame) ? "message" : "none"]++
          if (!isFiniteJson(frame)) found.infinite++
        }
      }
      for (const count of Object.values(found)) assert.isAbove(count, 50)
    })
  })
})

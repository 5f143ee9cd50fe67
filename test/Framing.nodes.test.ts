import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { Buffer } from "node:buffer"
import * as Framing from "../src/Framing.ts"
import * as Inbox from "../src/Inbox.ts"
import { hasTooManyNodes } from "../src/internal/json.ts"
import * as Limits from "../src/Limits.ts"
import { decodeResult } from "../src/Message.ts"
import { makeRandom, seed, sized } from "./utils/effort.ts"
import { heapInUse, mebibyte } from "./utils/memory.ts"

/** A message of `nodes` objects and arrays, itself, its meta and the array in it counted. */
const messageOf = (nodes: number, item = "{}") =>
  `{"type":"text","meta":{"a":[${Array.from({ length: nodes - 3 }, () => item).join(",")}]}}`

const decode = (text: string, limits: Limits.Values = Limits.defaults) => {
  const frames: Array<Framing.Frame> = []
  const problem = Framing.makeDecoder(limits).push(Buffer.from(`${text}\n`), frames)
  return { frames, reason: problem?.reason }
}

const tooMany = new Framing.InvalidFrame({ problem: "of too many objects" })

describe("Framing", () => {
  describe("objects and arrays in one frame", () => {
    it.each(["{}", "[]", "{\"a\":\"[{\"}", "[0]", "{\"\\\"{\":\"\\\\\"}"])(
      "pass at the limit and are refused above it, made of %s",
      (item) => {
        assert.strictEqual(decode(messageOf(4_096, item)).frames.length, 1)
        assert.deepStrictEqual(decode(messageOf(4_097, item)).reason, tooMany)
      }
    )

    it("are counted by the same number whatever the limit is", () => {
      for (const maxJsonNodes of [2, 3, 7, 50]) {
        const limits = { ...Limits.defaults, maxJsonNodes }
        if (maxJsonNodes >= 3) assert.strictEqual(decode(messageOf(maxJsonNodes), limits).frames.length, 1)
        assert.deepStrictEqual(decode(messageOf(maxJsonNodes + 3), limits).reason, tooMany)
      }
    })

    it("are not looked for in strings", () => {
      const data = JSON.stringify("{[\\\"".repeat(8_000))
      assert.strictEqual(decode(`{"type":"text","data":${data}}`).frames.length, 1)
    })

    it("are counted as a parser would, in random JSON", () => {
      const random = makeRandom()
      const pieces = ["\\", "\"", "{", "}", "[", "]", ",", ":", "a", "ü", "\n"]
      const string = () => Array.from({ length: random() * 6 }, () => pieces[Math.floor(random() * 11)]).join("")
      let nodes = 0
      const value = (depth: number): unknown => {
        if (depth === 0 || random() < 0.3) return random() < 0.8 ? string() : random()
        nodes++
        const items = Array.from({ length: random() * 5 }, () => value(depth - 1))
        return random() < 0.5 ? items : Object.fromEntries(items.map((item, i) => [`${string()}${i}`, item]))
      }
      for (let run = 0; run < sized(2_000, 100_000); run++) {
        nodes = 0
        const text = JSON.stringify(value(6))
        const told = `seed ${seed}, run ${run}: ${text}`
        // Padded, since short text is not looked at.
        const padded = `${text}${" ".repeat(2 * nodes + 2)}`
        assert.isFalse(hasTooManyNodes(padded, nodes), told)
        if (nodes > 0) assert.isTrue(hasTooManyNodes(padded, nodes - 1), told)
      }
    })

    it("end the look at text that no parser would read on", () => {
      assert.isFalse(hasTooManyNodes(`"${"{".repeat(100)}`, 3))
    })

    it("are refused by encode exactly where decode refuses them", () => {
      const meta = (nodes: number) => ({ a: Array.from({ length: nodes - 3 }, () => ({})) })
      const encoded = Framing.encodeFrame({ type: "text", meta: meta(4_096) }, Limits.defaults, { messageId: "m" })
      assert.strictEqual(decode(Result.getOrThrow(encoded).trimEnd()).frames.length, 1)
      const refused = Framing.encodeFrame({ type: "text", meta: meta(4_097) }, Limits.defaults)
      assert.include(Result.isFailure(refused) ? refused.failure.message : "", "holds too many objects")
    })
  })

  describe("the memory of dense frames", () => {
    it("is not taken before they are refused", () => {
      const bytes = Buffer.from(`${messageOf(700_000)}\n`)
      const limits = { ...Limits.defaults, maxFrameBytes: bytes.length }
      const decoder = Framing.makeDecoder(limits)
      const before = heapInUse()
      assert.deepStrictEqual(decoder.push(bytes, [])?.reason, tooMany)
      // Not collected: what was made and thrown away counts. Parsed, it takes 44 MiB; as text 2.
      const grown = (process.memoryUsage().heapUsed - before) / mebibyte
      assert.isBelow(grown, 8)
    })

    it.effect.each([
      { name: "empty objects", item: "{}", most: 14 },
      { name: "arrays of one", item: "[0]", most: 14 },
      { name: "numbers", item: "1e20", most: 14 }
    ])("that fill the inbox is bounded: $name", ({ item, most }) =>
      Effect.scoped(Effect.gen(function*() {
        const inbox = yield* Inbox.make
        // Small enough that no frame is refused.
        const text = messageOf(500, item)
        const before = heapInUse()
        for (let full = false; !full;) {
          const [frame] = decode(text).frames
          if (frame === undefined) return assert.fail("refused")
          const message = Result.getOrThrow(decodeResult(frame.value))
          const sender = { address: undefined, verified: false }
          full = Result.isFailure(inbox.offerUnsafe({ message, sender, bytes: frame.weight }, 0))
        }
        const held = (heapInUse() - before) / mebibyte
        assert.isBelow(held, most)
        assert.isAbove((yield* inbox.drain).length, 100)
      })))

    it("counts ordinary frames by their bytes on the wire, and dense ones by 16 for each object and array", () => {
      const ordinary = JSON.stringify({
        type: "text",
        data: "hello",
        meta: { a: [{ id: 1, name: "first" }, { id: 2, name: "second" }] }
      })
      const [frame] = decode(ordinary).frames
      assert.deepInclude(frame, { bytes: ordinary.length, weight: ordinary.length })
      const numbers = `{"type":"text","meta":{"a":[${"1e20,".repeat(500)}1]}}`
      assert.strictEqual(decode(numbers).frames[0]?.weight, numbers.length)
      assert.strictEqual(decode(messageOf(500)).frames[0]?.weight, 16 * 500)
    })
  })
})

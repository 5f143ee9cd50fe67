/** Any split of the same bytes gives the same frames: those that a second reading of the protocol finds in them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { Buffer } from "node:buffer"
import * as Framing from "../src/Framing.ts"
import { makeRandom, seed, sized } from "./utils/effort.ts"
import { judgeLine, messageOf } from "./utils/judge.ts"
import { biting, makeMutator, type Mutator } from "./utils/mutate.ts"

interface Read {
  readonly messages: ReadonlyArray<unknown>
  readonly failed: boolean
}

const decodeAll = (chunks: ReadonlyArray<Uint8Array>) => {
  const messages: Array<unknown> = []
  return Framing.decode(Stream.fromIterable(chunks, { chunkSize: 2 })).pipe(
    Stream.runForEachArray((batch) => Effect.sync(() => messages.push(...batch))),
    Effect.match({ onSuccess: () => false, onFailure: () => true }),
    Effect.map((failed): Read => ({ messages, failed }))
  )
}

/** What PROTOCOL.md finds in the bytes: messages until something is none. */
const judge = (bytes: Buffer): Read => {
  const messages: Array<unknown> = []
  let start = 0
  for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
    const line = judgeLine(bytes.subarray(start, end))
    const message = line._tag === "Frame" ? messageOf(line.fields) : undefined
    if (line._tag !== "Blank" && message === undefined) return { messages, failed: true }
    if (message !== undefined) messages.push(message)
    start = end + 1
  }
  return { messages, failed: bytes.length - start > 65_536 }
}

/** Cuts `bytes` at the given offsets, which may repeat. */
const cut = (bytes: Buffer, offsets: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const edges = [0, ...[...offsets].sort((a, b) => a - b), bytes.length]
  return edges.slice(1).map((edge, i) => bytes.subarray(edges[i], edge))
}

/** A few frames, some of them damaged, with lines between them that count for nothing. */
const randomStream = ({ below, chance, mutate, pick, plain }: Mutator): Buffer =>
  Buffer.concat(Array.from({ length: 1 + below(5) }, () => {
    const frame = {
      type: pick(["text", "query", "ping", "error"]),
      data: pick(["a", "grüße 😀 €", "", "x".repeat(below(100)), "\u2028\r\n"]),
      meta: { [pick(biting)]: [1, { b: "ä" }], n: below(1_000) }
    }
    return Buffer.concat([
      Buffer.from(chance(0.2) ? pick(["\n", "\r\n", " \t\r\n \n"]) : ""),
      chance(0.6) ? mutate(frame) : plain(frame)
    ])
  }))

describe("Framing.decode", () => {
  it.effect("gives the same frames for every 1- and 2-cut of a two-frame stream", () =>
    Effect.gen(function*() {
      const bytes = Buffer.from(
        `{"type":"text","data":"${"grüße 😀 ".repeat(9)}ninebyte"}\r\n \n{"type":"query","meta":{"a":[1,{"b":"€"}]}}\n`
      )
      assert.strictEqual(bytes.length, 200)
      const expected = judge(bytes)
      assert.strictEqual(expected.messages.length, 2)
      for (let i = 0; i <= bytes.length; i++) {
        for (let j = i; j <= bytes.length; j++) {
          assert.deepStrictEqual(yield* decodeAll(cut(bytes, [i, j])), expected, `cut at ${i}, ${j}`)
        }
      }
    }))

  const streams = sized(10_000, 1_000_000)

  it.effect(`gives the same frames for random splits of ${streams} random streams`, () =>
    Effect.gen(function*() {
      const mutator = makeMutator(makeRandom())
      let failed = 0
      for (let n = 0; n < streams; n++) {
        const bytes = randomStream(mutator)
        const offsets = Array.from({ length: mutator.below(12) }, () => mutator.below(bytes.length + 1))
        const expected = judge(bytes)
        if (expected.failed) failed++
        const which = `stream ${n} of seed ${seed}, cut at ${offsets.join(", ")}`
        assert.deepStrictEqual(yield* decodeAll(cut(bytes, offsets)), expected, which)
      }
      // Neither kind is missing.
      assert.isAbove(failed, streams / 10)
      assert.isBelow(failed, streams / 2)
    }))
})

/** Whose memory half a frame is kept in, and how much of it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import * as Framing from "../src/Framing.ts"
import * as Limits from "../src/Limits.ts"
import { heapInUse } from "./utils/memory.ts"

const frameOf = (bytes: number) => {
  const empty = `{"type":"text","data":""}`
  return Buffer.from(`${empty.slice(0, -2)}${"x".repeat(bytes - empty.length)}"}\n`)
}

// Made here, since making them takes buffers.
const frames = { small: frameOf(20_000), middle: frameOf(100_000), large: frameOf(290_000) }

/** The sizes of the buffers that are made from here on, of those that share no memory. */
const sizes = Effect.acquireRelease(
  Effect.sync(() => {
    const real = Buffer.allocUnsafeSlow
    const made: Array<number> = []
    Buffer.allocUnsafeSlow = (size) => {
      made.push(size)
      return real(size)
    }
    return { made, real }
  }),
  ({ real }) =>
    Effect.sync(() => {
      Buffer.allocUnsafeSlow = real
    })
)

/** Pushes the frame in pieces of so many bytes, all in memory of their own, and reads it back. */
const push = (decoder: Framing.Decoder, frame: Buffer, size: number) => {
  const out: Array<Framing.Frame> = []
  for (let at = 0; at < frame.length; at += size) {
    assert.isUndefined(decoder.push(Uint8Array.from(frame.subarray(at, at + size)), out))
  }
  assert.deepStrictEqual(out.map(({ value }) => value), [JSON.parse(frame.toString())])
}

describe("Framing.makeDecoder", () => {
  it.each([
    { bytes: 4_096, read: "x", name: "copies a piece of 4,096 bytes, which lies in a chunk that may be larger" },
    { bytes: 4_097, read: "y", name: "keeps a longer piece where it lies" }
  ])("$name, when a frame begins with it", ({ bytes, read }) => {
    const decoder = Framing.makeDecoder(Limits.defaults)
    const frame = frameOf(6_000)
    const out: Array<Framing.Frame> = []
    const piece = Uint8Array.from(frame.subarray(0, bytes))
    assert.isUndefined(decoder.push(piece, out))
    piece[1_000] = "y".charCodeAt(0)
    assert.isUndefined(decoder.push(frame.subarray(bytes), out))
    assert.strictEqual(String(out[0]?.value["data"])[1_000 - "{\"type\":\"text\",\"data\":\"".length], read)
  })

  it.effect("takes one buffer of 64 KiB for a frame that comes byte by byte, and a copy of its first", () =>
    Effect.gen(function*() {
      const { made } = yield* sizes
      push(Framing.makeDecoder({ ...Limits.defaults, maxFrameBytes: 100_000 }), frames.small, 1)
      assert.deepStrictEqual(made, [1, 65_536])
    }))

  it.effect("takes twice what it needs, no more than the limit, and no more often than it must", () =>
    Effect.gen(function*() {
      const { made } = yield* sizes
      const decoder = Framing.makeDecoder({ ...Limits.defaults, maxFrameBytes: 350_000 })
      push(decoder, frames.large, 40_000)
      assert.deepStrictEqual(made, [160_000, 350_000])
      // The buffer went with its frame.
      push(decoder, frames.middle, 40_000)
      assert.deepStrictEqual(made, [160_000, 350_000, 160_000])
    }))

  it("keeps nothing of a frame that has ended", () => {
    const decoder = Framing.makeDecoder({ ...Limits.defaults, maxFrameBytes: 20_000_000 })
    const kept = () => {
      heapInUse()
      return process.memoryUsage().arrayBuffers
    }
    const before = kept()
    for (let piece = 0; piece < 10; piece++) assert.isUndefined(decoder.push(Buffer.alloc(1_000_000, "x"), []))
    assert.isAbove(kept() - before, 10_000_000)
    assert.strictEqual(decoder.push(Buffer.from("\n"), [])?.message, "frame is not JSON")
    assert.isBelow(kept() - before, 1_000_000)
    assert.isUndefined(decoder.partialFrame())
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import * as Framing from "../../src/Framing.ts"
import { Reader } from "../../src/internal/greeting.ts"
import { defaults } from "../../src/Limits.ts"

describe("a reader of replies", () => {
  it.effect("gives the frames before a bad one, and nothing that comes after it", () =>
    Effect.gen(function*() {
      const chunks = ["{\"n\":1}\nbad\n{\"n\":2}\n", "{\"n\":3}\n"].map((text) => Buffer.from(text))
      const { read } = new Reader(Effect.sync(() => chunks.splice(0, 1)), Framing.makeDecoder(defaults))
      assert.deepStrictEqual((yield* read).map(({ value }) => value), [{ n: 1 }])
      assert.deepStrictEqual((yield* Effect.flip(read))._tag, "FramingError")
      assert.deepStrictEqual((yield* Effect.flip(read))._tag, "FramingError")
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Socket } from "effect/socket"
import * as MemoryTransport from "../src/MemoryTransport.ts"

const pair = Effect.gen(function*() {
  const [near, far] = yield* MemoryTransport.makePair
  return { near, far, writer: yield* near.socket.writer, pull: yield* Socket.readerBytes(far.socket) }
})

/** Enough turns for every fiber that can go on. */
const settled = Effect.repeat(Effect.yieldNow, { times: 500 })

/** Writes chunks for ever and counts those that were taken. */
const writing = Effect.fnUntraced(function*(writer: Socket.Writer, chunk: Uint8Array | string) {
  let written = 0
  const fiber = yield* Effect.forever(Effect.tap(writer.write(chunk), () => Effect.sync(() => written++))).pipe(
    Effect.result,
    Effect.forkScoped({ startImmediately: true })
  )
  yield* settled
  return { fiber, written: () => written }
})

describe("MemoryTransport", () => {
  describe("a pair whose far end reads nothing", () => {
    it.effect.each([
      { name: "of 1 KiB", chunk: "x".repeat(1_024), most: 8 },
      { name: "of 2 bytes a character", chunk: "é".repeat(512), most: 8 },
      { name: "of bytes", chunk: new Uint8Array(1_024), most: 8 },
      { name: "of 1 MiB", chunk: "x".repeat(1_048_576), most: 1 },
      { name: "of nothing", chunk: "", most: 128 }
    ])("holds 8 KiB in chunks $name, and the writer waits", ({ chunk, most }) =>
      Effect.gen(function*() {
        const { writer } = yield* pair
        const { fiber, written } = yield* writing(writer, chunk)
        assert.isUndefined(fiber.pollUnsafe())
        assert.strictEqual(written(), most)
      }))

    it.effect("takes more once it reads, and gives all in order", () =>
      Effect.gen(function*() {
        const { pull, writer } = yield* pair
        const sent = Array.from({ length: 500 }, (_, i) => `${i} ${"x".repeat(100)}\n`)
        yield* Effect.forkScoped(Effect.forEach(sent, (chunk) => writer.write(chunk)))
        let seen = ""
        while (seen.length < sent.join("").length) seen += Buffer.concat(yield* pull).toString()
        assert.strictEqual(seen, sent.join(""))
      }))

    it.effect.each(["near", "far"] as const)(
      "fails a writer that waits when the %s end closes",
      (side) =>
        Effect.gen(function*() {
          const { writer, ...ends } = yield* pair
          const { fiber } = yield* writing(writer, "x".repeat(1_024))
          yield* ends[side].close
          assert.strictEqual((yield* Fiber.join(fiber))._tag, "Failure")
        })
    )

    it.effect("fails a writer that waits when the far end stops reading", () =>
      Effect.gen(function*() {
        const [near, far] = yield* MemoryTransport.makePair
        const writer = yield* near.socket.writer
        const { fiber } = yield* Effect.scoped(
          Effect.andThen(Socket.readerBytes(far.socket), writing(writer, "x".repeat(1_024)))
        ).pipe(Effect.flatMap(() => writing(writer, "x".repeat(1_024))))
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "Failure")
      }))

    it.effect("keeps what was written before the near end closed", () =>
      Effect.gen(function*() {
        const { near, pull, writer } = yield* pair
        yield* writer.write("last")
        yield* near.close
        assert.strictEqual(Buffer.concat(yield* pull).toString(), "last")
        assert.strictEqual((yield* Effect.flip(pull)).reason._tag, "SocketCloseError")
      }))
  })
})

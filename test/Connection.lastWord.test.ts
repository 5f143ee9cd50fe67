import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric, Queue } from "effect"
import type { Socket } from "effect/socket"
import { Buffer } from "node:buffer"
import * as wires from "../src/internal/wire.ts"
import * as Limits from "../src/Limits.ts"
import { makeEndpoint } from "./utils/memoryPeer.ts"
import { auth, type Challenge, hello, query, withReceipt } from "./utils/protocol2.ts"

/**
 * A proven connection whose peer reads until told to stop: from then on nothing that is written gets through, and hanging
 * up on it takes until after the test.
 */
const serveStuck = Effect.gen(function*() {
  const arriving = yield* Queue.unbounded<Uint8Array>()
  const written: Array<string> = []
  let stuck = false
  const note = (text: string | Uint8Array) => {
    written.push(String(text))
    return stuck ? Effect.never : undefined
  }
  const wire = wires.make({
    pull: Effect.map(Queue.take(arriving), (chunk) => [chunk]),
    write: note,
    end: (text) => Effect.suspend(() => note(text) ?? Effect.void),
    destroy: () => {}
  })
  const { connect, inbox } = yield* makeEndpoint()
  yield* connect({ through: (socket): Socket.Socket => Object.assign({ ...socket }, wire) })
  const say = (text: string) =>
    Effect.andThen(Queue.offer(arriving, Buffer.from(text)), Effect.repeat(Effect.yieldNow, { times: 5 }))
  yield* say(hello())
  const { nonce } = JSON.parse(written[0] ?? "null") as Challenge
  yield* say(auth(nonce))
  return { inbox, say, stick: () => void (stuck = true), written }
})

const timeouts = Effect.map(
  Metric.snapshot,
  (metrics) =>
    metrics.flatMap(({ attributes, id, state }) =>
      id === "effect_messaging_refused" && attributes?.["reason"] === "timeout" ? [state] : []
    )
)

/** Metrics of this test alone. */
const withMetrics = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync(() => new Map()))

describe("Connection, protocol 2", () => {
  it.effect("says nothing behind a last word that waits for the peer", () =>
    Effect.gen(function*() {
      const { inbox, say, stick, written } = yield* serveStuck
      yield* say(query("a"))
      const entry = yield* inbox.take
      stick()
      yield* say("bad\n")
      assert.include(written.at(-1), "invalid frame")
      const said = written.length
      yield* entry.reply("late")
      yield* Effect.repeat(Effect.yieldNow, { times: 5 })
      assert.strictEqual(written.length, said)
    }))

  it.effect("counts a peer that is cut for what it leaves unread once, whatever else it is then told", () =>
    Effect.gen(function*() {
      const { inbox, say, stick } = yield* serveStuck
      const ends = yield* Queue.unbounded<void>()
      yield* inbox.consume(() => Queue.take(ends)).pipe(Effect.forkScoped({ startImmediately: true }))
      yield* say(Array.from({ length: 9 }, (_, n) => withReceipt(`${n}`)).join(""))
      stick()
      for (let n = 0; n < 9; n++) {
        yield* Queue.offer(ends, undefined)
        yield* Effect.repeat(Effect.yieldNow, { times: 5 })
      }
      assert.deepStrictEqual(yield* timeouts, [{ count: 1, incremental: true }])
    }).pipe(Effect.provide(Limits.layer({ maxUnreadBytes: 300 })), withMetrics))
})

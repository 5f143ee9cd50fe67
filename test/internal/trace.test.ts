import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as trace from "../../src/internal/trace.ts"

const [traceId, spanId] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"]

describe("trace", () => {
  it.effect("writes the current span as parse reads it", () =>
    Effect.gen(function*() {
      const span = yield* Effect.currentSpan
      const parsed = Option.flatMap(yield* trace.current, trace.parse)
      assert.deepInclude(Option.getOrThrow(parsed), { traceId: span.traceId, spanId: span.spanId, sampled: true })
    }).pipe(Effect.withSpan("outer")))

  it.effect("writes nothing without a span", () =>
    Effect.gen(function*() {
      assert.isTrue(Option.isNone(yield* trace.current))
    }))

  it("knows whether the sender samples", () => {
    for (const [flags, sampled] of [["00", false], ["01", true], ["03", true], ["02", false]] as const) {
      assert.strictEqual(Option.getOrThrow(trace.parse(`00-${traceId}-${spanId}-${flags}`)).sampled, sampled)
    }
  })

  it.each([
    undefined,
    1,
    "",
    `00-${traceId}-${spanId}`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    ` 00-${traceId}-${spanId}-01`
  ])("takes %j for none", (traceparent) => {
    assert.isTrue(Option.isNone(trace.parse(traceparent)))
  })
})

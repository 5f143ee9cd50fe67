import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Tracer } from "effect"
import * as trace from "../../src/internal/trace.ts"

const [traceId, spanId] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"]

describe("trace", () => {
  it.effect("sends the caller's span along where nobody reads spans, and makes none", () =>
    Effect.gen(function*() {
      const outer = yield* Effect.currentSpan
      const [traceparent, inner] = yield* trace.span("inner", (traceparent) =>
        Effect.map(Effect.currentSpan, (span) => [traceparent, span] as const))
      assert.strictEqual(inner, outer)
      const parsed = Option.getOrThrow(trace.parse(traceparent))
      assert.deepInclude(parsed, { traceId: outer.traceId, spanId: outer.spanId, sampled: true })
    }).pipe(Effect.withSpan("outer")))

  it.effect("sends a span of that name along where a tracer reads it", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = Tracer.nativeTracer.span(options)
          spans.push(span)
          return span
        }
      })
      const traceparent = yield* trace.span("inner", Effect.succeed).pipe(Effect.withTracer(tracer))
      assert.deepStrictEqual(spans.map(({ name }) => name), ["inner"])
      assert.strictEqual(Option.getOrThrow(trace.parse(traceparent)).spanId, spans[0]?.spanId)
    }))

  it.effect("sends nothing along without a span", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* trace.span("inner", Effect.succeed))
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

/** W3C Trace Context in `meta.traceparent`: a question answered by another process is one trace. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/** The current span as `traceparent`, if there is one. */
export const current: Effect.Effect<Option.Option<string>> = Effect.map(
  Effect.option(Effect.currentSpan),
  Option.map(({ sampled, spanId, traceId }) => `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`)
)

const pattern = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** The span a `traceparent` names; none when it is not well formed. */
export const parse = (traceparent: unknown): Option.Option<Tracer.ExternalSpan> => {
  const [, traceId, spanId, flags] = (typeof traceparent === "string" && pattern.exec(traceparent)) || []
  if (traceId === undefined || spanId === undefined || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return Option.none()
  return Option.some(Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags ?? "0", 16) & 1) === 1 }))
}

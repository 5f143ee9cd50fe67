/** W3C Trace Context in `meta.traceparent`: a question answered by another process is one trace. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/** A span as `traceparent`. */
export const format = ({ sampled, spanId, traceId }: Tracer.AnySpan): string =>
  `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`

/**
 * Runs `evaluate` in a span of that name, and gives it the `traceparent` to send along. Without a tracer that somebody
 * reads there is no span, which would cost more than the message (4 µs of 10), and the caller's own is sent along.
 */
export const span = <A, E, R>(
  name: string,
  evaluate: (traceparent: string | undefined) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber(({ cache: { span, tracer = Tracer.nativeTracer } }) =>
    tracer === Tracer.nativeTracer
      ? evaluate(span === undefined ? undefined : format(span))
      : Effect.useSpan(name, { kind: "producer" }, (span) => evaluate(format(span)))
  )

const pattern = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** The span a `traceparent` names; none when it is not well formed. */
export const parse = (traceparent: unknown): Option.Option<Tracer.ExternalSpan> => {
  const [, traceId, spanId, flags] = (typeof traceparent === "string" && pattern.exec(traceparent)) || []
  if (traceId === undefined || spanId === undefined || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return Option.none()
  return Option.some(Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags ?? "0", 16) & 1) === 1 }))
}

/**
 * Runs a handler as the continuation of the trace that a message came with: in a consumer's span where a tracer reads
 * it, otherwise as a child of the sender's own span.
 */
export const continued = <A, E, R>(
  handler: Effect.Effect<A, E, R>,
  name: string,
  traceparent: string | undefined,
  attributes: Record<string, unknown>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const parent = Option.getOrUndefined(parse(traceparent))
    const under = (span: Tracer.AnySpan) => Effect.provideService(handler, Tracer.ParentSpan, span)
    if (fiber.getRef(Tracer.Tracer) !== Tracer.nativeTracer) {
      return Effect.useSpan(name, { kind: "consumer", parent, attributes }, under)
    }
    return parent === undefined ? handler : under(parent)
  })

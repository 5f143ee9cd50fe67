import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, Metric, Option, Redacted, References, Tracer } from "effect"
import { inspect } from "node:util"
import { Capability } from "../src/Capability.ts"
import { Inbox } from "../src/Inbox.ts"
import * as Layers from "../src/Layers.ts"
import * as Message from "../src/Message.ts"
import { Messaging } from "../src/Messaging.ts"
import { connectRaw } from "./utils/rawPeer.ts"
import { withServer } from "./utils/server.ts"

const build = (options: Layers.Options) =>
  Effect.map(Layer.build(Layers.layerMemory(options)), (context) => ({
    messaging: Context.get(context, Messaging),
    inbox: Context.get(context, Inbox),
    socketPath: Option.getOrThrow(Context.get(context, Messaging).address).socketPath
  }))

/** Collects every span that begins. */
const recording = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { spans, tracer }
}

describe("tracing", () => {
  it.effect("makes a question and its handling one trace", () => {
    const { spans, tracer } = recording()
    return Effect.gen(function*() {
      const a = yield* build({ name: "a" })
      const b = yield* build({ name: "b" })
      yield* Effect.forkScoped(b.inbox.consume(() => Effect.succeed("yes")))
      yield* Effect.withSpan(a.messaging.ask("b", "?"), "application")
      const find = (name: string) => spans.find((span) => span.name === name) ?? assert.fail(`no span ${name}`)
      const [outer, ask, consume] = [find("application"), find("Messaging.ask"), find("Inbox.consume")]
      assert.strictEqual(ask.traceId, outer.traceId)
      assert.strictEqual(consume.traceId, outer.traceId)
      assert.strictEqual(Option.getOrThrow(consume.parent).spanId, ask.spanId)
      assert.deepStrictEqual(Object.fromEntries(consume.attributes), { id: "uds-1", type: "query" })
    }).pipe(Effect.scoped, Effect.provide(Layers.memoryNetwork), Effect.withTracer(tracer))
  })

  it.effect("ignores a traceparent that is not well formed, and hides it from the application", () =>
    Effect.gen(function*() {
      const a = yield* build({ name: "a" })
      yield* a.messaging.send("a", Message.text("x", { meta: { traceparent: "not one", kept: 1 } }))
      const entry = yield* a.inbox.take
      assert.deepStrictEqual(entry.message.meta, { kept: 1 })
    }).pipe(Effect.scoped, Effect.provide(Layers.memoryNetwork)))
})

describe("metrics", () => {
  const read = Effect.map(Metric.snapshot, (all) =>
    new Map(all.map((metric) => {
      const labels = Object.entries(metric.attributes ?? {}).map(([key, value]) => `${key}=${value}`).join()
      const state = metric.state as { count?: number | bigint; value?: number | bigint }
      return [`${metric.id}{${labels}}`, Number(state.count ?? state.value)]
    })))

  it.live("count what was stored, refused, repeated and connected", () =>
    withServer(({ connect, inbox, socketPath, token }) =>
      Effect.gen(function*() {
        const messaging = yield* Messaging
        yield* messaging.send(socketPath, Message.text("a"))
        const full = yield* Effect.flip(messaging.send(socketPath, Message.text("b")))
        assert.strictEqual(full.reason._tag, "InboxFull")
        const stranger = yield* connect
        yield* stranger.write("{}\n")
        yield* stranger.rest
        const seen = yield* read
        const metric = (name: string) => seen.get(`effect_messaging_${name}`)
        assert.strictEqual(metric("messages_accepted{}"), 1)
        assert.isAbove(metric("bytes_accepted{}") ?? 0, 20)
        assert.strictEqual(metric("refused{reason=full}"), 1)
        assert.strictEqual(metric("refused{reason=unauthorized}"), 1)
        assert.strictEqual(metric("authentication_failures{}"), 1)
        assert.strictEqual(metric("connections{state=authenticated}"), 1)
        assert.strictEqual(metric("inbox_entries{}"), 1)
        assert.strictEqual(metric("send_duration{time_unit=milliseconds}"), 2)
        yield* inbox.drain
        // Gauges are set at the end of the turn.
        yield* Effect.yieldNow
        assert.strictEqual((yield* read).get("effect_messaging_inbox_entries{}"), 0)
        assert.isFalse(inspect(seen).includes(token))
      }), { maxInboxEntries: 1 }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})

describe("logs", () => {
  it.live("warn once of peers that do not prove themselves, and say nothing that a peer said", () => {
    const lines: Array<string> = []
    const capture = Logger.layer([
      Logger.make(({ logLevel, message }) => {
        lines.push(`${logLevel} ${inspect(message)}`)
      })
    ])
    return withServer(({ socketPath }) =>
      Effect.gen(function*() {
        for (let i = 0; i < 5; i++) {
          const stranger = yield* connectRaw(socketPath)
          yield* stranger.write("{\"type\":\"text\\nforged\",\"meta\":{\"authToken\":\"guess\"}}\n")
          yield* stranger.rest
        }
        assert.strictEqual(lines.filter((line) => line.startsWith("Warn")).length, 1)
        assert.strictEqual(lines.filter((line) => line.startsWith("Debug")).length, 4)
        assert.isFalse(lines.some((line) => line.includes("forged") || line.includes("guess")))
      })
    ).pipe(Effect.provide(capture), Effect.provideService(References.MinimumLogLevel, "All"))
  })
})

describe("secrets", () => {
  it.effect("stay out of spans, logs, metrics, errors and entries of a whole conversation", () => {
    const { spans, tracer } = recording()
    const lines: Array<string> = []
    const capture = Logger.layer([
      Logger.make((entry) => {
        lines.push(inspect(entry, { depth: 6 }))
      })
    ])
    return Effect.gen(function*() {
      const a = yield* build({ name: "a" })
      const b = yield* build({ name: "b" })
      yield* Effect.forkScoped(
        b.inbox.consume(({ message }) => message.data === "no" ? Effect.fail("no") : Effect.succeed("yes"))
      )
      const errors = [
        yield* Effect.flip(a.messaging.ask("b", "no")),
        yield* Effect.flip(a.messaging.ask("nobody", "?"))
      ]
      yield* a.messaging.ask("b", "yes")
      yield* a.messaging.send("a", Message.text("x"))
      const entries = yield* a.inbox.drain
      const capability = yield* Capability
      const tokens = (yield* capability.list).map(({ token }) => Redacted.value(token))
      assert.strictEqual(tokens.length, 2)
      const snapshot = yield* Metric.snapshot
      const text = [spans, lines, errors, entries, snapshot, a, b].map((value) => inspect(value, { depth: 12 })).join()
      for (const token of tokens) {
        for (const part of [token.slice(0, 32), token.slice(32)]) assert.isFalse(text.includes(part))
      }
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.merge(Layers.memoryNetwork, capture)),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.withTracer(tracer)
    )
  })
})

/**
 * How to test a program that uses the library: make the system fail at a chosen moment, and the network misbehave, the
 * same way in every run. Needs no test runner; in a test file each `check` would be a test.
 *
 * Run it with `node --conditions=effect-messaging-source examples/testing.ts` from a checkout. It exits with 1 if any
 * check failed.
 */
import { Context, Effect, Layer, Option, Schema } from "effect"
import { Inbox, Layers, Message, Messaging } from "effect-messaging"
import { Faults, Network } from "effect-messaging/testing"
import { TestClock } from "effect/testing"

// The program under test: it reports to somebody, and keeps the report where that is not possible now.

const report = Effect.fnUntraced(function*(to: string, text: string) {
  const messaging = yield* Messaging.Messaging
  return yield* messaging.send(to, Message.text(text), { timeout: "30 seconds" }).pipe(
    Effect.as("sent"),
    Effect.catchReasons("MessagingError", {
      PeerNotFound: () => Effect.succeed("kept"),
      PeerUnreachable: () => Effect.succeed("kept")
    })
  )
})

// Its tests.

class CheckFailed extends Schema.TaggedError<CheckFailed>()("CheckFailed", { what: Schema.String }) {
  override get message() {
    return `failed: ${this.what}`
  }
}
const say = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))
const ensure = (what: string, holds: boolean) => holds ? say(`ok: ${what}`) : new CheckFailed({ what })

const leadPath = "/memory/lead.sock"

/** The endpoint that is reported to, and the one that reports. Both in memory: no file, no socket. */
const endpoints = Effect.gen(function*() {
  const lead = yield* Layer.build(Layers.layerMemory({ socketPath: leadPath }))
  const worker = yield* Layer.build(Layers.layerMemory({ socketPath: "/memory/worker.sock" }))
  return { lead: Context.get(lead, Inbox.Inbox), worker: Context.pick(Messaging.Messaging)(worker) }
})

const keepsReports = Effect.gen(function*() {
  const faults = yield* Faults.Faults
  const { lead, worker } = yield* endpoints
  yield* faults.failAt(1, "ECONNREFUSED", "Transport.dial")
  const outcome = yield* Effect.provide(report(leadPath, "tests passed"), worker)
  yield* ensure("a report to somebody who has died is kept", outcome === "kept" && (yield* lead.size).entries === 0)
}).pipe(Effect.scoped, Effect.provide(Layer.mergeAll(Layers.memoryNetwork, Faults.layer)))

const survivesEveryFault = Effect.gen(function*() {
  let wrong = 0
  const operations = yield* Faults.exhaust("EIO", (faulty) =>
    Effect.gen(function*() {
      const { lead, worker } = yield* endpoints
      const outcome = yield* Network.run(faulty(Effect.provide(report(leadPath, "tests passed"), worker)))
      const { entries } = yield* lead.size
      if (entries !== (outcome === "sent" ? 1 : 0)) wrong++
    }).pipe(Effect.scoped, Effect.provide(Layers.memoryNetwork)))
  yield* ensure(
    `whichever of ${operations} operations fails, a report is sent once or kept`,
    operations > 0 && wrong === 0
  )
}).pipe(Effect.provide(Layer.mergeAll(Faults.layer, TestClock.layer())))

const rough = Network.layer({ seed: 42, minDelay: "5 millis", maxDelay: "250 millis", dropAcks: 0.1, cut: 0.1 })

const reportsOnce = Effect.gen(function*() {
  const network = yield* Network.Network
  const { lead, worker } = yield* endpoints
  const texts = Array.from({ length: 20 }, (_, n) => `step ${n} done`)
  const outcomes = yield* Network.run(Effect.provide(
    Effect.forEach(texts, (text) => Effect.option(report(leadPath, text))),
    worker
  ))
  const stored = (yield* lead.drain).map(({ message }) => message.data)
  const fates = (yield* network.log).map(({ fate }) => fate)
  yield* say(
    `    the network delivered ${fates.filter((fate) => fate === "delivered").length} frames, lost ${
      fates.filter((fate) => fate === "dropped").length
    } acks and cut ${fates.filter((fate) => fate === "cut").length} connections`
  )
  yield* ensure("no report arrives twice over a bad network", new Set(stored).size === stored.length)
  const sent = texts.filter((_, n) => Option.contains(outcomes[n] ?? Option.none(), "sent"))
  yield* ensure("every report that counts as sent has arrived", sent.every((text) => stored.includes(text)))
}).pipe(Effect.scoped, Effect.provide(Layer.mergeAll(Layers.memoryNetwork, rough, TestClock.layer())))

const result = await Effect.runPromise(
  Effect.all([keepsReports, survivesEveryFault, reportsOnce], { discard: true }).pipe(
    Effect.andThen(say("testing: all checks passed")),
    Effect.match({ onSuccess: () => Option.none<string>(), onFailure: (error) => Option.some(error.message) })
  )
)
if (Option.isSome(result)) {
  process.stderr.write(`testing: ${result.value}\n`)
  process.exitCode = 1
}

/**
 * What an endpoint counts, as Prometheus text. Run it with
 * `node --conditions=effect-messaging-source examples/metrics.ts` from a checkout.
 */
import { Effect } from "effect"
import { Inbox, Layers, Messaging } from "effect-messaging"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"

const program = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  const inbox = yield* Inbox.Inbox
  const { socketPath } = yield* Effect.fromOption(messaging.address)

  yield* Effect.forkScoped(inbox.consume((entry) => Effect.succeed(`you said ${entry.message.data}`)))
  yield* messaging.ask(socketPath, "hello")
  process.stdout.write(yield* PrometheusMetrics.format())
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Layers.layer({ name: "metrics" }))))

/** An unrelated process: it finds the endpoint named "demo" among the live peers. */
import { Duration, Effect, Option } from "effect"
import { Layers, Message, Messaging, Peers } from "effect-messaging"

const program = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  const peers = yield* Peers.Peers
  const live = yield* peers.list
  const peer = yield* Effect.fromNullishOr(live.find(({ name }) => Option.contains(name, "demo")))
  const roundTrip = Duration.toMillis(yield* messaging.ping(peer)).toFixed(1)
  yield* messaging.send(peer, Message.text("found you by listing peers"))
  process.stdout.write(
    `stranger  ${process.pid} found ${live.length} peer by listing; it answered in ${roundTrip} ms\n`
  )
})

await Effect.runPromise(Effect.provide(program, Layers.layerClient()))

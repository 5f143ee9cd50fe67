/** A program that only sends. */
import * as Effect from "effect/Effect"
import * as Layers from "../../src/Layers.ts"
import * as Messaging from "../../src/Messaging.ts"

const program = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  yield* messaging.send(process.argv[2] ?? "", { type: "text", data: "hello" })
})

await Effect.runPromise(Effect.provide(program, Layers.layerClient()))

/** A program with our layer that sends one message, to the address given, as soon as it can. */
import * as Effect from "effect/Effect"
import * as Layers from "../../src/Layers.ts"
import * as Messaging from "../../src/Messaging.ts"

const program = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  yield* messaging.send(process.argv[2] ?? "", { type: "text", data: "hello" })
  process.stdout.write("stored\n")
})

await Effect.runPromise(Effect.provide(program, Layers.layer()))

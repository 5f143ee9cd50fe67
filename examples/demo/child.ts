/** A child process: all it knows of its parent is the environment variable. */
import { Effect, Option } from "effect"
import { Layers, Message, Messaging } from "effect-messaging"

const program = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  const parent = process.env["CLAUDE_CODE_MESSAGING_SOCKET"] ?? ""
  const receipt = yield* messaging.send(parent, Message.text("tests passed"))
  process.stdout.write(
    `child     ${process.pid} found its parent in the environment; stored as ${Option.getOrNull(receipt.id)}\n`
  )
})

await Effect.runPromise(Effect.provide(program, Layers.layerClient()))

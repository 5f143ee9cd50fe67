/** The hook: sends its first argument to whatever endpoint started it. */
import { Effect } from "effect"
import { Layers, Message, Messaging } from "effect-messaging"

const parent = process.env["CLAUDE_CODE_MESSAGING_SOCKET"] ?? ""
const report = Messaging.Messaging.use((messaging) => messaging.send(parent, Message.text(process.argv[2] ?? "")))

await Effect.runPromise(Effect.provide(report, Layers.layerClient()))

import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layers from "../Layers.ts"
import { Peers } from "../Peers.ts"
import * as flags from "./flags.ts"
import { shown } from "./output.ts"
import { printLines, printText } from "./stdout.ts"

export const sweep = Command.make("sweep", { json: flags.json }, ({ json }) =>
  Effect.gen(function*() {
    const removed = yield* Effect.flatMap(Peers, (peers) => peers.sweep)
    if (json) return yield* printLines(removed.map((socketPath) => JSON.stringify({ event: "removed", socketPath })))
    if (removed.length === 0) return yield* printText("nothing to remove")
    for (const socketPath of removed) yield* printText(`removed uds:${shown(socketPath)}`)
  }).pipe(Effect.provide(Layers.layerClient()))).pipe(
    Command.withDescription("Remove what dead endpoints of this user have left, and say which"),
    Command.withExamples([
      { command: "effect-messaging sweep", description: "After a crash; what still answers is left alone" }
    ])
  )

import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layers from "../Layers.ts"
import { Peers } from "../Peers.ts"
import * as flags from "./flags.ts"
import { shown } from "./output.ts"
import { printLines } from "./stdout.ts"

export const sweep = Command.make("sweep", { json: flags.json }, ({ json }) =>
  Effect.gen(function*() {
    const removed = yield* Effect.flatMap(Peers, (peers) => peers.sweep)
    const lines = removed.map((socketPath) =>
      json ? JSON.stringify({ event: "removed", socketPath }) : `removed uds:${shown(socketPath)}`
    )
    yield* printLines(lines.length === 0 && !json ? ["nothing to remove"] : lines)
  }).pipe(Effect.provide(Layers.layerClient()))).pipe(
    Command.withDescription("Remove what dead endpoints of this user have left, and say which"),
    Command.withExamples([
      { command: "effect-messaging sweep", description: "After a crash; what still answers is left alone" }
    ])
  )

import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layers from "../Layers.ts"
import { Peers } from "../Peers.ts"
import * as flags from "./flags.ts"
import { describe, elastic, heading, plain, row } from "./peerRow.ts"
import { paint, printLines, Stdout, table } from "./stdout.ts"
import { watch } from "./watch.ts"

const list = Effect.fnUntraced(function*(json: boolean) {
  const live = yield* Effect.flatMap(Peers, (peers) => peers.list)
  const { columns, isTerminal } = yield* Stdout
  if (json || !isTerminal) {
    return yield* printLines(live.map((peer) => json ? JSON.stringify(plain(peer)) : describe(peer)))
  }
  if (live.length === 0) return yield* printLines(["nobody listens"])
  const colours = yield* paint
  const [first = "", ...others] = table(heading, live.map(row), { width: columns(), elastic })
  yield* printLines([colours("bold", first), ...others])
})

export const peers = Command.make("peers", {
  watch: Flag.Boolean("watch").pipe(
    Flag.withDescription("Go on, and tell who comes and goes; a table on a terminal, lines elsewhere"),
    Flag.withDefault(false)
  ),
  json: flags.json
}, ({ json, ...options }) => (options.watch ? watch(json) : list(json)).pipe(Effect.provide(Layers.layerClient())))
  .pipe(
    Command.withDescription("List the live endpoints of this user"),
    Command.withExamples([
      { command: "effect-messaging peers --json | jq -r .address", description: "Only the addresses" },
      {
        command: "effect-messaging peers --watch",
        description: "Who comes and goes, how far away they are, and what is in their inboxes"
      }
    ])
  )

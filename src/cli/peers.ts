import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Address from "../Address.ts"
import { remoteText } from "../internal/remoteText.ts"
import * as Layers from "../Layers.ts"
import { type Peer, Peers } from "../Peers.ts"
import * as flags from "./flags.ts"
import { printLines, shown } from "./output.ts"

const maxCellBytes = 80

/** The fields of a peer as plain values, null where the peer does not tell. */
const plain = (peer: Peer) => ({
  address: Address.format(peer),
  pid: Option.getOrNull(peer.pid),
  name: Option.getOrNull(peer.name),
  directory: Option.getOrNull(peer.cwd),
  protocol: peer.protocol,
  since: Option.getOrNull(Option.map(peer.startedAt, DateTime.formatIso))
})

const cell = (label: string, value: string | number | null) =>
  value === null ? "" : `  ${label} ${remoteText(String(value), maxCellBytes)}`

const describe = (peer: Peer): string => {
  const { address, directory, name, pid, protocol, since } = plain(peer)
  return shown(address) + cell("pid", pid) + cell("name", name) + cell("since", since) + cell("protocol", protocol) +
    cell("in", directory)
}

export const peers = Command.make("peers", { json: flags.json }, ({ json }) =>
  Effect.gen(function*() {
    const peers = yield* Peers
    const live = yield* peers.list
    yield* printLines(Stream.fromIterable(live.map((peer) => json ? JSON.stringify(plain(peer)) : describe(peer))))
  }).pipe(Effect.provide(Layers.layerClient()))).pipe(
    Command.withDescription("List the live endpoints of this user"),
    Command.withExamples([
      { command: "effect-messaging peers --json | jq -r .address", description: "Only the addresses" }
    ])
  )

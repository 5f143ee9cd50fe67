/** One peer as values, as a line and as a row of a table. */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Address from "../Address.ts"
import { remoteText } from "../internal/remoteText.ts"
import type { Peer } from "../Peers.ts"
import { shown } from "./output.ts"

const maxCellBytes = 80

/** The fields of a peer as plain values, null where the peer does not tell. */
export const plain = (peer: Peer) => ({
  address: Address.format(peer),
  pid: Option.getOrNull(peer.pid),
  name: Option.getOrNull(peer.name),
  directory: Option.getOrNull(peer.cwd),
  protocol: peer.protocol,
  since: Option.getOrNull(Option.map(peer.startedAt, DateTime.formatIso))
})

const text = (value: string | number | null) => value === null ? "" : remoteText(String(value), maxCellBytes)

const cell = (label: string, value: string | number | null) => value === null ? "" : `  ${label} ${text(value)}`

/** One line, whole, for programs that read lines. */
export const describe = (peer: Peer): string => {
  const { address, directory, name, pid, protocol, since } = plain(peer)
  return shown(address) + cell("pid", pid) + cell("name", name) + cell("since", since) + cell("protocol", protocol) +
    cell("in", directory)
}

export const heading = ["NAME", "PID", "SINCE", "DIRECTORY", "ADDRESS"] as const

/** What may be cut, since it still tells peers apart; a number that was cut would say something else. */
export const elastic = ["NAME", "DIRECTORY", "ADDRESS"]

/** One row, for people. */
export const row = (peer: Peer): ReadonlyArray<string> => {
  const { address, directory, name, pid, since } = plain(peer)
  return [text(name), text(pid), text(since?.replace(/\.\d+Z$/, "Z") ?? null), text(directory), shown(address)]
}

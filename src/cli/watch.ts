/**
 * Who comes and goes, as it happens: on a terminal a table that is drawn again with every change and every measurement
 * of the round trips, elsewhere a line for each arrival and departure. How full an inbox is, no peer tells.
 */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Limits } from "../Limits.ts"
import { Messaging } from "../Messaging.ts"
import { type Change, type Peer, Peers } from "../Peers.ts"
import { describe, heading, plain, row } from "./peerRow.ts"
import { millisecondsOf } from "./ping.ts"
import { paint, printLine, Stdout, table } from "./stdout.ts"

const verb = (change: Change) => change._tag === "Arrived" ? "arrived" : "departed"

/** Milliseconds to a peer and back, or null where there is no answer in time. */
const roundTrip = Effect.fnUntraced(function*(peer: Peer) {
  const messaging = yield* Messaging
  const limits = yield* Limits
  return yield* Effect.match(messaging.ping(peer, { timeout: limits.probeTimeout }), {
    onSuccess: (taken): number | null => millisecondsOf(taken),
    onFailure: () => null
  })
})

const lines = Effect.fnUntraced(function*(json: boolean) {
  const peers = yield* Peers
  yield* Stream.runForEach(
    peers.changes,
    Effect.fnUntraced(function*(change) {
      const milliseconds = change._tag === "Arrived" ? yield* roundTrip(change.peer) : null
      yield* printLine(
        json
          ? JSON.stringify({ event: verb(change), ...plain(change.peer), milliseconds })
          : `${verb(change)} ${describe(change.peer)}`
      )
    })
  )
})

interface Watched {
  readonly peer: Peer
  readonly milliseconds: number | null | undefined
}

/** A measurement that did not come is no number. */
const shownRoundTrip = ({ milliseconds }: Watched) =>
  milliseconds === undefined ? "" : milliseconds === null ? "none" : `${milliseconds.toFixed(1)} ms`

const live = Effect.gen(function*() {
  const peers = yield* Peers
  const limits = yield* Limits
  const stdout = yield* Stdout
  const colours = yield* paint
  // Written by the fiber of changes and by that of measurements, in synchronous steps.
  const known = new Map<string, Watched>()
  let last = ""
  let drawn = 0

  const draw = Effect.suspend(() => {
    const rows = [...known.values()].map((watched) => [shownRoundTrip(watched), ...row(watched.peer)])
    const [first = "", ...others] = table([["ROUND TRIP", ...heading], ...rows], stdout.columns())
    const room = Math.max(1, (process.stdout.rows || 24) - 3)
    const hidden = others.length - room
    const text = [
      colours("bold", first),
      ...others.slice(0, room),
      colours("dim", hidden > 0 ? `and ${hidden} more; ${last}` : last)
    ]
    const back = drawn === 0 ? "" : `\u001B[${drawn}A\r\u001B[J`
    drawn = text.length
    return stdout.write(`${back}${text.join("\n")}\n`)
  })

  const measure = (peer: Peer) =>
    Effect.map(roundTrip(peer), (milliseconds) => {
      // It may have gone meanwhile.
      if (known.has(peer.socketPath)) known.set(peer.socketPath, { peer, milliseconds })
    })

  const changed = Stream.runForEach(
    peers.changes,
    Effect.fnUntraced(function*(change) {
      const { peer } = change
      if (change._tag === "Departed") known.delete(peer.socketPath)
      else known.set(peer.socketPath, { peer, milliseconds: undefined })
      const { address, name } = plain(peer)
      last = `${name ?? address} ${verb(change)} at ${DateTime.formatIso(yield* DateTime.now).slice(11, 19)}`
      yield* draw
      if (change._tag === "Arrived") yield* Effect.andThen(measure(peer), draw)
    })
  )
  const measureAll = Effect.suspend(() =>
    Effect.forEach([...known.values()], ({ peer }) => measure(peer), { concurrency: 16, discard: true })
  )
  const measured = Effect.forever(
    Effect.sleep(limits.watchInterval).pipe(
      Effect.andThen(measureAll),
      Effect.andThen(draw)
    )
  )
  yield* draw
  yield* Effect.raceAllFirst([changed, measured])
})

export const watch = Effect.fnUntraced(function*(json: boolean) {
  const stdout = yield* Stdout
  const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
  const isLive = !json && stdout.isTerminal && canAnimate
  yield* Effect.raceFirst(isLive ? live : lines(json), stdout.closed)
})

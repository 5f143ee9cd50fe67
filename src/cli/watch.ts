/**
 * Who comes and goes, as it happens: on a terminal a table that is drawn again with every change and every measurement
 * of the round trips and inboxes, elsewhere a line for each arrival and departure.
 */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Size } from "../Inbox.ts"
import { Limits } from "../Limits.ts"
import { Messaging } from "../Messaging.ts"
import { type Change, type Peer, Peers } from "../Peers.ts"
import { shown } from "./output.ts"
import { describe, elastic, heading, plain, row } from "./peerRow.ts"
import { millisecondsOf, shownSize } from "./ping.ts"
import { paint, printLine, Stdout, table, truncateMiddle } from "./stdout.ts"

/** Between two measurements of all that the table shows. */
const measureInterval = "2 seconds"

const verb = (change: Change) => change._tag === "Arrived" ? "arrived" : "departed"

/** Milliseconds to a peer and back, and what is in its inbox; null where it does not tell, or not in time. */
interface Measured {
  readonly milliseconds: number | null
  readonly inbox: Size | null
}

const nothing: Measured = { milliseconds: null, inbox: null }

const measureOne = Effect.fnUntraced(function*(peer: Peer) {
  const messaging = yield* Messaging
  const limits = yield* Limits
  return yield* Effect.match(messaging.status(peer, { timeout: limits.probeTimeout }), {
    onSuccess: ({ inbox, roundTrip }): Measured => ({
      milliseconds: millisecondsOf(roundTrip),
      inbox: Option.getOrNull(inbox)
    }),
    onFailure: () => nothing
  })
})

const lines = Effect.fnUntraced(function*(json: boolean) {
  const peers = yield* Peers
  yield* Stream.runForEach(
    peers.changes,
    Effect.fnUntraced(function*(change) {
      const measured = change._tag === "Arrived" ? yield* measureOne(change.peer) : nothing
      yield* printLine(
        json
          ? JSON.stringify({ event: verb(change), ...plain(change.peer), ...measured })
          : `${verb(change)} ${describe(change.peer)}`
      )
    })
  )
})

interface Watched {
  readonly peer: Peer
  /** Not yet there for one that has just arrived. */
  readonly measured: Measured | undefined
}

/** A measurement that did not come is no number. */
const cells = ({ measured, peer }: Watched) => [
  measured === undefined ? "" : measured.milliseconds === null ? "none" : `${measured.milliseconds.toFixed(1)} ms`,
  measured?.inbox ? shownSize(measured.inbox) : "",
  ...row(peer)
]

const live = Effect.gen(function*() {
  const peers = yield* Peers
  const stdout = yield* Stdout
  const colours = yield* paint
  // Written by the fiber of changes and by that of measurements, in synchronous steps.
  const known = new Map<string, Watched>()
  let last = ""
  let drawn = 0

  const draw = Effect.suspend(() => {
    const rows = [...known.values()].map(cells)
    const [first = "", ...others] = table(
      ["ROUND TRIP", "INBOX", ...heading],
      rows,
      { width: stdout.columns(), elastic }
    )
    const room = Math.max(1, (process.stdout.rows || 24) - 3)
    const hidden = others.length - room
    const text = [
      colours("bold", first),
      ...others.slice(0, room),
      colours("dim", truncateMiddle(hidden > 0 ? `and ${hidden} more; ${last}` : last, stdout.columns()))
    ]
    const back = drawn === 0 ? "" : `\u001B[${drawn}A\r\u001B[J`
    drawn = text.length
    return stdout.write(`${back}${text.join("\n")}\n`)
  })

  const measure = (peer: Peer) =>
    Effect.map(measureOne(peer), (measured) => {
      // It may have gone meanwhile.
      if (known.has(peer.socketPath)) known.set(peer.socketPath, { peer, measured })
    })

  const changed = Stream.runForEach(
    peers.changes,
    Effect.fnUntraced(function*(change) {
      const { peer } = change
      if (change._tag === "Departed") known.delete(peer.socketPath)
      else known.set(peer.socketPath, { peer, measured: undefined })
      const { address, name } = plain(peer)
      last = `${shown(name ?? address)} ${verb(change)} at ${DateTime.formatIso(yield* DateTime.now).slice(11, 19)}`
      yield* draw
      if (change._tag === "Arrived") yield* Effect.andThen(measure(peer), draw)
    })
  )
  const measureAll = Effect.suspend(() =>
    Effect.forEach([...known.values()], ({ peer }) => measure(peer), { concurrency: 16, discard: true })
  )
  const measured = Effect.forever(
    Effect.sleep(measureInterval).pipe(
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

import * as Command from "effect/cli/Command"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Size } from "../Inbox.ts"
import * as Layers from "../Layers.ts"
import * as Messaging from "../Messaging.ts"
import * as flags from "./flags.ts"
import { shown, target } from "./output.ts"
import { printLine, printText } from "./stdout.ts"

/** With microseconds. */
export const millisecondsOf = (duration: Duration.Duration) => Number(Duration.toMillis(duration).toFixed(3))

/** What is in an inbox, for people: `12 messages, 3.4 kB`, or `nothing`. */
export const shownSize = ({ bytes, entries }: Size) =>
  entries === 0 ? "nothing" : `${entries} ${entries === 1 ? "message" : "messages"}, ${kilobytes(bytes)}`

const kilobytes = (bytes: number) => bytes < 1_000 ? `${bytes} B` : `${(bytes / 1_000).toFixed(1)} kB`

export const ping = Command.make(
  "ping",
  { to: flags.to, timeout: flags.timeout, json: flags.json },
  ({ json, timeout, to }) =>
    Effect.gen(function*() {
      const address = yield* target(to)
      const messaging = yield* Messaging.Messaging
      const { inbox, roundTrip } = yield* messaging.status(address, { timeout: Option.getOrUndefined(timeout) })
      const milliseconds = millisecondsOf(roundTrip)
      yield* (json ? printLine : printText)(
        json
          ? JSON.stringify({ event: "pong", to: address, milliseconds, inbox: Option.getOrNull(inbox) })
          : `pong from ${shown(address)} in ${milliseconds} ms` +
            Option.match(inbox, { onNone: () => "", onSome: (size) => `, ${shownSize(size)} in its inbox` })
      )
    }).pipe(Effect.provide(Layers.layerClient()))
).pipe(
  Command.withDescription("Measure the time to a peer and back, the connect included, and say what is in its inbox"),
  Command.withExamples([{ command: "effect-messaging ping", description: "Ask the parent of this process" }])
)

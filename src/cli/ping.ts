import * as Command from "effect/cli/Command"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Layers from "../Layers.ts"
import * as Messaging from "../Messaging.ts"
import * as flags from "./flags.ts"
import { shown, target } from "./output.ts"
import { printLine } from "./stdout.ts"

/** With microseconds. */
export const millisecondsOf = (duration: Duration.Duration) => Number(Duration.toMillis(duration).toFixed(3))

export const ping = Command.make(
  "ping",
  { to: flags.to, timeout: flags.timeout, json: flags.json },
  ({ json, timeout, to }) =>
    Effect.gen(function*() {
      const address = yield* target(to)
      const messaging = yield* Messaging.Messaging
      const milliseconds = millisecondsOf(
        yield* messaging.ping(address, { timeout: Option.getOrUndefined(timeout) })
      )
      yield* printLine(
        json
          ? JSON.stringify({ event: "pong", to: address, milliseconds })
          : `pong from ${shown(address)} in ${milliseconds} ms`
      )
    }).pipe(Effect.provide(Layers.layerClient()))
).pipe(
  Command.withDescription("Measure the time to a peer and back, the connect included"),
  Command.withExamples([{ command: "effect-messaging ping", description: "Ask the parent of this process" }])
)

import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Buffer, isUtf8 } from "node:buffer"
import * as Layers from "../Layers.ts"
import { Limits } from "../Limits.ts"
import * as Messaging from "../Messaging.ts"
import * as flags from "./flags.ts"
import { printLine, shown, target, WrongUsage } from "./output.ts"

/** At most one frame's worth, as UTF-8. */
const standardInput = Effect.gen(function*() {
  const { stdin } = yield* Stdio.Stdio
  const { maxFrameBytes } = yield* Limits
  let bytes = 0
  const chunks = yield* Stream.runCollect(Stream.tap(stdin, (chunk) => {
    bytes += chunk.length
    return bytes > maxFrameBytes
      ? Effect.fail(
        new WrongUsage({ problem: `standard input is longer than a message may be, ${maxFrameBytes} bytes` })
      )
      : Effect.void
  }))
  const input = Buffer.concat(chunks)
  return isUtf8(input) ? input.toString("utf8") : yield* new WrongUsage({ problem: "standard input is not UTF-8" })
})

export const send = Command.make("send", {
  to: flags.to,
  type: Flag.Literals("type", ["text", "notification", "query"]).pipe(
    Flag.withDescription("What the message is. Default: text"),
    Flag.withDefault("text")
  ),
  timeout: flags.timeout,
  json: flags.json,
  text: Argument.String("text").pipe(Argument.withDescription("The message, or - for standard input"))
}, ({ json, text, timeout, to, type }) =>
  Effect.gen(function*() {
    const address = yield* target(to)
    const data = text === "-" ? yield* standardInput : text
    const messaging = yield* Messaging.Messaging
    const receipt = yield* messaging.send(address, { type, data }, { timeout: Option.getOrUndefined(timeout) })
    const id = Option.getOrNull(receipt.id)
    yield* printLine(
      json
        ? JSON.stringify({ event: "stored", id, socketPath: receipt.socketPath })
        : `stored as ${shown(id ?? "(no id)")} by uds:${shown(receipt.socketPath)}`
    )
  }).pipe(Effect.provide(Layers.layerClient()))).pipe(
    Command.withDescription("Put a message in a peer's inbox, and print the receipt"),
    Command.withExamples([
      { command: "effect-messaging send \"build finished\"", description: "Tell the parent of this process" },
      {
        command: "git diff | effect-messaging send --to uds:/run/user/1000/x.sock -",
        description: "Send standard input"
      }
    ])
  )

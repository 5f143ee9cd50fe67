import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Address from "../Address.ts"
import { Host } from "../Host.ts"
import { type Entry, Inbox } from "../Inbox.ts"
import { remoteText } from "../internal/remoteText.ts"
import * as Layers from "../Layers.ts"
import { Messaging } from "../Messaging.ts"
import { runChild } from "./child.ts"
import * as flags from "./flags.ts"
import { printLines, shown } from "./output.ts"

/** What a terminal is shown of one message. */
const maxShownBytes = 4_096

const messageEvent = (entry: Entry) =>
  JSON.stringify({
    event: "message",
    id: entry.id,
    receivedAt: DateTime.formatIso(entry.receivedAt),
    sender: { address: entry.sender.address ?? null, verified: entry.sender.verified },
    message: entry.message
  })

const describe = ({ id, message, receivedAt, sender }: Entry) => {
  const from = sender.address === undefined ? "unknown" : remoteText(sender.address, 256)
  return `${DateTime.formatIso(receivedAt)} ${id} ${message.type} from ${from}: ` +
    remoteText(message.data ?? "", maxShownBytes)
}

const serve = Effect.fnUntraced(function*(json: boolean) {
  const host = yield* Host
  const inbox = yield* Inbox
  const { address } = yield* Messaging
  const { socketPath } = Option.getOrThrow(address)
  const listening = json
    ? JSON.stringify({ event: "listening", address: Address.format({ socketPath }), socketPath, pid: host.pid })
    : `listening at ${shown(Address.format({ socketPath }))}`
  yield* printLines(
    Stream.concat(Stream.succeed(listening), Stream.map(inbox.stream, json ? messageEvent : describe))
  )
})

export const listen = Command.make("listen", {
  socketPath: Flag.String("socket-path").pipe(
    Flag.withMetavar("PATH"),
    Flag.withDescription("Where to listen. Default: a new path in a directory of the user's own"),
    Flag.optional
  ),
  name: Flag.String("name").pipe(Flag.withDescription("Shown to people who list peers"), Flag.optional),
  json: flags.json,
  command: Argument.String("command").pipe(
    Argument.withDescription("After --: a command to run that finds this endpoint through the environment variable"),
    Argument.variadic()
  )
}, ({ command, json, name, socketPath }) =>
  Effect.gen(function*() {
    const [program, ...args] = command
    if (program === undefined) return yield* serve(json)
    // The child decides when the endpoint ends; a reader of the messages that goes away does not.
    yield* Effect.forkScoped(serve(json), { startImmediately: true })
    yield* runChild(program, args)
  }).pipe(
    Effect.scoped,
    Effect.provide(Layers.layer({
      socketPath: Option.getOrUndefined(socketPath),
      name: Option.getOrUndefined(name)
    }))
  )).pipe(
    Command.withDescription("Be an endpoint, and print each message that arrives"),
    Command.withExamples([
      { command: "effect-messaging listen --json", description: "One JSON object a line, for another program" },
      { command: "effect-messaging listen -- npm test", description: "Run a command that may report back" }
    ])
  )

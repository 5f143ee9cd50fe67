/**
 * Two agents that question each other, each a process of its own. They find each other by name. Before it answers, each
 * asks the other something back: an agent that waits for an answer must go on answering.
 *
 * Run it with `node --conditions=effect-messaging-source examples/agents.ts` from a checkout. Without arguments it starts
 * the agents `ada` and `grace`, and ends them when both have reported what they learned.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Option, Schema, Stream } from "effect"
import { Inbox, Layers, Message, Messaging, Peers } from "effect-messaging"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

/** A question came from somebody who has not proved the address it states. */
class UnknownAsker extends Schema.TaggedError<UnknownAsker>()("UnknownAsker", {}) {}

const say = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))

// An agent. The address of who started it is read before its own endpoint replaces it, for children of its own.

const starter = process.env["CLAUDE_CODE_MESSAGING_SOCKET"] ?? ""

const agent = Effect.fnUntraced(function*(own: string, other: string) {
  const { ask, send } = yield* Messaging.Messaging
  const inbox = yield* Inbox.Inbox
  const peers = yield* Peers.Peers

  const answer = Effect.fnUntraced(function*({ message, sender }: Inbox.Entry) {
    if (message.data === "who are you?") return own
    if (sender.address === undefined || !sender.verified) return yield* new UnknownAsker()
    const asker = yield* ask(sender.address, "who are you?")
    return `${own} is half way, ${asker}`
  })
  // One at a time would not do: both could wait for an answer that stands in the queue behind their own question.
  yield* Effect.forkScoped(inbox.consume(answer, { concurrency: 4 }))

  yield* peers.changes.pipe(
    Stream.filter(({ _tag, peer }) => _tag === "Arrived" && Option.contains(peer.name, other)),
    Stream.take(1),
    Stream.runDrain
  )
  yield* send(starter, Message.text(yield* ask(other, "how far are you?")))
  // Goes on answering until it is ended: the other may not have asked yet.
  return yield* Effect.never
}, Effect.scoped)

// The starter.

/** An agent as a process; ended with the scope, which waits for it to clean up. */
const start = (own: string, other: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), own, other], { stdio: "inherit" })
    ),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGTERM")
      })
  )

const bothAgents = Effect.gen(function*() {
  const inbox = yield* Inbox.Inbox
  yield* start("ada", "grace")
  yield* start("grace", "ada")
  for (const { message } of [yield* inbox.take, yield* inbox.take]) yield* say(`learned: ${message.data}`)
  yield* say("agents: both have asked, been asked back, and been answered")
}).pipe(Effect.scoped, Effect.timeout("30 seconds"))

const [own, other] = process.argv.slice(2)
if (own === undefined || other === undefined) {
  NodeRuntime.runMain(Effect.provide(bothAgents, Layers.layer({ name: "starter" })))
} else {
  const layer = Layers.layer({ name: own, limits: { watchInterval: "200 millis" } })
  NodeRuntime.runMain(Effect.provide(agent(own, other), layer))
}

/**
 * A supervisor with several workers that are faster than it is. Its inbox is small on purpose: a worker that finds it full
 * is told so, waits as long as the supervisor says, and tries again. Nothing is lost, and nothing grows.
 *
 * Run it with `node --conditions=effect-messaging-source examples/supervisor.ts` from a checkout.
 */
import { Deferred, Effect, Schema } from "effect"
import { Inbox, Layers, Message, Messaging } from "effect-messaging"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

class Failed extends Schema.TaggedError<Failed>()("Failed", { what: Schema.String }) {
  override get message() {
    return `failed: ${this.what}`
  }
}

const workers = 3
const resultsOfEach = 20
const maxInboxEntries = 4

const say = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))

// A worker: sends its results, eight at a time, and ends when the last is stored.

const work = Effect.fnUntraced(function*(worker: string) {
  const { send } = yield* Messaging.Messaging
  const supervisor = process.env["CLAUDE_CODE_MESSAGING_SOCKET"] ?? ""
  const results = Array.from({ length: resultsOfEach }, (_, n) => Message.text(`worker ${worker}, result ${n + 1}`))
  yield* Effect.forEach(
    results,
    (result) => send(supervisor, result, { retryWhenFull: true, timeout: "30 seconds" }),
    { concurrency: 8, discard: true }
  )
})

// The supervisor.

/** Runs a worker to its end. */
const runWorker = (worker: number) =>
  Effect.callback<void, Failed>((resume) => {
    const args = [...process.execArgv, fileURLToPath(import.meta.url), `${worker}`]
    const child = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] })
    child.once("exit", (code) => resume(code === 0 ? Effect.void : new Failed({ what: `worker ${worker}` })))
    return Effect.sync(() => child.kill())
  })

const supervise = Effect.gen(function*() {
  const inbox = yield* Inbox.Inbox
  const handled: Array<string> = []
  const finished = yield* Deferred.make<void>()
  let most = 0

  const handle = Effect.fnUntraced(function*({ message }: Inbox.Entry) {
    // What is being handled still has its place in the inbox.
    most = Math.max(most, (yield* inbox.size).entries)
    yield* Effect.sleep("5 millis")
    handled.push(message.data ?? "")
    if (handled.length === workers * resultsOfEach) yield* Deferred.succeed(finished, undefined)
  })
  yield* Effect.forkScoped(inbox.consume(handle, { concurrency: 2 }))

  yield* Effect.forEach(Array.from({ length: workers }, (_, n) => n + 1), runWorker, { concurrency: "unbounded" })
  yield* Deferred.await(finished)

  const distinct = new Set(handled).size
  if (distinct !== handled.length) return yield* new Failed({ what: "each result is handled once" })
  if (most > maxInboxEntries) return yield* new Failed({ what: "the inbox keeps its limit" })
  yield* say(`supervisor: ${workers} workers, ${distinct} results, each once, at most ${most} in the inbox`)
}).pipe(Effect.scoped, Effect.timeout("60 seconds"))

const [worker] = process.argv.slice(2)
if (worker === undefined) {
  const layer = Layers.layer({ name: "supervisor", limits: { maxInboxEntries, retryAfter: "10 millis" } })
  await Effect.runPromise(Effect.provide(supervise, layer))
} else {
  await Effect.runPromise(Effect.provide(work(worker), Layers.layerClient()))
}

/**
 * Every file and socket operation of a start, a release, a send, an ask and a service fails once, with each of six errnos,
 * over real files and sockets: the call ends well or with a typed error, nothing is left on disk or open, and what comes
 * next works.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer, Option, type Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import type { HostFacts } from "../../src/Host.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import * as Messaging from "../../src/Messaging.ts"
import type { MessagingError } from "../../src/MessagingError.ts"
import { Faults } from "../../src/testing/index.ts"
import { deadSocket } from "../utils/deadSocket.ts"
import { type Endpoint, endpointsOf, handling } from "../utils/endpoints.ts"
import { figure } from "../utils/figure.ts"
import { leftovers, openSince } from "../utils/leftovers.ts"
import { withTempHost } from "../utils/tempHost.ts"

const errnos = ["EACCES", "ENOSPC", "EROFS", "EMFILE", "EIO", "ENOENT"]

const endpoint = endpointsOf(Layers.layer)

const client = Effect.map(Layer.build(Layers.layerClient()), (services) => Context.get(services, Messaging.Messaging))

/** A call that has its own deadlines, far below this. */
const hang = "20 seconds"
const timeout = "5 seconds"

type Ended = Exit.Exit<Option.Option<unknown>, unknown>

const ends = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.exit(Effect.timeoutOption(effect, hang))

/** What is wrong with how a call ended: nothing, if it ended well or failed with one of its own errors. */
const problemsOf = (call: string, exit: Ended): ReadonlyArray<string> => {
  if (Exit.isSuccess(exit)) return Option.isSome(exit.value) ? [] : [`${call} hangs`]
  return exit.cause.reasons.flatMap((reason) =>
    Cause.isFailReason(reason) ? [] : [`${call} ends with a ${reason._tag}`]
  )
}

/** What is wrong with how a call ended that had no fault to meet. */
const mustSucceed = (call: string, exit: Ended): ReadonlyArray<string> =>
  Exit.isSuccess(exit)
    ? problemsOf(call, exit)
    : [`${call} fails: ${Cause.prettyErrors(exit.cause).map(({ message }) => message).join()}`]

/** Whether the error says that the message was not stored. */
const deniesStored = (exit: Ended): boolean =>
  Exit.isFailure(exit) && exit.cause.reasons.some((reason) => {
    const error = Cause.isFailReason(reason) ? reason.error : undefined
    return error instanceof Error && "reason" in error && !/may have been stored/.test(error.message)
  })

/** Answers with what went wrong. */
type Run = (
  host: HostFacts,
  faulty: Faults.Faulty
) => Effect.Effect<ReadonlyArray<string>, Layers.StartError, Scope.Scope>

/** Starts, at the path or a default one, and releases; then another endpoint does the same. `stays` was there before. */
const start = (
  host: HostFacts,
  faulty: Faults.Faulty,
  stays: ReadonlyArray<string>,
  socketPath?: string | undefined
) =>
  Effect.gen(function*() {
    const exit = yield* faulty(ends(Effect.scoped(endpoint({ name: "first", socketPath }))))
    const left = leftovers(host).filter((entry) => !stays.includes(entry))
    const next = yield* ends(
      Effect.scoped(Effect.flatMap(endpoint({ socketPath }), (own) => own.messaging.ping(own.socketPath)))
    )
    return [
      ...problemsOf("the start", exit),
      ...left.map((entry) => `the start leaves ${entry}`),
      ...mustSucceed("the next start", next)
    ]
  })

type Call = (
  messaging: Messaging.Messaging["Service"],
  to: Endpoint,
  text: string
) => Effect.Effect<unknown, MessagingError>

const send: Call = (messaging, { socketPath }, text) =>
  messaging.send(socketPath, Message.text(text), { timeout, until: "handled" })

const ask: Call = (messaging, { socketPath }, text) => messaging.ask(socketPath, text, { timeout })

/** An endpoint that answers, and what it has been told. */
const answering = Effect.gen(function*() {
  const bob = yield* endpoint()
  const handled: Array<string> = []
  yield* handling(bob, ({ message }) => Effect.sync(() => handled.push(message.data ?? "")).pipe(Effect.as("answer")))
  return { bob, handled }
})

/** A client calls an endpoint; then once more. */
const exchange = (faulty: Faults.Faulty, call: Call) =>
  Effect.gen(function*() {
    const { bob, handled } = yield* answering
    const alice = yield* client
    const exit = yield* faulty(ends(call(alice, bob, "first")))
    const problems = [...problemsOf("the call", exit)]
    const times = handled.filter((text) => text === "first").length
    if (times > 1) problems.push(`the message is handled ${times} times`)
    if (Exit.isSuccess(exit) && times === 0) problems.push("the message is lost")
    if (deniesStored(exit) && times > 0) problems.push("the error denies that the message was stored")
    // A client forgets a link that could not be made in the next turn of the event loop.
    yield* Effect.yieldNow
    yield* Effect.yieldNow
    return [...problems, ...mustSucceed("the next call", yield* ends(call(alice, bob, "next")))]
  })

/** An endpoint serves a message and a question, and is released; then another one does. */
const serve = (host: HostFacts, faulty: Faults.Faulty) =>
  Effect.gen(function*() {
    const alice = yield* client
    const first = yield* answering
    const calls = (bob: Endpoint) => Effect.andThen(Effect.exit(send(alice, bob, "text")), ask(alice, bob, "question"))
    const exit = yield* faulty(ends(Effect.ensuring(calls(first.bob), first.bob.close)))
    const left = leftovers(host)
    const next = yield* answering
    const again = yield* ends(Effect.ensuring(calls(next.bob), next.bob.close))
    return [
      ...problemsOf("the service", exit),
      ...left.map((entry) => `the service leaves ${entry}`),
      ...mustSucceed("the next service", again)
    ]
  })

const runs: Readonly<Record<string, Run>> = {
  "a start and release at a default path": (host, faulty) => start(host, faulty, []),
  "a start and release over a dead socket": Effect.fnUntraced(function*(host, faulty) {
    const directory = path.join(host.tmpdir, "own")
    const socketPath = path.join(directory, "messaging.sock")
    fs.mkdirSync(directory, { mode: 0o700 })
    yield* deadSocket(socketPath)
    const problems = yield* start(host, faulty, ["own", "own/messaging.sock"], socketPath)
    fs.rmdirSync(directory)
    return problems
  }),
  "a send, at both ends": (_, faulty) => exchange(faulty, send),
  "an ask, at both ends": (_, faulty) => exchange(faulty, ask),
  "a service and its release": serve
}

/** What each operation's failure led to that it must not, and how many operations there are. */
const explore = (run: Run, errno: string) =>
  Effect.gen(function*() {
    const faults = yield* Faults.Faults
    const findings: Array<string> = []
    const operations = yield* Faults.exhaust(errno, (faulty) =>
      withTempHost((host) =>
        Effect.gen(function*() {
          const opened = openSince(host)
          const problems = [...yield* Effect.scoped(run(host, faulty))]
          const failed = (yield* faults.log).find((operation) => operation.errno !== undefined)
          for (const entry of leftovers(host)) problems.push(`${entry} is left`)
          for (const target of yield* opened) problems.push(`${target} is open`)
          const where = `${failed?.number} ${failed?.name} ${failed?.path}`.replaceAll(host.tmpdir, "~")
          findings.push(...problems.map((problem) => `${where}: ${problem}`))
        })
      ).pipe(Effect.scoped))
    return { findings, operations }
  }).pipe(Effect.provide(Faults.layer))

describe("an operation that fails", () => {
  let failed = 0
  afterAll(() => figure(`an operation failed in ${failed} runs`))

  for (const [name, run] of Object.entries(runs)) {
    it.live.each(errnos)(`in ${name} with %s harms nothing, whichever it is`, (errno) =>
      Effect.gen(function*() {
        const { findings, operations } = yield* explore(run, errno)
        failed += operations
        assert.deepStrictEqual(findings, [])
        assert.isAbove(operations, 10)
      }))
  }
})

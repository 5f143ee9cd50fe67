/**
 * What a user does first, as a program that any runtime can run: a line for each step, `ok` or `fails` with the error.
 * `node check.ts child` is the child of the fourth step.
 */
import { Inbox, Layers, Message, Messaging, Peers } from "effect-messaging"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"

const expect = (what: string, given: unknown, expected: unknown) =>
  given === expected
    ? Effect.void
    : Effect.die(new Error(`${what} is ${JSON.stringify(given)}, not ${JSON.stringify(expected)}`))

let failed = false
const step = <E, R>(name: string, effect: Effect.Effect<unknown, E, R>) =>
  effect.pipe(
    Effect.timeout("20 seconds"),
    Effect.exit,
    Effect.map((exit) => {
      if (Exit.isFailure(exit)) failed = true
      const [line] = Exit.isFailure(exit) ? Cause.pretty(exit.cause).split("\n") : []
      process.stdout.write(line === undefined ? `ok ${name}\n` : `fails ${name}: ${line}\n`)
    })
  )

const report = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  yield* messaging.send(process.env["CLAUDE_CODE_MESSAGING_SOCKET"] ?? "", Message.text("from the child"))
})

/** Runs this file again; without the variable the child finds nobody. */
const child = Effect.callback<number | null>((resume) => {
  const args = [...process.execArgv, process.argv[1] ?? "", "child"]
  const started = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] })
  started.once("error", (error) => resume(Effect.die(error)))
  started.once("close", (code) => resume(Effect.succeed(code)))
  return Effect.sync(() => started.kill())
})

const parent = Effect.gen(function*() {
  const messaging = yield* Messaging.Messaging
  const inbox = yield* Inbox.Inbox
  const peers = yield* Peers.Peers
  const { socketPath } = yield* Effect.fromOption(messaging.address)
  yield* step("listen", expect("a socket at the path", fs.statSync(socketPath).isSocket(), true))
  yield* step(
    "send",
    Effect.gen(function*() {
      const receipt = yield* messaging.send(socketPath, Message.text("hello"))
      yield* expect("the id", Option.getOrUndefined(receipt.id), "uds-1")
      yield* expect("the message", (yield* inbox.take).message.data, "hello")
    })
  )
  yield* step("ping", Effect.map(messaging.ping(socketPath), Duration.toMillis))
  yield* step(
    "child",
    Effect.gen(function*() {
      yield* expect("the child's exit code", yield* child, 0)
      yield* expect("the message", (yield* inbox.take).message.data, "from the child")
    })
  )
  yield* step(
    "peers",
    Effect.gen(function*() {
      const listed = yield* peers.list
      yield* expect("a peer at the own path", listed.some((peer) => peer.socketPath === socketPath), true)
    })
  )
  yield* step(
    "ask",
    Effect.gen(function*() {
      yield* Effect.forkScoped(inbox.consume((entry) => Effect.succeed(`you said ${entry.message.data}`)))
      yield* expect("the answer", yield* messaging.ask("check", "how far?"), "you said how far?")
      const receipt = yield* messaging.send("check", Message.text("stop"), { until: "handled" })
      yield* expect("the receipt's path", receipt.socketPath, socketPath)
    }).pipe(Effect.scoped)
  )
  return socketPath
})

if (process.argv[2] === "child") {
  await Effect.runPromise(report.pipe(Effect.provide(Layers.layerClient())))
} else {
  const ended = await Effect.runPromiseExit(parent.pipe(Effect.provide(Layers.layer({ name: "check" }))))
  if (Exit.isFailure(ended)) {
    process.stdout.write(`fails start: ${Cause.pretty(ended.cause).split("\n")[0]}\n`)
    failed = true
  } else {
    const socketPath = ended.value
    const left = fs.existsSync(socketPath) || fs.existsSync(path.dirname(socketPath))
    await Effect.runPromise(step("release", expect("a file left behind", left, false)))
  }
  process.exitCode = failed ? 1 : 0
}

/**
 * The main job, with real processes and real sockets: a parent, a child that finds it through the environment, a
 * stranger that finds it by listing peers, and an impostor with a wrong token. Ends with a look at the disk.
 *
 * Run it with `npm run demo`. It exits with 1 if any step failed.
 */
import { Effect, Option, Schema } from "effect"
import { Inbox, Layers, Messaging } from "effect-messaging"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

class StepFailed extends Schema.TaggedError<StepFailed>()("StepFailed", { step: Schema.String }) {
  override get message() {
    return `failed: ${this.step}`
  }
}

const say = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))
const ensure = (step: string, holds: boolean) => holds ? Effect.void : Effect.fail(new StepFailed({ step }))

const helper = (name: string) => fileURLToPath(new URL(`./demo/${name}.ts`, import.meta.url))

/** Runs a program of the demo in a process of its own; it must end well. */
const run = (step: string, name: string, environment: NodeJS.ProcessEnv) =>
  Effect.callback<void, StepFailed>((resume) => {
    const child = spawn(process.execPath, [...process.execArgv, helper(name)], {
      stdio: ["ignore", "inherit", "inherit"],
      env: environment
    })
    child.once("exit", (code) => resume(code === 0 ? Effect.void : Effect.fail(new StepFailed({ step }))))
    return Effect.sync(() => child.kill())
  })

/** What a server says to somebody who does not know its token. */
const knock = (socketPath: string) =>
  Effect.callback<string>((resume) => {
    let answer = ""
    const socket = net.createConnection(socketPath)
    socket.on("data", (bytes) => answer += bytes)
    socket.once("close", () => resume(Effect.succeed(answer)))
    socket.write(`{"type":"text","data":"let me in","meta":{"authToken":"${"0".repeat(64)}"}}\n`)
  })

/** Every entry below a directory that is not a directory itself. */
const filesBelow = (directory: string) =>
  fs.readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory())

const endpoint = Effect.gen(function*() {
  const inbox = yield* Inbox.Inbox
  const { address } = yield* Messaging.Messaging
  const { socketPath } = yield* Effect.fromOption(address)
  yield* say(`parent    ${process.pid} listens; its token is in a file that only this user can read`)

  yield* run("the child reports", "child", process.env)
  const report = yield* inbox.take
  yield* say(`parent    got "${report.message.data}" (${report.id})`)
  yield* ensure("the child's report arrives", report.message.data === "tests passed")

  // A stranger has neither our environment nor our address: only the list of peers.
  const { CLAUDE_CODE_MESSAGING_SOCKET: _, ...elsewhere } = process.env
  yield* run("the stranger sends", "stranger", elsewhere)
  const greeting = yield* inbox.take
  yield* say(`parent    got "${greeting.message.data}" (${greeting.id})`)
  yield* ensure("the stranger's message arrives", greeting.message.data === "found you by listing peers")

  const refusal = yield* knock(socketPath)
  yield* say(`impostor  with a wrong token was told: ${JSON.parse(refusal).data}`)
  yield* ensure("a wrong token is refused", refusal.includes("\"unauthorized\""))
  yield* ensure("a refusal stores nothing", (yield* inbox.size).entries === 0)
})

const demo = Effect.gen(function*() {
  // A directory of the demo's own, so that it meets nobody else's endpoints and can look for leftovers.
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "demo-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true }))
  )
  for (const variable of ["CLAUDE_CONFIG_DIR", "TMPDIR"]) process.env[variable] = directory
  delete process.env["XDG_RUNTIME_DIR"]
  const before = process.env["CLAUDE_CODE_MESSAGING_SOCKET"]

  yield* Effect.provide(endpoint, Layers.layer({ name: "demo" }))

  const left = filesBelow(directory)
  yield* ensure(`nothing is left on disk, but there is ${left.map(({ name }) => name).join(", ")}`, left.length === 0)
  yield* ensure("the environment is as before", process.env["CLAUDE_CODE_MESSAGING_SOCKET"] === before)
  yield* say("parent    has ended; nothing is left on disk or in the environment")
  yield* say("demo: all steps passed")
})

const result = await Effect.runPromise(
  demo.pipe(
    Effect.scoped,
    Effect.timeout("30 seconds"),
    Effect.match({ onSuccess: () => Option.none<string>(), onFailure: (error) => Option.some(error.message) })
  )
)
if (Option.isSome(result)) {
  process.stderr.write(`demo: ${result.value}\n`)
  process.exitCode = 1
}

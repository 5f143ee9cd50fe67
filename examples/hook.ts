/**
 * A hook that reports to its parent. The parent listens; whatever it starts finds it through the environment variable
 * `CLAUDE_CODE_MESSAGING_SOCKET`, which an endpoint sets for its children: a program of ten lines (hook/report.ts), or a
 * script that calls the command line.
 *
 * Run it with `node --conditions=effect-messaging-source examples/hook.ts` from a checkout.
 */
import { Effect, Schema } from "effect"
import { Inbox, Layers } from "effect-messaging"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

class HookFailed extends Schema.TaggedError<HookFailed>()("HookFailed", { hook: Schema.String }) {
  override get message() {
    return `failed: ${this.hook}`
  }
}

const say = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** Runs a hook to its end. It inherits the environment, and needs to be told nothing else. */
const run = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.callback<void, HookFailed>((resume) => {
    const hook = spawn(process.execPath, [...process.execArgv, file, ...args], {
      stdio: ["ignore", "ignore", "inherit"]
    })
    hook.once("exit", (code) => resume(code === 0 ? Effect.void : Effect.fail(new HookFailed({ hook: file }))))
    return Effect.sync(() => hook.kill())
  })

const program = Effect.gen(function*() {
  const inbox = yield* Inbox.Inbox

  yield* run(here("hook/report.ts"), "tests passed")
  // Where the package is installed: `npx effect-messaging send --type notification "lint passed"`.
  yield* run(here("../src/cli/bin.ts"), "send", "--type", "notification", "lint passed")

  // A hook ends after its report has been stored, so both are here.
  const reports = yield* inbox.drain
  for (const { id, message } of reports) yield* say(`${id}  ${message.type}  ${message.data}`)
  yield* say(`hook: ${reports.length} hooks have reported`)
})

await Effect.runPromise(Effect.provide(program, Layers.layer({ name: "hook" })))

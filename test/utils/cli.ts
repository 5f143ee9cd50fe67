/**
 * The command line as real processes, with directories of their own. It is the bundle that is published: what users run.
 */
import { Context, Effect, Layer, Option } from "effect"
import { spawn } from "node:child_process"
import * as path from "node:path"
import { Host } from "../../src/Host.ts"
import * as Inbox from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import type * as Limits from "../../src/Limits.ts"
import * as Messaging from "../../src/Messaging.ts"
import { commandLine, root } from "./programs.ts"
import { contents, makeTempHost } from "./tempHost.ts"

export const bin = await commandLine()
export const variable = "CLAUDE_CODE_MESSAGING_SOCKET"

export interface Ended {
  readonly code: number | null
  readonly stdout: ReadonlyArray<string>
  readonly stderr: string
}

export interface Options {
  /** Standard input; `open` leaves it to the test. Default: empty. */
  readonly input?: string | Uint8Array | undefined
  /** The environment variable of the parent. */
  readonly parent?: string | undefined
  readonly environment?: Readonly<Record<string, string>> | undefined
  /** A script for the shell in which `"$0" "$@"` is the command line. Default: none, and no shell. */
  readonly script?: string | undefined
}

const commandOf = (args: ReadonlyArray<string>, { script }: Options): [string, ReadonlyArray<string>] =>
  script === undefined
    ? [process.execPath, [bin, ...args]]
    : ["/bin/sh", ["-c", script, process.execPath, bin, ...args]]

/** A command line in a process of its own, whose directories are all below `home`. Killed with the scope. */
export const start = Effect.fnUntraced(
  function*(home: string, args: ReadonlyArray<string>, options: Options = {}) {
    const { [variable]: _, XDG_RUNTIME_DIR: _1, ...inherited } = process.env
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(...commandOf(args, options), {
          cwd: root,
          env: {
            ...inherited,
            CLAUDE_CONFIG_DIR: home,
            TMPDIR: home,
            // Nothing that this user may not read, so that a missing command is missing and not forbidden.
            PATH: "/usr/local/bin:/usr/bin:/bin",
            NO_COLOR: "1",
            // Its place is below the user's own home, which is not the tests' to change.
            NODE_DISABLE_COMPILE_CACHE: "1",
            ...(options.parent === undefined ? {} : { [variable]: options.parent }),
            ...options.environment
          }
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const lines: Array<string> = []
    let partial = ""
    let stderr = ""
    // Whoever waits for a change, of whom there may be several.
    const waiting = new Set<() => void>()
    const wake = () => {
      const all = [...waiting]
      // First: whoever goes on may wait again at once.
      waiting.clear()
      for (const resume of all) resume()
    }
    let ended: Ended | undefined
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const parts = (partial + text).split("\n")
      partial = parts.pop() ?? ""
      lines.push(...parts)
      wake()
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
    child.once("close", (code) => {
      ended = { code, stdout: lines, stderr }
      wake()
    })
    // A command need not read it.
    child.stdin.on("error", () => {})
    if (options.input !== "open") child.stdin.end(options.input ?? "")
    const changed = Effect.callback<void>((resume) => {
      waiting.add(() => resume(Effect.void))
    })
    const line = (n: number): Effect.Effect<string> =>
      Effect.suspend(() => {
        const found = lines[n]
        if (found !== undefined) return Effect.succeed(found)
        if (ended !== undefined) return Effect.die(`ended with ${ended.code} before line ${n}: ${stderr}`)
        return Effect.andThen(changed, line(n))
      })
    const wait: Effect.Effect<Ended> = Effect.suspend(() =>
      ended === undefined ? Effect.andThen(changed, wait) : Effect.succeed(ended)
    )
    return { child, line, lines, stderr: () => stderr, wait }
  }
)

export const run = (
  home: string,
  args: ReadonlyArray<string>,
  options: Options = {}
) => Effect.scoped(Effect.flatMap(start(home, args, options), ({ wait }) => wait))

/** An endpoint as a process, ready when it has said so. */
export const listening = Effect.fnUntraced(function*(home: string, ...args: ReadonlyArray<string>) {
  const endpoint = yield* start(home, ["listen", "--json", ...args])
  return { ...endpoint, first: JSON.parse(yield* endpoint.line(0)) as Record<string, string> }
})

/** Everything but the directories that stay for the next endpoint. */
export const leftovers = (home: string) =>
  contents(home).filter((name) => !/^(messaging-capabilities|claude-code-socks-\d+)$/.test(name))

/** An endpoint in this process, and how a command line finds it. */
export const endpoint = Effect.fnUntraced(function*(limits?: Limits.Options) {
  const host = yield* makeTempHost
  const context = yield* Effect.provideService(Layer.build(Layers.layer({ limits })), Host, host)
  const { socketPath } = Option.getOrThrow(Context.get(context, Messaging.Messaging).address)
  const environment = { CLAUDE_CONFIG_DIR: path.join(host.homedir, ".claude") }
  return {
    socketPath,
    home: host.homedir,
    inbox: Context.get(context, Inbox.Inbox),
    run: (args: ReadonlyArray<string>, input: string | Uint8Array = "") =>
      run(host.homedir, args, {
        input,
        parent: socketPath,
        environment
      }),
    start: (args: ReadonlyArray<string>, options: Options = {}) =>
      start(host.homedir, args, { ...options, environment: { ...options.environment, ...environment } })
  }
})

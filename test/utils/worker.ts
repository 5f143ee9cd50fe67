/**
 * A process that does what it is told, one command after the other: `node:fs` and `node:net` at will, and an endpoint of
 * the library. See test/fixtures/worker.ts.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import type * as fs from "node:fs"
import { createInterface } from "node:readline"
import { fixture } from "./programs.ts"

export type Command =
  | { readonly do: "fs"; readonly name: keyof typeof fs; readonly args: ReadonlyArray<unknown> }
  | { readonly do: "umask"; readonly mask: number }
  | { readonly do: "listen"; readonly path: string; readonly answer: string }
  | { readonly do: "close" | "deadSocket" | "fifo"; readonly path: string }
  | { readonly do: "talk"; readonly path: string; readonly text: string }
  | { readonly do: "start"; readonly socketPath?: string | undefined }
  | { readonly do: "send"; readonly to: string; readonly text: string }
  | { readonly do: "stop" | "list" | "sweep" | "heard" }

/** How a command failed: an errno as `code`, or the fields of an error of the library. */
export type Failed = Readonly<Record<string, unknown>>

export interface Worker {
  readonly pid: number
  /** Answers as the process did. One command at a time. */
  readonly tell: (command: Command) => Effect.Effect<unknown, Failed>
  readonly kill: Effect.Effect<void>
}

export const workerFixture = await fixture("worker")

export interface WorkerOptions {
  /** What to run with the arguments `args` and the fixture. Default: Node. */
  readonly command?: string | undefined
  readonly args?: ReadonlyArray<string> | undefined
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
}

/** What a sweep has removed below `directory`. It looks into the machine's /tmp as well, where anything may be. */
export const sweptBelow = (directory: string, { tell }: Pick<Worker, "tell">) =>
  Effect.map(
    tell({ do: "sweep" }),
    (swept) => (swept as ReadonlyArray<string>).filter((socketPath) => socketPath.startsWith(`${directory}/`))
  )

/** Killed with the scope. */
export const worker = Effect.fnUntraced(function*({ args = [], command = process.execPath, cwd, env }: WorkerOptions) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(command, [...args, workerFixture], {
        cwd,
        stdio: ["pipe", "pipe", "inherit"],
        env: { ...env }
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  child.stdin.on("error", () => {})
  const tell: Worker["tell"] = (command) =>
    Effect.flatMap(
      Effect.promise(() => {
        child.stdin.write(`${JSON.stringify(command)}\n`)
        return lines.next()
      }),
      ({ done, value }) => {
        if (done === true) return Effect.die(`process ${child.pid} has ended`)
        const { failed, ok } = JSON.parse(value) as { readonly ok?: unknown; readonly failed?: Failed }
        return failed === undefined ? Effect.succeed(ok) : Effect.fail(failed)
      }
    )
  return {
    pid: child.pid ?? 0,
    tell,
    kill: Effect.callback<void>((resume) => {
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
  } satisfies Worker
})

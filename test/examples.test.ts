/** Every example runs to its end, as its own first comment says, and leaves nothing on disk. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { tempDirectory } from "./utils/tempHost.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

interface Ended {
  readonly code: number
  readonly lines: ReadonlyArray<string>
  readonly stderr: string
  /** What is left below the directories of the run, but directories. */
  readonly left: ReadonlyArray<string>
}

/** Runs an example in directories of its own. */
const run = Effect.fnUntraced(function*(example: string) {
  const directory = yield* tempDirectory
  const { CLAUDE_CODE_MESSAGING_SOCKET: _, XDG_RUNTIME_DIR: _1, ...inherited } = process.env
  const env = { ...inherited, CLAUDE_CONFIG_DIR: directory, TMPDIR: directory }
  const args = ["--conditions=effect-messaging-source", `examples/${example}.ts`]
  const ended = yield* Effect.callback<Omit<Ended, "left">>((resume) => {
    const child = execFile(process.execPath, args, { cwd: root, env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1
      resume(Effect.succeed({ code, lines: stdout.trimEnd().split("\n"), stderr }))
    })
    return Effect.sync(() => child.kill())
  })
  const left = fs.readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name)
  return { ...ended, left } satisfies Ended
})

/** The example ended well and left nothing; these are its lines. */
const linesOf = (example: string) =>
  Effect.map(run(example), ({ lines, ...rest }) => {
    assert.deepStrictEqual(rest, { code: 0, stderr: "", left: [] })
    return lines
  })

describe("examples", () => {
  it.live("hook: both hooks reach their parent, in the order in which they ran", () =>
    Effect.map(linesOf("hook"), (lines) =>
      assert.deepStrictEqual(lines, [
        "uds-1  text  tests passed",
        "uds-2  notification  lint passed",
        "hook: 2 hooks have reported"
      ])))

  it.live("agents: each has learned from the other, which asked back before it answered", () =>
    Effect.map(linesOf("agents"), (lines) => {
      const [last, ...learned] = lines.toReversed()
      assert.deepStrictEqual(learned.sort(), ["learned: ada is half way, grace", "learned: grace is half way, ada"])
      assert.strictEqual(last, "agents: both have asked, been asked back, and been answered")
    }))

  it.live("supervisor: every result of every worker is handled once, and the inbox keeps its limit", () =>
    Effect.map(linesOf("supervisor"), (lines) =>
      assert.deepStrictEqual(lines, [
        "supervisor: 3 workers, 60 results, each once, at most 4 in the inbox"
      ])))

  it.live("clock: all checks pass", () =>
    Effect.map(linesOf("clock"), (lines) =>
      assert.deepStrictEqual(lines, [
        "ok: an answer in the last minute counts",
        "ok: it still waits after 59 minutes",
        "ok: an hour of silence is a no",
        "clock: all checks passed"
      ])))

  it.live("metrics: what one question cost, as Prometheus text", () =>
    Effect.map(linesOf("metrics"), (lines) => {
      assert.include(lines, "# TYPE effect_messaging_messages_accepted counter")
      assert.include(lines, "effect_messaging_messages_accepted 1")
      for (const line of lines) assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? [\d.e+-]+|)$/)
    }))

  it("each has a test here or under its own name, and is one page", () => {
    const found = fs.readdirSync(path.join(root, "examples")).filter((name) => name.endsWith(".ts")).sort()
    const here = ["agents.ts", "clock.ts", "hook.ts", "metrics.ts", "supervisor.ts"]
    const elsewhere = ["demo.ts", "testing.ts"]
    assert.deepStrictEqual(found, [...here, ...elsewhere].sort())
    for (const name of here) {
      const lines = fs.readFileSync(path.join(root, "examples", name), "utf8").split("\n").length
      assert.isBelow(lines, 100, name)
    }
  })
})

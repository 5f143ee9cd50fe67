/** The documents and the code say the same: tables of README.md against what they list, and its examples as programs. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { requiredNode } from "../src/internal/nodeVersion.ts"
import * as Limits from "../src/Limits.ts"
import { MessagingError } from "../src/MessagingError.ts"
import { contents, tempDirectory } from "./utils/tempHost.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const read = (file: string) => fs.readFileSync(path.join(root, file), "utf8")
const readme = read("README.md")

/** The text below a heading, up to the next one of its level or above. */
const section = (heading: string): string => {
  const [marks = ""] = heading.split(" ", 1)
  const [, after = ""] = `\n${readme}`.split(`\n${heading}\n`)
  return after.split(new RegExp(`^#{1,${marks.length}} `, "m"), 1)[0] ?? ""
}

/** The cells of the table rows in a text that begin with a name in backticks. */
const rows = (text: string): ReadonlyArray<ReadonlyArray<string>> =>
  text.split("\n").filter((line) => line.startsWith("| `")).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  )

const names = (cell = ""): ReadonlyArray<string> => [...cell.matchAll(/`(\w+)`/g)].map(([, name = ""]) => name)

const examples = (text: string, language: string): ReadonlyArray<string> =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, "g"))].map(([, code = ""]) => code)

const shown = (value: number | Duration.Duration): string => {
  if (!Duration.isDuration(value)) return value.toLocaleString("en-US")
  const millis = Duration.toMillis(value)
  if (millis < 1_000) return `${millis} ms`
  return millis < 60_000 ? `${millis / 1_000} s` : `${millis / 60_000} minutes`
}

describe("README.md", () => {
  const limits = rows(section("## Limits"))

  it("has a row for each limit, and no others", () => {
    assert.deepStrictEqual(limits.flatMap(([cell]) => names(cell)).sort(), Object.keys(Limits.defaults).sort())
  })

  it.each(Object.entries(Limits.defaults))("gives the default of %s", (name, value) => {
    const [, given = ""] = limits.find(([cell]) => cell === `\`${name}\``) ?? []
    assert.match(given, new RegExp(`^${shown(value)}(?!\\d|[.,]\\d)`))
  })

  it("has a row for each reason of a MessagingError, and no others", () => {
    const reasons = MessagingError.fields.reason.members.map(({ identifier }) => identifier)
    assert.deepStrictEqual(rows(section("## Errors")).flatMap(([cell]) => names(cell)).sort(), reasons.sort())
  })

  it("has a row for each metric, and no others", () => {
    const source = read("src/internal/metrics.ts")
    const made = [...source.matchAll(/ (?:counter|gauge)\("(\w+)"|"effect_messaging_(\w+)"/g)]
    const told = rows(section("## Observing")).filter(([cell]) => !cell?.includes("."))
    assert.deepStrictEqual(
      told.flatMap(([cell]) => names(cell).slice(0, 1)).sort(),
      made.map(([, name, full]) => name ?? full ?? "").sort()
    )
  })

  it("names each span", () => {
    const made = [
      ...`${read("src/Messaging.ts")}${read("src/internal/consumer.ts")}`.matchAll(/"((?:Messaging|Inbox)\.[a-z]+)"/g)
    ]
    const spans = made.map(([, name = ""]) => name)
    assert.isAtLeast(spans.length, 4)
    for (const name of spans) assert.include(section("## Observing"), `\`${name}\``)
  })

  it.each([...readme.matchAll(/\]\((?!http)([^)#]+)\)/g)].map(([, file = ""]) => file))("links to %s", (file) => {
    assert.isTrue(fs.existsSync(path.join(root, file)))
  })
})

describe("CHANGELOG.md", () => {
  it("begins with what is not released yet", () => {
    const first = read("CHANGELOG.md").split("\n").find((line) => line.startsWith("## "))
    assert.strictEqual(first, "## Unreleased")
  })
})

describe(".github/workflows/ci.yml", () => {
  const workflow = read(".github/workflows/ci.yml")

  it("pins each action to a commit, with its version beside it", () => {
    const uses = workflow.split("\n").filter((line) => line.includes("uses:"))
    assert.isAtLeast(uses.length, 2)
    for (const line of uses) assert.match(line, /uses: [\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
  })

  it("may only read", () => {
    const permissions = [...workflow.matchAll(/permissions:\n((?: +.+\n)+)/g)].map(([, given]) => given)
    assert.deepStrictEqual(permissions, ["  contents: read\n"])
  })

  it("runs .ci/run on the lowest Node that is supported", () => {
    assert.include(workflow, "run: bash .ci/run\n")
    assert.include(workflow, `node: ["${requiredNode}", `)
    const { engines } = JSON.parse(read("package.json")) as { readonly engines: { readonly node: string } }
    assert.strictEqual(`${engines.node}.0`, `>=${requiredNode}`)
  })
})

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const run = (command: string, args: ReadonlyArray<string>, cwd: string) =>
  Effect.callback<Ended>((resume) => {
    const child = spawn(command, args, {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: `${cwd}:/usr/local/bin:/usr/bin:/bin`, HOME: cwd, TMPDIR: cwd, NO_COLOR: "1" }
    })
    let [stdout, stderr] = ["", ""]
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
    child.once("close", (code) => resume(Effect.succeed({ code, stdout, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Everything but the directories that stay for the next endpoint. */
const leftovers = (home: string) =>
  contents(home).filter((name) => !/^(\.claude|\.claude\/messaging-capabilities|claude-code-socks-\d+)$/.test(name))

/** A project that has nothing but the library. */
const project = Effect.map(tempDirectory, (directory) => {
  const home = path.join(directory, "home")
  fs.mkdirSync(path.join(directory, "node_modules"))
  fs.mkdirSync(home, { mode: 0o700 })
  fs.symlinkSync(root, path.join(directory, "node_modules", "effect-messaging"))
  for (const name of ["effect", "@effect"]) {
    fs.symlinkSync(path.join(root, "node_modules", name), path.join(directory, "node_modules", name))
  }
  return { directory, home }
})

const whole = examples(readme, "ts")

describe("an example of README.md", () => {
  it("is there for each way of use", () => {
    assert.strictEqual(whole.length, 2)
    assert.strictEqual(examples(section("### From a shell"), "sh").length, 1)
  })

  it.live.each([
    { what: "the shortest program", code: whole[0] ?? "", prints: "uds-1: hello\n" },
    { what: "a question and a receipt", code: whole[1] ?? "", prints: "you said how far are you?\n" }
  ])("runs as it stands: $what", ({ code, prints }) =>
    Effect.gen(function*() {
      const { directory, home } = yield* project
      const file = path.join(directory, "example.mts")
      fs.writeFileSync(file, code)
      const ended = yield* run(process.execPath, ["--conditions=effect-messaging-source", file], home)
      assert.deepStrictEqual(ended, { code: 0, stdout: prints, stderr: "" })
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live("runs as it stands: the shell command", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const command = path.join(home, "effect-messaging")
      fs.writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${path.join(root, "src/cli/bin.ts")}' "$@"\n`)
      fs.chmodSync(command, 0o755)
      const [code = ""] = examples(section("### From a shell"), "sh")
      const ended = yield* run("/bin/sh", ["-c", code], home)
      assert.deepStrictEqual([ended.code, ended.stderr], [0, ""])
      const lines = ended.stdout.trimEnd().split("\n")
      assert.isTrue(lines.some((line) => line.endsWith(" uds-1 text from unknown: tests passed")), ended.stdout)
      assert.isTrue(lines.some((line) => line.startsWith("stored as uds-1 by uds:")), ended.stdout)
      assert.deepStrictEqual(leftovers(home), ["effect-messaging"])
    }))
})

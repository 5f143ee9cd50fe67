import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { bin, listening, run, variable } from "../utils/cli.ts"
import { arena, itWithUsers, runCli, uids } from "../utils/otherUser.ts"
import { contents, tempDirectory } from "../utils/tempHost.ts"

interface Finding {
  readonly check: string
  readonly ok: boolean
  readonly problem: string | null
  readonly text: string
  readonly remedy: string | null
}

const findings = (stdout: ReadonlyArray<string>) => stdout.map((line): Finding => JSON.parse(line))

const faults = (all: ReadonlyArray<Finding>) => all.filter(({ ok }) => !ok)

const checks = [
  "node",
  "directories",
  "path length",
  "variable",
  "capability",
  "round trip",
  "stale endpoints",
  "peers"
]

const doctor = (home: string, parent?: string) =>
  Effect.map(run(home, ["doctor", "--json"], { parent }), (ended) => {
    const all = findings(ended.stdout)
    assert.deepStrictEqual([...new Set(all.map(({ check }) => check))], checks)
    const { length } = faults(all)
    const told = length === 1 ? "one fault" : `${length} faults`
    assert.deepStrictEqual(
      [ended.code, ended.stderr],
      length === 0 ? [0, ""] : [1, `effect-messaging: ${told}, told with the command that mends each\n`]
    )
    return all
  })

/** The commands that remedies use, as root runs them. */
const commands = (home: string) => {
  const directory = path.join(home, "bin")
  fs.mkdirSync(directory)
  fs.writeFileSync(path.join(directory, "sudo"), "#!/bin/sh\nexec \"$@\"\n", { mode: 0o755 })
  const line = `#!/bin/sh\nexec "${process.execPath}" "${bin}" "$@"\n`
  fs.writeFileSync(path.join(directory, "effect-messaging"), line, { mode: 0o755 })
  return directory
}

/** Runs what the doctor said, and asks again in the same shell: nothing is wrong any more. */
const mended = Effect.fnUntraced(function*(home: string, told: ReadonlyArray<Finding>, parent?: string) {
  const remedies = [...new Set(told.map(({ remedy }) => remedy))].join("\n")
  const script = `PATH="${commands(home)}:$PATH"\n{ ${remedies}\n} > /dev/null\n"$0" "$@"`
  const ended = yield* run(home, ["doctor", "--json"], { parent, script })
  assert.deepStrictEqual(faults(findings(ended.stdout)), [], `after ${remedies}: ${ended.stderr}`)
  assert.strictEqual(ended.code, 0)
})

const told = (all: ReadonlyArray<Finding>) => faults(all).map(({ check, problem }) => `${check}: ${problem}`)

const capabilityOf = (home: string) => {
  const file = contents(home).find((name) => name.endsWith(".json")) ?? ""
  return path.join(home, file)
}

const owned = process.getuid?.() === 0 ? it.live : it.live.skip
const reason = process.getuid?.() === 0 ? "" : " (skipped: only root can give files away)"

describe("doctor", () => {
  it.live("finds nothing wrong where nothing is, and leaves nothing", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      assert.deepStrictEqual(told(yield* doctor(home)), [])
      assert.deepStrictEqual(contents(home).filter((name) => /json|sock$/.test(name)), [])
      const plain = yield* run(home, ["doctor"])
      assert.strictEqual(plain.code, 0)
      assert.match(plain.stdout[0] ?? "", /^ok {5}node: Node \d/)
    }))

  it.live("finds nothing wrong with a parent that listens", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { first } = yield* listening(home)
      const all = yield* doctor(home, first["socketPath"])
      assert.deepStrictEqual(told(all), [])
      const texts = all.map(({ text }) => text).join("\n")
      assert.include(texts, `a parent listens at ${first["socketPath"]}`)
      assert.include(texts, `${first["socketPath"]} answers in`)
    }))

  it.live("tells a parent that is missing", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const parent = path.join(home, "x.sock")
      const all = yield* doctor(home, parent)
      assert.deepStrictEqual(told(all), ["variable: missing", "capability: missing"])
      yield* mended(home, faults(all), parent)
    }))

  it.live("tells a parent that is stale", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const dead = yield* listening(home)
      dead.child.kill("SIGKILL")
      yield* dead.wait
      const all = yield* doctor(home, dead.first["socketPath"])
      assert.deepStrictEqual(told(all), ["variable: stale", "stale endpoints: stale"])
      yield* mended(home, faults(all), dead.first["socketPath"])
    }))

  it.live("tells a path that is too long", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const all = yield* doctor(home, `/${"x".repeat(200)}`)
      assert.deepStrictEqual(told(all), ["variable: too long"])
      yield* mended(home, faults(all), `/${"x".repeat(200)}`)
    }))

  it.live("tells an address that is none, and a parent that is no socket", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      assert.deepStrictEqual(told(yield* doctor(home, "relative")), ["variable: not usable"])
      const file = path.join(home, "file")
      fs.writeFileSync(file, "")
      assert.deepStrictEqual(told(yield* doctor(home, file)), ["variable: not usable", "capability: missing"])
    }))

  it.live("tells directories that are too broad, the parent's as well", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { first } = yield* listening(home)
      const base = path.dirname(path.dirname(first["socketPath"] ?? ""))
      const capabilities = path.dirname(capabilityOf(home))
      for (const directory of [base, capabilities]) fs.chmodSync(directory, 0o770)
      const all = yield* doctor(home, first["socketPath"])
      assert.deepStrictEqual(told(all), [
        "directories: too broad",
        "directories: too broad",
        "variable: too broad",
        "capability: too broad",
        "round trip: too broad"
      ])
      yield* mended(home, faults(all), first["socketPath"])
    }))

  it.live("tells a capability file that is too broad, and one that is none", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      yield* listening(home)
      const file = capabilityOf(home)
      fs.chmodSync(file, 0o644)
      fs.writeFileSync(path.join(path.dirname(file), `${"0".repeat(64)}.json`), "{}", { mode: 0o600 })
      const all = yield* doctor(home)
      assert.deepStrictEqual(told(all), ["capability: not usable", "capability: too broad"].sort())
      yield* mended(home, faults(all))
    }))

  it.live("tells a peer that refuses the token of its capability file", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      yield* listening(home)
      const file = capabilityOf(home)
      const text = fs.readFileSync(file, "utf8").replace(
        /"authToken":"[0-9a-f]{64}"/,
        `"authToken":"${"0".repeat(64)}"`
      )
      fs.writeFileSync(file, text)
      const all = yield* doctor(home)
      assert.deepStrictEqual(told(all), ["peers: refused"])
      assert.notInclude(JSON.stringify(all), "0".repeat(64))
    }))

  owned(`tells what belongs to another user: a directory${reason}`, () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const base = path.join(home, "claude-code-socks-0")
      fs.mkdirSync(base, { mode: 0o700 })
      fs.chownSync(base, uids.stranger, uids.stranger)
      const all = yield* doctor(home)
      assert.deepStrictEqual(told(all), ["directories: foreign owner", "round trip: foreign owner"])
      yield* mended(home, faults(all))
    }))

  owned(`tells what belongs to another user: a capability file${reason}`, () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      yield* listening(home)
      fs.chownSync(capabilityOf(home), uids.stranger, uids.stranger)
      const all = yield* doctor(home)
      assert.deepStrictEqual(told(all), ["capability: foreign owner"])
      yield* mended(home, faults(all))
    }))

  owned(`tells what belongs to another user: the parent's socket${reason}`, () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { first } = yield* listening(home)
      fs.chownSync(first["socketPath"] ?? "", uids.stranger, uids.stranger)
      const all = yield* doctor(home, first["socketPath"])
      assert.deepStrictEqual(told(all), ["variable: foreign owner"])
      yield* mended(home, faults(all), first["socketPath"])
    }))

  itWithUsers(
    "tells what is not permitted: a directory it may not write to, a parent it may not see",
    () =>
      Effect.gen(function*() {
        const place = yield* arena
        const home = path.join(place.root, `home-${uids.victim}`)
        place.directory(home, 0o700, uids.victim)
        const closed = place.directory("closed", 0o755)
        const hidden = place.directory("hidden", 0o700)
        const environment = { TMPDIR: closed, [variable]: path.join(hidden, "x.sock") }
        const ended = yield* runCli(place, uids.victim, ["doctor", "--json"], environment)
        const all = findings(ended.stdout.trim().split("\n"))
        assert.deepStrictEqual([ended.code, told(all)], [1, [
          "directories: not permitted",
          "variable: not permitted",
          "capability: missing",
          "round trip: not permitted"
        ]])
        const remedies = faults(all).map(({ remedy }) => remedy ?? "")
        const make = `sudo install -d -m 700 -o ${uids.victim} ${path.join(closed, `claude-code-socks-${uids.victim}`)}`
        assert.deepStrictEqual([...new Set(remedies)], [make, `unset ${variable}`])
        // The first as root does it; the second by leaving the variable out.
        assert.strictEqual(spawnSync("sh", ["-c", make.replace("sudo ", "")]).status, 0)
        const after = yield* runCli(place, uids.victim, ["doctor", "--json"], { TMPDIR: closed })
        assert.deepStrictEqual([after.code, told(findings(after.stdout.trim().split("\n")))], [0, []])
      })
  )
})

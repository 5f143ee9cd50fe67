import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import { endpoint, leftovers, listening, run, start } from "../utils/cli.ts"
import { tempDirectory } from "../utils/tempHost.ts"

const json = (line: string | undefined): Record<string, unknown> => JSON.parse(line ?? "null")

const numbered = (count: number) => Array.from({ length: count }, (_, n) => `line ${n}`)

describe("ask", () => {
  it.live("prints the answer of the peer's handler, to a name, an address and the parent", () =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint()
      yield* Effect.forkScoped(inbox.consume(({ message }) => Effect.succeed(`${message.data}!\nand more`)))
      const asked = yield* run(["ask", "how far?"])
      assert.deepStrictEqual(asked, { code: 0, stdout: ["how far?!", "and more"], stderr: "" })
      const piped = yield* run(["ask", "--json", "-"], "from a\npipe")
      assert.deepInclude(json(piped.stdout[0]), { event: "reply", data: "from a\npipe!\nand more" })
    }))

  it.live("ends with 1 when the handler fails", () =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint()
      yield* Effect.forkScoped(inbox.consume(() => Effect.fail("no")))
      const asked = yield* run(["ask", "how far?"])
      assert.deepStrictEqual([asked.code, asked.stdout], [1, []])
      assert.match(asked.stderr, /^effect-messaging: [^\n]*its handler failed\n$/)
    }))
})

describe("send", () => {
  it.live("--until handled waits for the peer's handler", () =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint()
      const seen: Array<string | undefined> = []
      yield* Effect.forkScoped(inbox.consume(({ message }) => Effect.sync(() => void seen.push(message.data))))
      const sent = yield* run(["send", "--until", "handled", "--json", "done"])
      assert.deepInclude(json(sent.stdout[0]), { event: "handled", id: "uds-1" })
      assert.deepStrictEqual(seen, ["done"])
    }))

  it.live("--until handled fails when nobody handles it in time", () =>
    Effect.gen(function*() {
      const { run } = yield* endpoint()
      const sent = yield* run(["send", "--until", "handled", "--timeout", "100ms", "done"])
      assert.strictEqual(sent.code, 1)
      assert.include(sent.stderr, "no answer from")
    }))

  it.live("--lines sends each line in order, and prints a summary", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const receiver = yield* listening(home, "--name", "build")
      const lines = [...numbered(5_000), "", "with\ttab", "grüße"]
      // The last line lacks its end, and some have that of other systems.
      const input = `${lines.slice(0, 2_500).join("\r\n")}\r\n${lines.slice(2_500).join("\n")}`
      const sent = yield* run(home, ["send", "--to", "build", "--lines", "--json"], { input })
      assert.deepStrictEqual([sent.code, sent.stderr], [0, ""])
      assert.deepInclude(json(sent.stdout[0]), {
        event: "summary",
        until: "handled",
        lines: lines.length,
        refused: 0,
        misplaced: 0
      })
      // Handled means printed.
      yield* receiver.line(lines.length)
      assert.deepStrictEqual(
        receiver.lines.slice(1).map((line) => (json(line)["message"] as { data: string }).data),
        lines
      )
    }))

  it.live("--lines sends a line as soon as it is there", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const receiver = yield* listening(home)
      const sender = yield* start(home, ["send", "--lines"], { input: "open", parent: receiver.first["socketPath"] })
      sender.child.stdin.write("first\nsec")
      assert.include(yield* receiver.line(1), "first")
      sender.child.stdin.end("ond\n")
      assert.include(yield* receiver.line(2), "second")
      const ended = yield* sender.wait
      assert.match(ended.stdout[0] ?? "", /^handled 2 lines \(13 bytes\) in /)
    }))

  it.live("--lines --until stored waits for a full inbox, loses and repeats nothing, and says what is out of order", () =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint({ maxInboxEntries: 10, retryAfter: "1 millis" })
      const seen: Array<string | undefined> = []
      yield* Effect.forkScoped(
        Effect.forever(Effect.flatMap(inbox.take, ({ message }) => Effect.sync(() => void seen.push(message.data))))
      )
      // A window is more than the receiver reads at once, and it makes room in between.
      const lines = numbered(1_000).map((line) => `${line} ${"x".repeat(1_000)}`)
      const sent = yield* run(["send", "--lines", "--until", "stored", "--json"], lines.join("\n"))
      assert.strictEqual(sent.code, 0, sent.stderr)
      const summary = json(sent.stdout[0])
      assert.strictEqual(summary["lines"], lines.length)
      assert.isAbove(summary["refused"] as number, 0)
      assert.deepStrictEqual([...seen].sort(), [...lines].sort())
      // In order, or as much out of it as is told: a line is behind when one that follows it is before it.
      const place = new Map(seen.map((line, at) => [line, at]))
      let last = -1
      let misplaced = 0
      for (const line of lines) {
        const at = place.get(line) ?? Number.NaN
        if (at < last) misplaced++
        else last = at
      }
      assert.isAbove(misplaced, 0)
      assert.strictEqual(summary["misplaced"], misplaced)
    }))

  it.live("--lines gives up on an inbox that stays full, and says at which line", () =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint({ maxInboxEntries: 3, retryAfter: "10 millis" })
      const sent = yield* run(
        ["send", "--lines", "--until", "stored", "--timeout", "3s", "--json"],
        "1\n2\n3\n4\n5\n"
      )
      assert.strictEqual(sent.code, 1)
      assert.deepInclude(json(sent.stdout[0]), { lines: 3, refused: 1 })
      assert.match(sent.stderr, /^effect-messaging: line 4 was not stored: the inbox of [^\n]* is full[^\n]*\n$/)
      assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), ["1", "2", "3"])
    }))

  it.live.each([
    { name: "is too long", bad: "x".repeat(65_537), says: "line 3 is longer than a message may be, 65536 bytes" },
    { name: "is not UTF-8", bad: Buffer.from([0xff]), says: "line 3 is not UTF-8" }
  ])("--lines stops before a line that $name, after those before it", ({ bad, says }) =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint()
      const input = Buffer.concat([Buffer.from("1\n2\n"), Buffer.from(bad), Buffer.from("\n4\n")])
      const sent = yield* run(["send", "--lines", "--until", "stored", "--json"], input)
      assert.strictEqual(sent.code, 2)
      assert.deepInclude(json(sent.stdout[0]), { lines: 2 })
      assert.strictEqual(sent.stderr, `effect-messaging: ${says}\n`)
      assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), ["1", "2"])
    }))

  it.live("--lines to a peer that tells of no handling says what to do instead", () =>
    Effect.gen(function*() {
      const { inbox, run } = yield* endpoint()
      yield* Effect.forkScoped(Effect.forever(inbox.take))
      const sent = yield* run(["send", "--lines", "--timeout", "100ms"], "1\n")
      assert.strictEqual(sent.code, 1)
      assert.match(sent.stderr, /^effect-messaging: line 1 was not handled: [^\n]*--until stored\)\n$/)
      assert.strictEqual((yield* run(["send", "--lines", "--until", "stored"], "1\n")).code, 0)
    }))

  it.live("--lines takes no text", () =>
    Effect.gen(function*() {
      const sent = yield* run(yield* tempDirectory, ["send", "--to", "/x", "--lines", "text"])
      assert.deepStrictEqual([sent.code, sent.stdout], [2, []])
      assert.include(sent.stderr, "--lines reads standard input")
    }))
})

describe("sweep", () => {
  it.live("removes what a killed endpoint left, says so, and leaves the living alone", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const dead = yield* listening(home)
      const live = yield* listening(home)
      dead.child.kill("SIGKILL")
      yield* dead.wait
      const swept = yield* run(home, ["sweep", "--json"])
      assert.deepStrictEqual([swept.code, swept.stdout.map(json)], [0, [{
        event: "removed",
        socketPath: dead.first["socketPath"]
      }]])
      assert.isTrue(fs.existsSync(live.first["socketPath"] ?? ""))
      live.child.kill("SIGTERM")
      yield* live.wait
      assert.deepStrictEqual(leftovers(home), [])
      assert.deepStrictEqual((yield* run(home, ["sweep"])).stdout, ["nothing to remove"])
    }))
})

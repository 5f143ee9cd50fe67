import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { leftovers, listening, run, start } from "../utils/cli.ts"
import { tempDirectory } from "../utils/tempHost.ts"

const json = (line: string | undefined): Record<string, unknown> => JSON.parse(line ?? "null")

/** What is still there a moment after its end was asked for. */
const gone = (pid: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    try {
      process.kill(pid, 0)
    } catch {
      return Effect.void
    }
    return Effect.andThen(Effect.sleep(10), gone(pid))
  })

/** The content of a file that a command writes, once it is there. */
const written = (file: string): Effect.Effect<string> =>
  Effect.suspend(() => {
    const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : ""
    return text.endsWith("\n") ? Effect.succeed(text.trim()) : Effect.andThen(Effect.sleep(10), written(file))
  })

describe("listen --reply", () => {
  it.live("answers with what the command prints, and the query is nothing but its input", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const trap = path.join(home, "trap")
      const query = `"; touch ${trap}; $(touch ${trap}) \`touch ${trap}\` '\nsecond line`
      const listener = yield* listening(home, "--name", "me", "--reply", "cat")
      const asked = yield* run(home, ["ask", "--to", "me", "--json", "-"], { input: query })
      assert.deepInclude(json(asked.stdout[0]), { event: "reply", data: query })
      // Printed as every message is.
      assert.deepInclude(json(yield* listener.line(1))["message"] as object, { type: "query", data: query })
      assert.isFalse(fs.existsSync(trap))
    }))

  it.live("tells the command nothing of the query in its arguments or environment", (ctx) =>
    process.platform === "linux"
      ? Effect.gen(function*() {
        const home = yield* tempDirectory
        yield* listening(home, "--name", "me", "--reply", "cat /proc/$$/cmdline; env; cat > /dev/null")
        const asked = yield* run(home, ["ask", "--to", "me", "5ec2e7"])
        assert.include(asked.stdout.join("\n"), "cat /proc/")
        assert.notInclude(asked.stdout.join("\n"), "5ec2e7")
      })
      : Effect.sync(() => ctx.skip("reads /proc")))

  it.live.each([
    { command: "exit 3", says: "the command ended with 3" },
    { command: "kill -9 $$", says: "the command ended with SIGKILL" },
    { command: "printf '\\377'", says: "the command printed something that is not UTF-8" },
    { command: "yes", says: "the command printed more than a message may hold, 65536 bytes" },
    { command: "sleep 60 & sleep 60", says: "the command took longer than 200ms" }
  ])("a query whose command fails is a failed query: $command", ({ command, says }) =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const listener = yield* listening(home, "--name", "me", "--reply", command, "--reply-timeout", "200ms")
      const asked = yield* run(home, ["ask", "--to", "me", "--timeout", "50s", "x"])
      assert.deepStrictEqual([asked.code, asked.stdout], [1, []])
      assert.include(asked.stderr, "its handler failed")
      listener.child.kill("SIGTERM")
      const ended = yield* listener.wait
      assert.match(ended.stderr, /^effect-messaging: warn: [^\n]+\n$/)
      assert.include(ended.stderr, says)
    }))

  it.live("ends the command, and what it has started, when its time is up", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const pid = path.join(home, "pid")
      const command = `sh -c 'echo $$ > ${pid}; exec sleep 60' & wait`
      yield* listening(home, "--name", "me", "--reply", command, "--reply-timeout", "300ms")
      const asked = yield* run(home, ["ask", "--to", "me", "x"])
      assert.strictEqual(asked.code, 1)
      yield* gone(Number(yield* written(pid)))
    }))

  it.live("ends the commands when it ends itself", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const pid = path.join(home, "pid")
      const listener = yield* listening(home, "--name", "me", "--reply", `echo $$ > ${pid}; exec sleep 60`)
      yield* start(home, ["ask", "--to", "me", "x"])
      const child = Number(yield* written(pid))
      listener.child.kill("SIGINT")
      assert.strictEqual((yield* listener.wait).code, 130)
      yield* gone(child)
      assert.deepStrictEqual(leftovers(home).filter((name) => name !== "pid"), [])
    }))

  it.live("runs no more commands at once than it was told", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const slots = path.join(home, "slots")
      const log = path.join(home, "log")
      fs.mkdirSync(slots)
      const command = `mkdir ${slots}/$$; ls ${slots} | wc -l >> ${log}; sleep 0.2; rmdir ${slots}/$$`
      yield* listening(home, "--name", "me", "--replies", "2", "--reply", command)
      const queries = ["send", "--to", "me", "--type", "query", "--lines", "--timeout", "50s"]
      const sent = yield* run(home, queries, { input: "1\n2\n3\n4\n5\n6\n" })
      assert.strictEqual(sent.code, 0, sent.stderr)
      const counts = fs.readFileSync(log, "utf8").trim().split("\n").map(Number)
      assert.strictEqual(counts.length, 6)
      assert.strictEqual(Math.max(...counts), 2)
    }))

  it.live("without it a query fails at once, and is printed", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const listener = yield* listening(home, "--name", "me")
      const asked = yield* run(home, ["ask", "--to", "me", "--timeout", "50s", "x"])
      assert.strictEqual(asked.code, 1)
      assert.include(yield* listener.line(1), "\"type\":\"query\"")
    }))
})

describe("listen -- CMD", () => {
  it.live.each([["SIGTERM", 143], ["SIGKILL", 137]] as const)(
    "ends as the child does that %s has ended",
    ([signal, code]) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        const ended = yield* run(home, ["listen", "--", "sh", "-c", `kill -${signal.slice(3)} $$`])
        assert.deepStrictEqual([ended.code, ended.stderr], [code, ""])
        assert.deepStrictEqual(leftovers(home), [])
      })
  )

  it.live.each(["SIGINT", "SIGHUP"] as const)(
    "passes %s on, and waits for the child's last word",
    (signal) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        const script = `trap 'echo caught; exit 5' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`
        const endpoint = yield* start(home, ["listen", "--json", "--", "sh", "-c", script])
        while (!endpoint.lines.includes("ready")) yield* Effect.sleep(10)
        endpoint.child.kill(signal)
        const ended = yield* endpoint.wait
        assert.strictEqual(ended.code, 5)
        assert.include(ended.stdout, "caught")
      })
  )

  it.live("goes on when nobody reads what arrives any more", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const file = path.join(home, "file")
      const endpoint = yield* start(home, ["listen", "--json", "--", "sh", "-c", `cat > ${file}; exit 4`], {
        input: "open"
      })
      yield* endpoint.line(0)
      endpoint.child.stdout.destroy()
      endpoint.child.stdin.end("still there\n")
      assert.strictEqual((yield* endpoint.wait).code, 4)
      assert.strictEqual(fs.readFileSync(file, "utf8"), "still there\n")
    }))
})

describe("listen --count", () => {
  it.live("ends after so many messages, when their senders have been told", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const listener = yield* listening(home, "--name", "me", "--count", "2")
      for (const text of ["first", "second"]) {
        const sent = yield* run(home, ["send", "--to", "me", "--until", "handled", text])
        assert.deepStrictEqual([sent.code, sent.stderr], [0, ""])
      }
      const ended = yield* listener.wait
      assert.deepStrictEqual([ended.code, ended.stdout.length, ended.stderr], [0, 3, ""])
      assert.deepStrictEqual(leftovers(home), [])
    }))
})

describe("listen --json", () => {
  it.live("ends when its reader has gone, without another message", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const endpoint = yield* listening(home)
      endpoint.child.stdout.destroy()
      const ended = yield* endpoint.wait
      assert.deepStrictEqual([ended.code, ended.stderr], [0, ""])
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live.each([["listen", "--json"], ["peers", "--watch"]])(
    "%s %s ends quietly when the reader of a pipe has gone, without another line",
    (args) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        if (args[0] === "peers") yield* listening(home)
        const script = `exec 3>&1; { "$0" "$@"; echo "ended with $?" >&3; } | head -1`
        const piped = yield* start(home, args, { script })
        const first = yield* piped.line(0)
        // Only Linux tells of a pipe before the next write.
        if (process.platform !== "linux") {
          if (args[0] === "peers") yield* listening(home)
          else yield* run(home, ["send", "x"], { parent: json(first)["socketPath"] as string })
        }
        const ended = yield* piped.wait
        assert.deepStrictEqual([ended.stdout.slice(1), ended.stderr], [["ended with 0"], ""])
        if (args[0] === "listen") assert.deepStrictEqual(leftovers(home), [])
      })
  )

  it.live("goes on as long as a pipe has a reader, however little there is to read", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const piped = yield* start(home, ["listen", "--json", "--count", "3"], { script: `"$0" "$@" | cat` })
      const parent = json(yield* piped.line(0))["socketPath"] as string
      for (const text of ["1", "2", "3"]) {
        // Each takes longer than the time between two looks at the pipe.
        assert.strictEqual((yield* run(home, ["send", text], { parent })).code, 0)
      }
      const ended = yield* piped.wait
      assert.deepStrictEqual([ended.code, ended.stdout.length, ended.stderr], [0, 4, ""])
    }))

  it.live.each([["listen", "--json"], ["listen", "--reply", "cat"], ["peers", "--json"], ["peers", "--watch"]])(
    "%s %s tells in one line that the disk is full, and ends with 1",
    (args) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        if (args[0] === "peers") yield* listening(home)
        const ended = yield* run(home, args, { script: "\"$0\" \"$@\" > /dev/full" })
        assert.deepStrictEqual(ended, {
          code: 1,
          stdout: [],
          stderr: "effect-messaging: cannot write to standard output: ENOSPC\n"
        })
      })
  )

  it.live("takes no more than its inbox holds from senders while nobody reads", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const endpoint = yield* listening(home, "--name", "me")
      endpoint.child.stdout.pause()
      const lines = Array.from({ length: 20_000 }, (_, n) => `${n} ${"x".repeat(1_000)}`)
      const input = lines.join("\n")
      const sent = yield* run(home, [
        "send",
        "--to",
        "me",
        "--lines",
        "--until",
        "stored",
        "--json",
        "--timeout",
        "300ms"
      ], { input })
      const stored = json(sent.stdout[0])["lines"] as number
      assert.deepStrictEqual([sent.code, sent.stderr.includes("is full")], [1, true])
      // The entries of the inbox, what this process has read before it stopped, and what the system holds between them.
      assert.isAbove(stored, 999)
      assert.isBelow(stored, 3_000)
      endpoint.child.stdout.resume()
      yield* endpoint.line(stored)
      const printed = endpoint.lines.slice(1).map((line) => (json(line)["message"] as { data: string }).data)
      assert.deepStrictEqual(printed, lines.slice(0, stored))
    }))
})

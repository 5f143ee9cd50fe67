import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { parseDuration } from "../../src/cli/flags.ts"
import { version } from "../../src/cli/version.ts"
import { bin, leftovers, listening, run, start, variable } from "../utils/cli.ts"
import { root } from "../utils/programs.ts"
import { tempDirectory } from "../utils/tempHost.ts"

describe("effect-messaging", () => {
  it.live("listen, send, ping and peers meet as separate processes", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const endpoint = yield* listening(home, "--name", "me")
      assert.deepStrictEqual(Object.keys(endpoint.first), ["event", "address", "socketPath", "pid"])
      const { address = "", pid, socketPath } = endpoint.first
      assert.strictEqual(address, `uds:${socketPath}`)
      assert.strictEqual(Number(pid), endpoint.child.pid)

      const sent = yield* run(home, ["send", "--to", address, "--json", "grüße"])
      assert.deepStrictEqual([sent.code, sent.stderr], [0, ""])
      assert.deepStrictEqual(sent.stdout.map((line) => JSON.parse(line)), [{
        event: "stored",
        id: "uds-1",
        socketPath
      }])
      const event = JSON.parse(yield* endpoint.line(1))
      assert.deepStrictEqual(Object.keys(event), ["event", "id", "receivedAt", "sender", "message"])
      assert.deepInclude(event, {
        event: "message",
        id: "uds-1",
        sender: { address: null, verified: false },
        message: { type: "text", data: "grüße" }
      })

      const piped = yield* run(home, ["send", "--type", "notification", "-"], { input: "a\nb\n", parent: socketPath })
      assert.deepStrictEqual([piped.code, piped.stdout], [0, [`stored as uds-2 by uds:${socketPath}`]])
      assert.deepStrictEqual(JSON.parse(yield* endpoint.line(2)).message, { type: "notification", data: "a\nb\n" })

      const pong = yield* run(home, ["ping", "--json", "--timeout", "20s"], { parent: socketPath })
      assert.deepInclude(JSON.parse(pong.stdout[0] ?? ""), { event: "pong", inbox: { entries: 0, bytes: 0 } })
      const plain = yield* run(home, ["ping"], { parent: socketPath })
      assert.match(plain.stdout[0] ?? "", /^pong from \/.* in [\d.]+ ms, nothing in its inbox$/)

      const peers = yield* run(home, ["peers", "--json"])
      assert.deepInclude(JSON.parse(peers.stdout[0] ?? ""), {
        address,
        pid: endpoint.child.pid,
        name: "me",
        directory: root.replace(/\/$/, ""),
        protocol: 2
      })
      assert.include((yield* run(home, ["peers"])).stdout[0], `${address}  pid ${endpoint.child.pid}  name me`)
    }))

  it.live.each([["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const)(
    "listen releases everything on %s and ends with %d",
    ([signal, code]) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        const endpoint = yield* listening(home)
        assert.isAbove(leftovers(home).length, 0)
        endpoint.child.kill(signal)
        const ended = yield* endpoint.wait
        assert.deepStrictEqual([ended.code, ended.stderr], [code, ""])
        assert.deepStrictEqual(leftovers(home), [])
      })
  )

  it.live("listen -- CMD runs a child that can report back, and ends with its status", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const script = `echo "$${variable}"; "${process.execPath}" "${bin}" send "from the child"; exit 7`
      const ended = yield* run(home, ["listen", "--json", "--", "sh", "-c", script])
      assert.strictEqual(ended.code, 7)
      const listening = JSON.parse(ended.stdout.find((line) => line.includes("listening")) ?? "{}")
      assert.include(ended.stdout, listening.socketPath)
      assert.include(ended.stdout, `stored as uds-1 by uds:${listening.socketPath}`)
      assert.isTrue(ended.stdout.some((line) => line.includes("\"data\":\"from the child\"")))
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live("listen -- CMD passes a signal on and lets the child decide", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
      const endpoint = yield* start(home, ["listen", "--", "sh", "-c", script])
      const first = [yield* endpoint.line(0), yield* endpoint.line(1)]
      assert.include(first, "ready")
      endpoint.child.kill("SIGTERM")
      const ended = yield* endpoint.wait
      assert.strictEqual(ended.code, 3)
      assert.include(ended.stdout, "caught")
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live("listen -- CMD tells a command that is not there", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const ended = yield* run(home, ["listen", "--", "no-such-command"])
      assert.deepStrictEqual([ended.code, ended.stderr], [
        127,
        "effect-messaging: cannot run no-such-command: ENOENT\n"
      ])
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live.each([
    { args: ["send"], code: 2, says: "Missing required argument: text" },
    { args: ["send", "x", "--nope"], code: 2, says: "--nope" },
    { args: ["bogus"], code: 2, says: "bogus" },
    { args: ["send", "x"], code: 2, says: `no target: give --to ADDRESS, or set ${variable}` },
    { args: ["ping", "--to", "/x", "--timeout", "soon"], code: 2, says: "give one like 500ms, 5s or 1m" },
    { args: ["send", "--to", "./relative", "x"], code: 1, says: "is not absolute" },
    {
      args: ["send", "--to", "nobody", "x"],
      code: 1,
      says: "no live peer is named \"nobody\"; there are: none (effect-messaging peers "
    },
    {
      args: ["send", "--to", "/nobody/here", "x"],
      code: 1,
      says: "or namespace (effect-messaging peers shows who listens, doctor what keeps others out)"
    },
    { args: ["ping", "--to", `/${"x".repeat(200)}`], code: 1, says: "is 201 bytes long, and this platform allows 107" },
    { args: ["listen", "--socket-path", "/tmp/x.sock"], code: 1, says: "/tmp is not private" }
  ])("tells a mistake in one line: $args", ({ args, code, says }) =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const ended = yield* run(home, args)
      assert.strictEqual(ended.code, code)
      assert.deepStrictEqual(ended.stdout, [])
      assert.match(ended.stderr, /^effect-messaging: [^\n]+\n$/)
      assert.include(ended.stderr, says)
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live("says of a dead peer, and of one that cannot be trusted, which command helps", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { child, first, wait } = yield* listening(home)
      const directory = path.join(home, "messaging-capabilities")
      const file = path.join(directory, fs.readdirSync(directory)[0] ?? "")
      const send = Effect.map(run(home, ["send", "--to", first["address"] ?? "", "x"]), ({ stderr }) => stderr)
      fs.chmodSync(file, 0o644)
      assert.match(yield* send, /^effect-messaging: [^\n]* \(effect-messaging doctor says what to do\)\n$/)
      fs.chmodSync(file, 0o600)
      child.kill("SIGKILL")
      yield* wait
      assert.match(yield* send, /^effect-messaging: [^\n]* \(run effect-messaging sweep\)\n$/)
    }))

  it.live.each([
    {
      name: "longer than a message may be",
      input: "y\n".repeat(40_000),
      says: "longer than a message may be, 65536 bytes"
    },
    { name: "not UTF-8", input: Buffer.from([0xff, 0xfe]), says: "standard input is not UTF-8" }
  ])("refuses standard input that is $name, in one line", ({ input, says }) =>
    Effect.gen(function*() {
      const ended = yield* run(yield* tempDirectory, ["send", "--to", "/x", "-"], { input })
      assert.strictEqual(ended.code, 2)
      assert.match(ended.stderr, /^effect-messaging: [^\n]+\n$/)
      assert.include(ended.stderr, says)
    }))

  it.live("refuses an address with a token without repeating it", () =>
    Effect.gen(function*() {
      const ended = yield* run(yield* tempDirectory, ["ping", "--to", "/x#token=5ec2e7"])
      assert.strictEqual(ended.code, 1)
      assert.notInclude(ended.stderr, "5ec2e7")
    }))

  it.live("shows help on standard output when asked", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const help = yield* run(home, ["--help"])
      assert.strictEqual(help.code, 0)
      for (const command of ["listen", "send", "ping", "peers"]) assert.include(help.stdout.join("\n"), command)
      assert.include(
        (yield* run(home, ["send", "--help"])).stdout.join("\n"),
        "effect-messaging send \"build finished\""
      )
      assert.include((yield* run(home, ["--version"])).stdout.join("\n"), version)
    }))

  it("has the version of the package", () => {
    assert.strictEqual(version, JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")).version)
  })

  it.each([["500ms", 500], ["5s", 5_000], ["1m", 60_000], ["250", 250], ["2 seconds", 2_000]] as const)(
    "reads the duration %s",
    (text, millis) => {
      assert.deepStrictEqual(Option.map(parseDuration(text), Duration.toMillis), Option.some(millis))
    }
  )

  it.each(["", "0", "-1s", "soon", "1h30", "Infinity"])("refuses the duration %j", (text) => {
    assert.isTrue(Option.isNone(parseDuration(text)))
  })
})

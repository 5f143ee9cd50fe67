/**
 * The tokens of endpoints that do all that endpoints do, and suffer all that is done to them, are looked for in
 * everything that can be seen of them. What is in the memory of a process is not looked at.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Data, Effect, Exit, Layer, Metric, Option, Redacted, References, Stream } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { fileName } from "../../src/Capability.ts"
import type { HostFacts } from "../../src/Host.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as library from "../../src/index.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { Messaging } from "../../src/Messaging.ts"
import { Peers } from "../../src/Peers.ts"
import { hits, makeRecorder } from "../utils/canary.ts"
import { commandLine } from "../utils/programs.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { tempDirectory, withTempHost } from "../utils/tempHost.ts"

const capabilities = ({ homedir }: HostFacts) => path.join(homedir, ".claude", "messaging-capabilities")
const fileOf = (host: HostFacts, socketPath: string) => path.join(capabilities(host), fileName(socketPath))
const tokenIn = (file: string) => (JSON.parse(fs.readFileSync(file, "utf8")) as { authToken: string }).authToken

const endpoint = Effect.fnUntraced(function*(options: Layers.Options) {
  const services = yield* Layer.build(Layers.layer(options))
  const messaging = Context.get(services, Messaging)
  return {
    services,
    messaging,
    inbox: Context.get(services, Inbox),
    peers: Context.get(services, Peers),
    socketPath: Option.getOrThrow(messaging.address).socketPath
  }
})

/** A server that answers the first bytes of each connection. */
const rogue = (socketPath: string, answer: (heard: string) => string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: net.Server; readonly sockets: Set<net.Socket> }>((resume) => {
      const sockets = new Set<net.Socket>()
      const server = net.createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.once("data", (chunk) => socket.end(answer(chunk.toString())))
      })
      server.listen(socketPath, () => resume(Effect.succeed({ server, sockets })))
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  )

const line = (value: unknown) => `${JSON.stringify(value)}\n`

/** What a peer may send that is not the protocol, though it knows the token. */
const malformed = (token: string): ReadonlyArray<string | Uint8Array> => [
  `${token}\n`,
  `"${token}"\n`,
  `{"type":"text","meta":{"authToken":"${token}"}\n`,
  `{"type":"text","meta":{"authToken":"${token}`,
  `{"authToken":"${token}"}\n`,
  `{"type":"${token}","meta":{"authToken":"${token}"}}\n`,
  `{"type":"text","data":7,"meta":{"authToken":"${token}"}}\n`,
  `{"__proto__":{"meta":{"authToken":"${token}"}},"type":"text"}\n`,
  `{"type":"text","meta":{"__proto__":{"authToken":"${token}"}}}\n`,
  `{"type":"text","meta":{"authToken":["${token}"]}}\n`,
  `{"type":"text","meta":{"authToken":"${token}0"}}\n`,
  `{"type":"text","meta":{"authToken":"${token.toUpperCase()}"}}\n`,
  `{"type":"text\\n${token}","meta":{"authToken":"${token.slice(1)}"}}\n`,
  `${"[".repeat(100)}"${token}"\n`,
  `${token.repeat(1_100)}\n`,
  Buffer.concat([Buffer.from(`{"type":"${token}`), Buffer.from([0xff, 0x0a])]),
  `\uFEFF{"meta":{"authToken":"${token}"}}\n`,
  line({ type: "hello", protocol: 2, nonce: token, from: `/${token}` }),
  line({ type: "hello", protocol: 2, nonce: "0".repeat(64) }) + line({ type: "auth", proof: token }),
  line({ type: "hello", protocol: 2, nonce: "0".repeat(64) }) + `${token}\n`,
  line({ type: "hello", protocol: 2, nonce: token.slice(1), from: token })
]

/** Capability files that are refused, with the token in them. */
const damaged = (text: string, token: string): ReadonlyArray<{ readonly text: string; readonly mode: number }> => [
  { text, mode: 0o644 },
  { text: text.slice(0, -1), mode: 0o600 },
  { text: `${text}${token}`, mode: 0o600 },
  { text: token, mode: 0o600 },
  { text: `"${token}"`, mode: 0o600 },
  { text: text.replace(token, `${token}0`), mode: 0o600 },
  { text: text.replace(token, token.toUpperCase()), mode: 0o600 },
  { text: text.replace(`"${token}"`, `["${token}"]`), mode: 0o600 },
  { text: text.replace("\"protocol\":2", `"protocol":"${token}"`), mode: 0o600 },
  { text: text.padEnd(5_000, token), mode: 0o600 },
  { text: text.replace(/"socketPath":"[^"]*"/, `"socketPath":"/${token}"`), mode: 0o600 }
]

describe("the tokens of endpoints", () => {
  it.live("appear in no log, span, metric, error, entry, service, reply or exported value", () => {
    const { loggers, see, seeSpans, sightings, tracer } = makeRecorder()
    const tokens = new Set<string>()
    /** What came of a call: a value, or a failure, its cause, and what is printed of it. */
    const ends = (expected: string) => <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.map(Effect.exit(effect), (exit) => {
        if (Exit.isSuccess(exit)) see(expected, exit.value)
        else for (const value of [exit, Cause.squash(exit.cause), Cause.pretty(exit.cause)]) see(expected, value)
        const failure = Exit.isSuccess(exit) ? undefined : Cause.squash(exit.cause) as { reason?: { _tag: string } }
        assert.strictEqual(failure === undefined ? "success" : failure.reason?._tag, expected)
      })
    const learn = (host: HostFacts, socketPath: string) => {
      const token = tokenIn(fileOf(host, socketPath))
      tokens.add(token)
      return token
    }

    const conversation = Effect.fnUntraced(function*(host: HostFacts) {
      const a = yield* endpoint({ name: "a" })
      const b = yield* endpoint({ name: "b", limits: { maxInboxEntries: 2 } })
      const old = yield* endpoint({ name: "old" })
      const [, tokenB] = [learn(host, a.socketPath), learn(host, b.socketPath), learn(host, old.socketPath)]
      const call = a.messaging
      // Over a connection of its own, after a new look at the capability.
      const sendAnew = (to: string) =>
        Effect.scoped(Effect.flatMap(endpoint({}), ({ messaging }) => messaging.send(to, Message.text("x"))))

      // Protocol 2, to the end of an inbox.
      yield* ends("success")(call.send("b", Message.text("one")))
      yield* ends("success")(call.send(b.socketPath, Message.text("two", { meta: { kept: 1 } })))
      yield* ends("InboxFull")(call.send("b", Message.text("three")))
      yield* ends("success")(call.ping("b"))
      see("entries", yield* b.inbox.drain)
      yield* Effect.forkScoped(b.inbox.consume((entry) => {
        see("entry", entry)
        switch (entry.message.data) {
          case "fail":
            return Effect.fail(new Cause.IllegalArgumentError("failed"))
          case "die":
            return Effect.die(new Error("died"))
          default:
            return Effect.succeed("yes")
        }
      }))
      yield* ends("success")(call.ask("b", "?"))
      yield* ends("success")(call.send("b", Message.text("x"), { until: "handled" }))
      for (const how of ["fail", "die"]) {
        yield* ends("HandlerFailed")(call.ask("b", how))
        yield* ends("HandlerFailed")(call.send("b", Message.text(how), { until: "handled" }))
      }
      // Protocol 1.
      const oldFile = fileOf(host, old.socketPath)
      const oldToken = tokenIn(oldFile)
      fs.writeFileSync(oldFile, JSON.stringify({ socketPath: old.socketPath, authToken: oldToken }))
      yield* ends("success")(call.send(old.socketPath, Message.text("x")))
      yield* ends("success")(call.ping(old.socketPath))
      yield* ends("NotSupported")(call.ask(old.socketPath, "?"))
      see("entries", yield* old.inbox.drain)
      // Wrong calls.
      yield* ends("NameNotUnique")(call.send("nobody", Message.text("x")))
      yield* ends("PeerNotFound")(call.send("/nobody/here", Message.text("x")))
      yield* ends("InvalidAddress")(call.send(`uds:${b.socketPath}#token=${tokenB}`, Message.text("x")))
      yield* ends("MessageTooLarge")(call.send("b", Message.text("x".repeat(70_000))))
      yield* ends("AddressInUse")(Effect.scoped(Layer.build(Layers.layer({ socketPath: b.socketPath }))))

      // A peer that knows the token and not the protocol.
      for (const bytes of malformed(tokenB)) {
        const peer = yield* connectRaw(b.socketPath)
        yield* peer.write(bytes)
        yield* peer.end
        see("reply", (yield* peer.rest).filter((reply) => !reply.includes("\"challenge\"")).join("\n"))
      }

      // A wrong token, in either protocol.
      const wrong = "0".repeat(64)
      for (
        const { expected, ...protocol } of [{ expected: "Unauthorized" }, { expected: "PeerUntrusted", protocol: 2 }]
      ) {
        fs.writeFileSync(oldFile, JSON.stringify({ socketPath: old.socketPath, authToken: wrong, ...protocol }))
        yield* ends(expected)(sendAnew(old.socketPath))
      }

      // Impostors at a published path.
      const at = path.join(host.tmpdir, "rogue.sock")
      const made = line({ type: "challenge", nonce: wrong, proof: wrong })
      const answers: ReadonlyArray<readonly [answer: (heard: string) => string, in1: string, in2: string]> = [
        [() => made, "ConnectionLost", "PeerUntrusted"],
        [(heard) => heard, "ConnectionLost", "PeerUntrusted"],
        [() => "who is there?\n", "InvalidReply", "PeerUntrusted"],
        [() => line({ type: "error", data: "unauthorized" }), "Unauthorized", "Unauthorized"],
        [() => line({ type: "error", data: "busy" }), "Rejected", "PeerUntrusted"],
        [(heard) => line({ type: "error", data: `what is ${heard}` }), "Rejected", "PeerUntrusted"],
        [() => line({ type: "response", data: "ok" }), "success", "PeerUntrusted"]
      ]
      for (const [answer, ...expected] of answers) {
        yield* Effect.scoped(Effect.gen(function*() {
          yield* rogue(at, answer)
          for (const protocol of [1, 2] as const) {
            fs.writeFileSync(fileOf(host, at), JSON.stringify({ socketPath: at, authToken: oldToken, protocol }), {
              mode: 0o600
            })
            yield* ends(expected[protocol - 1] ?? "")(sendAnew(at))
            see("peers", yield* a.peers.list)
          }
        }))
      }

      // Damaged files, and what a sweep makes of a dead peer.
      const text = JSON.stringify({ socketPath: at, authToken: oldToken, protocol: 2 })
      for (const file of damaged(text, oldToken)) {
        fs.writeFileSync(fileOf(host, at), file.text)
        fs.chmodSync(fileOf(host, at), file.mode)
        yield* ends("PeerUntrusted")(call.send(at, Message.text("x")))
        see("peers", yield* a.peers.list)
        see("swept", yield* a.peers.sweep)
        fs.unlinkSync(fileOf(host, at))
      }
      fs.writeFileSync(oldFile, JSON.stringify({ socketPath: old.socketPath, authToken: oldToken, protocol: 2 }))
      see("changes", yield* Stream.runCollect(Stream.take(a.peers.changes, 3)))

      for (const { messaging, services, socketPath } of [a, b, old]) {
        see("services", services)
        see("address", messaging.address)
        see("address", library.Address.parse(socketPath))
      }
      yield* ends("success")(
        Effect.gen(function*() {
          const capability = yield* library.Capability.make
          return yield* capability.list
        }).pipe(Effect.provide(NodeFileSystem.layer))
      )
      see("environment", host.environment)
    })

    return withTempHost((host) =>
      Effect.gen(function*() {
        yield* Effect.scoped(conversation(host))
        see("metrics", yield* Metric.snapshot)
        seeSpans()
        for (const [module, exported] of Object.entries(library)) {
          for (const [name, value] of Object.entries(exported)) see(`${module}.${name}`, value)
        }
        see("environment", process.env)
        see("environment", fs.readFileSync("/proc/self/environ", "latin1"))
        assert.strictEqual(tokens.size, 3)
        for (const where of ["log", "span Messaging.send", "metrics", "entry", "PeerUntrusted", "reply"]) {
          assert.isTrue(sightings.some((sighting) => sighting.where === where && sighting.text !== ""), where)
        }
        assert.deepStrictEqual(hits(sightings, tokens), [])
      })
    ).pipe(
      Effect.provide(loggers),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.withTracer(tracer)
    )
  })

  it.live("appear in no output, environment or argument of the command line and its children", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const cli = yield* Effect.promise(commandLine)
      const script = `
        capability=$(echo "$CLAUDE_CONFIG_DIR"/messaging-capabilities/*.json)
        cp "$capability" "$HOME/kept"
        em() { "${process.execPath}" "${cli}" "$@"; }
        cat /proc/self/environ /proc/$PPID/environ /proc/self/cmdline /proc/$PPID/cmdline
        env
        em send --json --log-level all "from the child"
        em send "from the child"
        em ping --json
        em ping
        em peers --json
        em peers
        em send --to nobody x
        em send --to /nobody/here --json x
        em ping --to "$CLAUDE_CODE_MESSAGING_SOCKET#token=$(cut -d '"' -f 8 "$capability")"
        em listen --socket-path "$CLAUDE_CODE_MESSAGING_SOCKET"
        chmod 644 "$capability"; em send --log-level all --json x
        chmod 600 "$capability"; sed -i 's/}/,/' "$capability"; em send x; em peers --json
        sed -i 's/"socketPath"/"socketpath"/' "$capability"; em ping --log-level all
        cp "$HOME/kept" "$capability"; sed -i 's/"authToken":"./"authToken":"x/' "$capability"; em send x
        cp "$HOME/kept" "$capability"; sed -i 's/,"protocol":2//' "$capability"; em send --json "in protocol 1"
        exit 5`
      const said = yield* Effect.callback<{ code: number | null; text: string }>((resume) => {
        const child = spawn(
          process.execPath,
          [cli, "listen", "--json", "--log-level", "all", "--", "sh", "-c", script],
          {
            env: { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: home, TMPDIR: home, CLAUDE_CONFIG_DIR: home }
          }
        )
        let text = ""
        for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => text += String(chunk))
        child.once("close", (code) => resume(Effect.succeed({ code, text })))
        return Effect.sync(() => child.kill("SIGKILL"))
      })
      assert.strictEqual(said.code, 5, said.text)
      for (
        const part of [
          "CLAUDE_CODE_MESSAGING_SOCKET=/",
          "\"event\":\"stored\"",
          "\"data\":\"in protocol 1\"",
          "holds a token",
          "(open to others)",
          "(not a capability)"
        ]
      ) assert.include(said.text, part)
      assert.deepStrictEqual(hits([{ where: "output", text: said.text }], [tokenIn(path.join(home, "kept"))]), [])
    }))
})

describe("the search for tokens", () => {
  const token = "0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdeffedcba9876543210"

  class Leak extends Data.TaggedError("Leak")<{ readonly detail: object }> {}

  it.effect("finds one that is planted in a log, a span, a metric, an error, an environment or a hidden field", () => {
    const { loggers, see, seeSpans, sightings, tracer } = makeRecorder()
    return Effect.gen(function*() {
      yield* Effect.logTrace("said", { deep: [{ token }] })
      yield* Effect.logTrace("said", new Leak({ detail: { token } }))
      yield* Effect.withSpan(Effect.void, "attribute", { attributes: { token } })
      yield* Effect.exit(Effect.withSpan(Effect.fail(new Leak({ detail: { token } })), "status"))
      yield* Metric.update(Metric.counter("leak", { attributes: { token } }), 1)
      see("metrics", yield* Metric.snapshot)
      see("error", new Leak({ detail: { token } }))
      see("cause", Cause.pretty(Cause.die(new Error(`bad ${token}`))))
      see("hidden", Object.defineProperty({}, "token", { value: token, enumerable: false }))
      see("symbol", { [Symbol("token")]: token })
      see("closure", Object.assign(() => {}, { token }))
      see("map", new Map([[{ token }, 1]]))
      see("environment", { NODE_TOKEN: token })
      see("redacted", Redacted.make(token))
      seeSpans()
      const found = new Set(hits(sightings, [token]))
      assert.deepStrictEqual([...found], [
        "log",
        "metrics",
        "error",
        "cause",
        "hidden",
        "symbol",
        "closure",
        "map",
        "environment",
        "span attribute",
        "span status"
      ])
    }).pipe(
      Effect.provide(loggers),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.withTracer(tracer)
    )
  })

  const bytes = Buffer.from(token, "hex")
  const pad = Buffer.from(Buffer.from(token).map((byte) => byte ^ 0x36))
  it.each<readonly [name: string, value: unknown]>([
    ["its first half", token.slice(0, 32)],
    ["its second half", token.slice(32)],
    ["it in upper case", token.toUpperCase()],
    ["its bytes", bytes],
    ["half of its bytes", new Uint8Array(bytes.subarray(16))],
    ["its characters as bytes", Buffer.from(token)],
    ["its bytes in base64", bytes.toString("base64")],
    ["its characters in base64", Buffer.from(token).toString("base64")],
    ["its bytes as numbers", [...bytes]],
    ["the padded key of its HMAC", pad],
    ["the padded key of its HMAC in hex", pad.toString("hex")]
  ])("finds %s", (_, value) => {
    const { see, sightings } = makeRecorder()
    see("value", value)
    assert.deepStrictEqual(hits(sightings, [token]), ["value"])
  })

  it("does not find another token", () => {
    assert.deepStrictEqual(hits([{ where: "value", text: token.replaceAll("0", "1") }], [token]), [])
  })
})

/**
 * A protocol 1 client of `node:net` and `node:fs` alone, written from PROTOCOL.md sections 3 and 5.3, against the
 * library's server.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { HostFacts } from "../../src/Host.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import type * as Limits from "../../src/Limits.ts"
import { Messaging } from "../../src/Messaging.ts"
import { withTempHost } from "../utils/tempHost.ts"

interface Reply {
  readonly type: string
  readonly data?: string
  readonly from?: string
  readonly meta?: { readonly id?: string }
}

interface Capability {
  readonly socketPath: string
  readonly authToken: string
}

const ignore = () => {}

const capabilityFile = (host: HostFacts, socketPath: string) =>
  path.join(
    host.homedir,
    ".claude",
    "messaging-capabilities",
    `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
  )

const capability = (host: HostFacts, socketPath: string): Capability =>
  JSON.parse(fs.readFileSync(capabilityFile(host, socketPath), "utf8"))

/** Connects, sends one frame, and reads until a response, a pong or an error. */
const exchange = (socketPath: string, message: unknown) =>
  Effect.callback<Reply>((resume) => {
    let received = ""
    const conn = net.createConnection(socketPath, () => conn.write(`${JSON.stringify(message)}\n`))
    conn.setEncoding("utf8")
    conn.on("error", ignore)
    conn.on("close", () => resume(Effect.die("the server closed without an answer")))
    conn.on("data", (text: string) => {
      const lines = (received + text).split("\n")
      received = lines.pop() ?? ""
      const reply = lines.filter((line) => line.trim() !== "").map((line): Reply => JSON.parse(line))
        .find(({ type }) => type === "response" || type === "pong" || type === "error")
      if (reply === undefined) return
      resume(Effect.succeed(reply))
      conn.destroy()
    })
  })

/** As a child process would: the path from the environment, the token from the file, then one request. */
const request = Effect.fnUntraced(function*(
  host: HostFacts,
  message: { readonly type: string; readonly data?: string; readonly from?: string }
) {
  const socketPath = host.environment["CLAUDE_CODE_MESSAGING_SOCKET"] ?? ""
  const { authToken, socketPath: published } = capability(host, socketPath)
  assert.strictEqual(published, socketPath)
  return yield* exchange(socketPath, { ...message, meta: { authToken } })
})

const withOurServer = <A, E, R>(
  use: (host: HostFacts, socketPath: string) => Effect.Effect<A, E, R>,
  limits?: Limits.Options
) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const { address } = yield* Messaging
      return yield* use(host, Option.getOrThrow(address).socketPath)
    }).pipe(Effect.provide(Layers.layer({ limits })))
  )

describe("a protocol 1 client and our server", () => {
  it.live("finds the server's path in the environment", () =>
    withOurServer((host, socketPath) =>
      Effect.sync(() => assert.strictEqual(host.environment["CLAUDE_CODE_MESSAGING_SOCKET"], socketPath))
    ))

  it.live("finds path and token first in a capability file", () =>
    withOurServer((host, socketPath) =>
      Effect.sync(() => {
        const text = fs.readFileSync(capabilityFile(host, socketPath), "utf8")
        assert.deepStrictEqual(Object.keys(JSON.parse(text)).slice(0, 2), ["socketPath", "authToken"])
        assert.match(capability(host, socketPath).authToken, /^[0-9a-f]{64}$/)
      })
    ))

  it.live("finds the capability file, its directory and the socket open to nobody else", () =>
    withOurServer((host, socketPath) =>
      Effect.sync(() => {
        const file = capabilityFile(host, socketPath)
        const modes = [file, path.dirname(file), socketPath, path.dirname(socketPath)].map((name) =>
          (fs.lstatSync(name).mode & 0o777).toString(8)
        )
        assert.deepStrictEqual(modes, ["600", "700", "600", "700"])
      })
    ))

  it.live("is told that its message is stored", () =>
    withOurServer((host) =>
      Effect.gen(function*() {
        const reply = yield* request(host, { type: "text", data: "hello" })
        assert.deepInclude(reply, { type: "response", data: "ok", meta: { id: "uds-1" } })
      })
    ))

  it.live("puts its message in the inbox, from an address nobody has proved", () =>
    withOurServer((host) =>
      Effect.gen(function*() {
        yield* request(host, { type: "query", data: "hello", from: "/tmp/theirs.sock" })
        const { message, sender } = yield* (yield* Inbox).take
        assert.deepStrictEqual(message, { type: "query", data: "hello", from: "/tmp/theirs.sock" })
        assert.deepStrictEqual(sender, { address: "/tmp/theirs.sock", verified: false })
      })
    ))

  it.live("gets a pong with the server's path", () =>
    withOurServer((host, socketPath) =>
      Effect.gen(function*() {
        const reply = yield* request(host, { type: "ping" })
        assert.deepInclude(reply, { type: "pong", from: socketPath })
      })
    ))

  it.live("is told that its token is of another endpoint", () =>
    withOurServer((host) =>
      withOurServer((_, elsewhere) =>
        Effect.gen(function*() {
          const own = host.environment["CLAUDE_CODE_MESSAGING_SOCKET"] ?? ""
          const meta = { authToken: capability(host, own).authToken }
          const reply = yield* exchange(elsewhere, { type: "text", data: "hello", meta })
          assert.deepInclude(reply, { type: "error", data: "unauthorized" })
        })
      )
    ))

  it.live("is told that the inbox is full", () =>
    withOurServer((host) =>
      Effect.gen(function*() {
        yield* request(host, { type: "text" })
        const reply = yield* request(host, { type: "text" })
        assert.deepInclude(reply, { type: "error", data: "inbox full" })
      }), { maxInboxEntries: 1 }))

  it.live("finds no capability file once the server has ended", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const { address } = yield* Effect.provide(Messaging, Layers.layer())
        const { socketPath } = Option.getOrThrow(address)
        assert.isFalse(fs.existsSync(capabilityFile(host, socketPath)))
        assert.isUndefined(host.environment["CLAUDE_CODE_MESSAGING_SOCKET"])
      })
    ))

  it.live("is served at the same time as others", () =>
    withOurServer((host) =>
      Effect.gen(function*() {
        const numbers = Array.from({ length: 50 }, (_, n) => n + 1)
        const replies = yield* Effect.forEach(numbers, (n) => request(host, { type: "text", data: `${n}` }), {
          concurrency: "unbounded"
        })
        const ids = replies.map((reply) => reply.meta?.id)
        assert.sameMembers(ids, numbers.map((n) => `uds-${n}`))
      })
    ))
})

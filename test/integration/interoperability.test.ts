/**
 * A protocol 1 client and a protocol 1 server of `node:net` and `node:fs` alone, written from PROTOCOL.md sections 3 and
 * 5.3, each against the library.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Queue } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { HostFacts } from "../../src/Host.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { Messaging } from "../../src/Messaging.ts"
import { withTempHost } from "../utils/tempHost.ts"

const ignore = () => {}
const now = () => new Date().toISOString()

const capabilityDirectory = (host: HostFacts) => path.join(host.homedir, ".claude", "messaging-capabilities")
const capabilityFile = (host: HostFacts, socketPath: string) =>
  path.join(capabilityDirectory(host), `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`)
const tokenAt = (host: HostFacts, socketPath: string): string =>
  JSON.parse(fs.readFileSync(capabilityFile(host, socketPath), "utf8")).authToken

const line = (value: unknown) => `${JSON.stringify(value)}\n`
const ok = { type: "response", data: "ok", ts: now(), meta: { id: "uds-7" } }

interface Protocol1Server {
  readonly socketPath: string
  readonly token: string
  /** The first frame of each connection, as it arrives. */
  readonly frames: Queue.Queue<string>
  /** All that was received on each connection, once it has closed. */
  readonly received: Queue.Queue<string>
}

type Act = (conn: net.Socket) => void

/** Listens, publishes a capability file of two keys, and calls `answer` at the first frame of each connection. */
const serve = Effect.fnUntraced(function*(host: HostFacts, answer: Act, accept: Act = ignore) {
  const directory = path.join(host.homedir, "peer")
  const socketPath = path.join(directory, "messaging.sock")
  const token = crypto.randomBytes(32).toString("hex")
  const frames = yield* Queue.unbounded<string>()
  const received = yield* Queue.unbounded<string>()
  const open = new Set<net.Socket>()
  const server = net.createServer({ allowHalfOpen: true }, (conn) => {
    let bytes = ""
    let answered = false
    open.add(conn)
    conn.setEncoding("latin1")
    conn.on("error", ignore)
    conn.on("data", (text: string) => {
      bytes += text
      if (answered || !bytes.includes("\n")) return
      answered = true
      Queue.offerUnsafe(frames, bytes)
      answer(conn)
    })
    conn.on("end", () => conn.end())
    conn.on("close", () => {
      open.delete(conn)
      Queue.offerUnsafe(received, bytes)
    })
    accept(conn)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      fs.mkdirSync(directory, { mode: 0o700 })
      fs.mkdirSync(capabilityDirectory(host), { recursive: true, mode: 0o700 })
      fs.writeFileSync(capabilityFile(host, socketPath), JSON.stringify({ socketPath, authToken: token }), {
        mode: 0o600
      })
      server.listen(socketPath, () => resume(Effect.void))
    }),
    () =>
      Effect.sync(() => {
        server.close()
        for (const conn of open) conn.destroy()
      })
  )
  return { socketPath, token, frames, received } satisfies Protocol1Server
})

/** A test of the library's client against a protocol 1 server that gives `answer`. */
const withProtocol1Server = <A, E, R>(
  answer: Act,
  use: (server: Protocol1Server, messaging: Messaging["Service"]) => Effect.Effect<A, E, R>
) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const server = yield* serve(host, answer)
      return yield* use(server, yield* Messaging)
    }).pipe(Effect.provide(Layers.layerClient()))
  )

const replying = (...replies: ReadonlyArray<string | Uint8Array>): Act => (conn) => {
  for (const reply of replies) conn.write(reply)
}

const hello = Message.text("hello")
/** The fields of the reason `send` fails with. */
const sendReason = (messaging: Messaging["Service"], to: string) =>
  Effect.map(Effect.flip(messaging.send(to, hello)), ({ reason }) => ({ ...reason }))

describe("our client and a protocol 1 server: success", () => {
  it.live("sends and is told the id", () =>
    withProtocol1Server(replying(line(ok)), (server, messaging) =>
      Effect.gen(function*() {
        const receipt = yield* messaging.send(server.socketPath, hello)
        assert.deepStrictEqual(receipt, { socketPath: server.socketPath, id: Option.some("uds-7") })
      })))

  it.live("sends to a server that tells no id", () =>
    withProtocol1Server(replying(line({ type: "response" })), (server, messaging) =>
      Effect.gen(function*() {
        const receipt = yield* messaging.send(server.socketPath, hello)
        assert.deepStrictEqual(receipt, { socketPath: server.socketPath, id: Option.none() })
      })))

  it.live("pings", () =>
    withProtocol1Server(
      replying(line({ type: "pong", from: "/x", ts: now() })),
      (server, messaging) =>
        Effect.gen(function*() {
          assert.isAbove(Duration.toMillis(yield* messaging.ping(server.socketPath)), 0)
          assert.strictEqual(JSON.parse(yield* Queue.take(server.frames)).type, "ping")
        })
    ))

  it.live("skips blank lines and other types before the ack", () =>
    withProtocol1Server(
      replying(
        "\n \t\r\n",
        line({ type: "pong", from: "/x" }),
        line({ type: "notification", data: "busy" }),
        line({ type: "text" }),
        line({ type: "query" }),
        line({ type: "ping" }),
        line({ type: "later-version" }),
        `\r\n${line(ok)}`
      ),
      (server, messaging) =>
        Effect.gen(function*() {
          const { id } = yield* messaging.send(server.socketPath, hello)
          assert.deepStrictEqual(id, Option.some("uds-7"))
        })
    ))

  it.live("reads an ack that comes in single bytes", () =>
    withProtocol1Server(
      (conn) => {
        const bytes = Buffer.from(line({ ...ok, data: "é" }))
        const next = (at: number): void => {
          if (at < bytes.length) conn.write(bytes.subarray(at, at + 1), () => setImmediate(next, at + 1))
        }
        next(0)
      },
      (server, messaging) =>
        Effect.gen(function*() {
          const { id } = yield* messaging.send(server.socketPath, hello)
          assert.deepStrictEqual(id, Option.some("uds-7"))
        })
    ))

  it.live("takes the first answer of several", () =>
    withProtocol1Server(
      replying(line(ok) + line({ type: "error", data: "unauthorized" }) + line({ ...ok, meta: { id: "uds-8" } })),
      (server, messaging) =>
        Effect.gen(function*() {
          const { id } = yield* messaging.send(server.socketPath, hello)
          assert.deepStrictEqual(id, Option.some("uds-7"))
        })
    ))
})

const sent = (use: (messaging: Messaging["Service"], to: string) => Effect.Effect<unknown, unknown>) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const messaging = yield* Messaging
      const { socketPath } = Option.getOrThrow(messaging.address)
      const server = yield* serve(host, replying(line({ type: "pong" }), line(ok)))
      yield* use(messaging, server.socketPath)
      // Told when the client hangs up, which it does soon.
      const bytes = yield* Queue.take(server.received)
      return { bytes, server, own: { socketPath, token: tokenAt(host, socketPath) } }
    }).pipe(Effect.provide(Layers.layer({ limits: { connectionTimeout: "50 millis" } })))
  )

describe("our client and a protocol 1 server: what is sent", () => {
  it.live("is one frame with the target's token for a message", () =>
    Effect.gen(function*() {
      const { bytes, own, server } = yield* sent((messaging, to) => messaging.send(to, hello))
      assert.strictEqual(bytes.indexOf("\n"), bytes.length - 1)
      assert.deepStrictEqual(JSON.parse(bytes), {
        type: "text",
        data: "hello",
        from: own.socketPath,
        meta: { authToken: server.token }
      })
    }))

  it.live("is one frame with the target's token for a ping", () =>
    Effect.gen(function*() {
      const { bytes, server } = yield* sent((messaging, to) => messaging.ping(to))
      assert.strictEqual(bytes.indexOf("\n"), bytes.length - 1)
      assert.deepStrictEqual(JSON.parse(bytes), { type: "ping", meta: { authToken: server.token } })
    }))

  it.live("never holds the token of our own server", () =>
    Effect.gen(function*() {
      const { bytes, own } = yield* sent((messaging, to) => messaging.send(to, hello))
      assert.notStrictEqual(bytes, "")
      assert.notInclude(bytes, own.token)
    }))

  it.live("holds the target's token in place of one the application gives", () =>
    Effect.gen(function*() {
      const given = Message.text("hello", { meta: { authToken: "0".repeat(64), kept: [1] } })
      const { bytes, server } = yield* sent((messaging, to) => messaging.send(to, given))
      assert.deepStrictEqual(JSON.parse(bytes).meta, { authToken: server.token, kept: [1] })
    }))
})

const refusing = (data: string): Act => (conn) => void conn.end(line({ type: "error", data, ts: now() }))

describe("our client and a protocol 1 server: failure", () => {
  it.live("fails with Unauthorized", () =>
    withProtocol1Server(refusing("unauthorized"), (server, messaging) =>
      Effect.gen(function*() {
        const reason = yield* sendReason(messaging, server.socketPath)
        assert.deepStrictEqual<unknown>(reason, { _tag: "Unauthorized", socketPath: server.socketPath })
      })))

  it.live("fails with InboxFull", () =>
    withProtocol1Server(refusing("inbox full"), (server, messaging) =>
      Effect.gen(function*() {
        const reason = yield* sendReason(messaging, server.socketPath)
        const { socketPath } = server
        assert.deepStrictEqual<unknown>(reason, { _tag: "InboxFull", socketPath, retryAfter: Option.none() })
      })))

  it.live.each(["idle timeout", "authentication timeout", "invalid frame", "unauthorized ", ""])(
    "fails with Rejected and the text %j",
    (text) =>
      withProtocol1Server(refusing(text), (server, messaging) =>
        Effect.gen(function*() {
          const reason = yield* sendReason(messaging, server.socketPath)
          assert.deepStrictEqual<unknown>(reason, { _tag: "Rejected", socketPath: server.socketPath, text })
        }))
  )

  it.live.each([
    { name: "escape codes", data: "\u001b[2J".repeat(6_800) },
    { name: "control characters", data: "\0\u0007\u007f\u009b".repeat(3_000) },
    { name: "line ends and direction marks", data: "\r\n\u2028\u2029\u202e\u200b".repeat(3_000) },
    { name: "wide characters", data: "😀".repeat(15_000) },
    { name: "lone surrogates", data: "\ud83d".repeat(10_000) }
  ])(
    "shows at most 256 harmless bytes of an error of 60 KB of $name",
    ({ data }) =>
      withProtocol1Server(refusing(data), (server, messaging) =>
        Effect.gen(function*() {
          const { reason } = yield* Effect.flip(messaging.send(server.socketPath, hello))
          assert(reason._tag === "Rejected")
          assert.isAbove(reason.text.length, 0)
          assert.isAtMost(Buffer.byteLength(reason.text), 256)
          assert.notMatch(reason.text, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
        }))
  )

  it.live("reads an error that comes before the server has read anything", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const server = yield* serve(host, ignore, refusing("authentication timeout"))
        const reason = yield* sendReason(yield* Messaging, server.socketPath)
        const text = "authentication timeout"
        assert.deepStrictEqual<unknown>(reason, { _tag: "Rejected", socketPath: server.socketPath, text })
      }).pipe(Effect.provide(Layers.layerClient()))
    ))

  it.live.each([
    { name: "null", reply: "null\n" },
    { name: "an array", reply: "[]\n" },
    { name: "text that is not JSON", reply: "HTTP/1.1 400 Bad Request\r\n\r\n" },
    { name: "bytes that are not UTF-8", reply: Uint8Array.of(0x22, 0xff, 0x22, 0x0a) },
    { name: "65,537 bytes without an end", reply: " ".repeat(65_537) }
  ])(
    "fails with InvalidReply at $name",
    ({ reply }) =>
      withProtocol1Server(replying(reply), (server, messaging) =>
        Effect.gen(function*() {
          const { reason } = yield* Effect.flip(messaging.send(server.socketPath, hello))
          assert(reason._tag === "InvalidReply")
          assert.strictEqual(reason.socketPath, server.socketPath)
        }))
  )

  it.live.each<{ readonly name: string; readonly answer: Act }>([
    { name: "closes", answer: (conn) => conn.end() },
    { name: "is gone", answer: (conn) => conn.destroy() },
    { name: "closes within its reply", answer: (conn) => conn.end(JSON.stringify(ok)) }
  ])(
    "fails with ConnectionLost, perhaps stored, when the server $name",
    ({ answer }) =>
      withProtocol1Server(answer, (server, messaging) =>
        Effect.gen(function*() {
          const reason = yield* sendReason(messaging, server.socketPath)
          const { socketPath } = server
          assert.deepStrictEqual<unknown>(reason, { _tag: "ConnectionLost", socketPath, mayBeStored: true })
        }))
  )
})

// Under a virtual clock: the frame has truly arrived at the server before the time passes.
describe("our client and a protocol 1 server: deadline", () => {
  it.effect("fails with Timeout, perhaps stored, when the server never answers", () =>
    withProtocol1Server(ignore, (server, messaging) =>
      Effect.gen(function*() {
        const call = yield* Effect.forkChild(
          Effect.flip(messaging.send(server.socketPath, hello, { timeout: "300 millis" })),
          { startImmediately: true }
        )
        yield* Queue.take(server.frames)
        yield* TestClock.adjust("300 millis")
        const { reason } = yield* Fiber.join(call)
        const { socketPath } = server
        assert.deepStrictEqual<unknown>({ ...reason }, { _tag: "Timeout", socketPath, mayBeStored: true })
      })))

  it.effect("is 5 seconds unless the call says otherwise", () =>
    withProtocol1Server(ignore, (server, messaging) =>
      Effect.gen(function*() {
        const call = yield* Effect.forkChild(Effect.flip(messaging.ping(server.socketPath)), {
          startImmediately: true
        })
        yield* Queue.take(server.frames)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* Fiber.join(call)).reason._tag, "Timeout")
      })))

  it.effect("leaves room for an answer just before it", () => {
    let client: net.Socket | undefined
    const keep: Act = (conn) => {
      client = conn
    }
    return withProtocol1Server(keep, (server, messaging) =>
      Effect.gen(function*() {
        const call = yield* Effect.forkChild(messaging.send(server.socketPath, hello), { startImmediately: true })
        yield* Queue.take(server.frames)
        yield* TestClock.adjust(4_999)
        client?.write(line(ok))
        assert.deepStrictEqual((yield* Fiber.join(call)).id, Option.some("uds-7"))
      }))
  })

  it.live.each([
    { name: "other messages", bytes: line({ type: "notification", data: "working" }) },
    { name: "blank lines", bytes: "\r\n" },
    { name: "the bytes of a reply that never ends", bytes: " " }
  ])("is not extended by $name", ({ bytes }) =>
    withProtocol1Server((conn) => {
      const dripping = setInterval(() => conn.write(bytes), 5)
      conn.on("close", () => clearInterval(dripping))
    }, (server, messaging) =>
      Effect.gen(function*() {
        const call = messaging.send(server.socketPath, hello, { timeout: "300 millis" })
        assert.strictEqual((yield* Effect.flip(call)).reason._tag, "Timeout")
      })))
})

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Redacted, Scope } from "effect"
import { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import * as Handshake from "../../src/Handshake.ts"
import * as peerLink from "../../src/internal/peerLink.ts"
import { defaults, type Values } from "../../src/Limits.ts"
import {
  ConnectionLost,
  HandlerFailed,
  InboxFull,
  MessagingError,
  Rejected,
  Unauthorized
} from "../../src/MessagingError.ts"
import { connectMemory } from "../utils/memoryPeer.ts"

const socketPath = "/run/memory/messaging.sock"
const token = Redacted.make("0123456789abcdef".repeat(4))

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })
const lost = (mayBeStored: boolean) => fail(new ConnectionLost({ socketPath, mayBeStored }))

const fork = Effect.forkChild({ startImmediately: true })

/** The socket, and what has been written to it. */
const noting = (socket: Socket.Socket) => {
  const writes: Array<string> = []
  const noted = Socket.make({
    reader: socket.reader,
    writer: Effect.map(socket.writer, ({ write, writeAll }) => ({
      write: (chunk) => {
        writes.push(String(chunk))
        return write(chunk)
      },
      writeAll
    }))
  })
  return { noted, writes }
}

const parse = (line: string | undefined) => JSON.parse(line ?? "null") as Record<string, unknown>

/** A link and the peer behind it, which has proved itself and then says only what it is told. */
const connect = Effect.fnUntraced(function*(limits: Partial<Values> = {}) {
  const peer = yield* connectMemory
  const { noted, writes } = noting(peer.socket)
  const scope = yield* Scope.fork(yield* Scope.Scope)
  const making = yield* fork(
    peerLink.make(noted, { socketPath, token }, undefined, { ...defaults, ...limits }).pipe(Scope.provide(scope))
  )
  const hello = parse(yield* peer.line)
  const serverNonce = Handshake.newNonce()
  const transcript = { path: socketPath, from: undefined, clientNonce: String(hello["nonce"]), serverNonce }
  const proof = Handshake.prove("server", token, transcript)
  yield* peer.write(`${JSON.stringify({ type: "challenge", nonce: serverNonce, proof })}\n`)
  const link = yield* Fiber.join(making)
  assert.strictEqual(parse(yield* peer.line)["type"], "auth")
  writes.length = 0

  /** A request in flight, sent as the frame `<id>`, and whether it has been. */
  const request = Effect.fnUntraced(function*(id: string, until: peerLink.Until = "stored") {
    let sent = false
    const fiber = yield* fork(
      Effect.exit(link.request(`"${id}"\n`, id, until, () => {
        sent = true
      }))
    )
    return { fiber, exit: Fiber.join(fiber), isSent: () => sent }
  })
  const say = (...frames: ReadonlyArray<object>) =>
    peer.write(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(""))
  return { close: Scope.close(scope, Exit.void), link, peer, request, say, writes }
})

const ack = (messageId: string, id = "uds-1") => ({ type: "response", data: "ok", meta: { id, messageId } })
const stored = (id: string) => Exit.succeed({ id: Option.some(id), data: "ok" })

describe("a link", () => {
  it.effect("writes all requests of one turn at once, in order", () =>
    Effect.gen(function*() {
      const { peer, request, writes } = yield* connect()
      const ids = Array.from({ length: 50 }, (_, n) => `m${n}`)
      for (const id of ids) yield* request(id)
      for (const id of ids) assert.strictEqual(yield* peer.line, `"${id}"`)
      assert.deepStrictEqual(writes, [ids.map((id) => `"${id}"\n`).join("")])
    }))

  it.effect("gives each request the ack that names it", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect()
      const [first, second] = [yield* request("a"), yield* request("b")]
      yield* say(ack("b", "uds-1"), ack("a", "uds-2"))
      assert.deepStrictEqual([yield* first.exit, yield* second.exit], [stored("uds-2"), stored("uds-1")])
    }))

  it.effect("takes no pong for an ack, a receipt or an answer", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect()
      for (const until of ["stored", "handled", "answered"] as const) {
        const { fiber } = yield* request(until, until)
        yield* say({ type: "pong", from: socketPath, meta: { messageId: until } })
        // Behind the pong, so that it has been read.
        const { exit } = yield* request("next")
        yield* say(ack("next"))
        yield* exit
        assert.isUndefined(fiber.pollUnsafe())
      }
    }))

  it.effect("ignores answers to unknown requests, unknown types and frames that are no message", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect()
      const { exit } = yield* request("a")
      yield* say(
        ack("z"),
        { type: "error", data: "failed", meta: { messageId: "z" } },
        { type: "error", data: "failed", meta: {} },
        { type: "response", data: "ok" },
        { type: "text", data: "a", meta: { messageId: "a" } },
        { type: "surprise", meta: { messageId: "a" } },
        ack("__proto__"),
        ack("a", "uds-7")
      )
      assert.deepStrictEqual(yield* exit, stored("uds-7"))
    }))

  it.effect("waits for the handling beyond the ack, and keeps its id", () =>
    Effect.gen(function*() {
      const { link, request, say } = yield* connect()
      const { exit, fiber } = yield* request("a", "handled")
      const pinging = yield* fork(link.request("\"p\"\n", "p", "pong", () => {}))
      yield* say(ack("a"), { type: "pong", meta: { messageId: "p" } })
      yield* Fiber.join(pinging)
      assert.isUndefined(fiber.pollUnsafe())
      yield* say({ type: "response", data: "handled", meta: { messageId: "a" } })
      assert.deepStrictEqual(yield* exit, Exit.succeed({ id: Option.some("uds-1"), data: "handled" }))
    }))

  it.effect("gives a question the answer that names it, not its ack or receipt", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect()
      const { exit } = yield* request("a", "answered")
      yield* say(ack("a"), { type: "response", data: "handled", meta: { messageId: "a" } })
      yield* say({ type: "response", data: "because", meta: { inReplyTo: "a" } })
      assert.deepStrictEqual(yield* exit, Exit.succeed({ id: Option.some("uds-1"), data: "because" }))
    }))

  const refusals: ReadonlyArray<readonly [string, object, MessagingError["reason"]]> = [
    [
      "inbox full",
      { data: "inbox full", meta: { messageId: "a", retryAfter: 100 } },
      new InboxFull({ socketPath, retryAfter: Option.some(Duration.millis(100)) })
    ],
    [
      "inbox full without a time",
      { data: "inbox full", meta: { messageId: "a", retryAfter: "soon" } },
      new InboxFull({ socketPath, retryAfter: Option.none() })
    ],
    ["failed", { data: "failed", meta: { messageId: "a" } }, new HandlerFailed({ socketPath })],
    ["a failed question", { data: "failed", meta: { inReplyTo: "a" } }, new HandlerFailed({ socketPath })],
    ["anything else", { data: "no", meta: { messageId: "a" } }, new Rejected({ socketPath, text: "no" })]
  ]
  for (const [what, error, reason] of refusals) {
    it.effect(`fails the one request that is refused: ${what}`, () =>
      Effect.gen(function*() {
        const { link, request, say } = yield* connect()
        const [first, second] = [yield* request("a", "answered"), yield* request("b")]
        yield* say({ type: "error", ...error }, ack("b"))
        assert.deepStrictEqual([yield* first.exit, yield* second.exit], [Exit.fail(fail(reason)), stored("uds-1")])
        assert.isFalse(link.isClosed())
      }))
  }

  const lastWords: ReadonlyArray<readonly [string, MessagingError]> = [
    ["unauthorized", fail(new Unauthorized({ socketPath }))],
    ["idle timeout", lost(true)]
  ]
  for (const [text, error] of lastWords) {
    it.effect(`ends with an error that names no request: ${text}`, () =>
      Effect.gen(function*() {
        const { link, request, say } = yield* connect()
        const [first, second] = [yield* request("a"), yield* request("b", "answered")]
        yield* say({ type: "error", data: text })
        assert.deepStrictEqual([yield* first.exit, yield* second.exit], [Exit.fail(error), Exit.fail(error)])
        assert.isTrue(link.isClosed())
      }))
  }

  const ends = ["hangs up", "closes its side", "says what is no frame"] as const
  for (const how of ends) {
    it.effect(`fails all that is outstanding, in doubt, when the peer ${how}`, () =>
      Effect.gen(function*() {
        const { link, peer, request } = yield* connect()
        const [first, second] = [yield* request("a"), yield* request("b", "handled")]
        yield* how === "hangs up" ? peer.hangUp : how === "closes its side" ? peer.end : peer.write("{]\n")
        assert.deepStrictEqual([yield* first.exit, yield* second.exit], [Exit.fail(lost(true)), Exit.fail(lost(true))])
        assert.isTrue(link.isClosed())
      }))
  }

  it.effect("fails all that is outstanding, in doubt, when it is closed itself", () =>
    Effect.gen(function*() {
      const { close, request } = yield* connect()
      const { exit } = yield* request("a")
      yield* close
      assert.deepStrictEqual(yield* exit, Exit.fail(lost(true)))
    }))

  it.effect("hears what was said before the end", () =>
    Effect.gen(function*() {
      const { peer, request, say } = yield* connect()
      const [first, second] = [yield* request("a"), yield* request("b")]
      yield* say(ack("a"))
      yield* peer.end
      assert.deepStrictEqual([yield* first.exit, yield* second.exit], [stored("uds-1"), Exit.fail(lost(true))])
    }))

  it.effect("fails a request after the end without doubt, unsent", () =>
    Effect.gen(function*() {
      const { peer, request, writes } = yield* connect()
      const { exit } = yield* request("a")
      yield* peer.hangUp
      yield* exit
      writes.length = 0
      const late = yield* request("b")
      assert.deepStrictEqual(yield* late.exit, Exit.fail(lost(false)))
      assert.isFalse(late.isSent())
      assert.deepStrictEqual(writes, [])
    }))

  it.effect("fails a request that waits for room when the end comes without doubt, unsent", () =>
    Effect.gen(function*() {
      const { peer, request } = yield* connect({ maxInFlightMessages: 1 })
      const [first, second] = [yield* request("a"), yield* request("b")]
      yield* peer.hangUp
      assert.deepStrictEqual([yield* first.exit, yield* second.exit], [Exit.fail(lost(true)), Exit.fail(lost(false))])
      assert.deepStrictEqual([first.isSent(), second.isSent()], [true, false])
    }))

  it.effect("ignores the answer to a request that was interrupted", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect()
      const [first, second] = [yield* request("a"), yield* request("b")]
      yield* Fiber.interrupt(first.fiber)
      yield* say(ack("a"), ack("b", "uds-2"))
      assert.deepStrictEqual(yield* second.exit, stored("uds-2"))
    }))

  it.effect("pings while a request is outstanding, and is silent otherwise", () =>
    Effect.gen(function*() {
      const { peer, request, say, writes } = yield* connect()
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(writes, [])
      const { exit } = yield* request("a")
      assert.strictEqual(yield* peer.line, "\"a\"")
      yield* TestClock.adjust("10 seconds")
      const { meta, type } = parse(yield* peer.line)
      assert.strictEqual(type, "ping")
      yield* say({ type: "pong", meta }, ack("a"))
      yield* exit
      writes.length = 0
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(writes, [])
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, FiberSet, Option, Redacted, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Handshake from "../../src/Handshake.ts"
import { Outboxes } from "../../src/internal/outbox.ts"
import * as peerLink2 from "../../src/internal/peerLink2.ts"
import type { Until } from "../../src/internal/request.ts"
import { defaults, type Values } from "../../src/Limits.ts"
import { HandlerFailed, InboxFull, MessagingError, Rejected, Unauthorized } from "../../src/MessagingError.ts"
import { makeCarried, makeRequest, noting } from "../utils/carrying.ts"
import { connectMemory } from "../utils/memoryPeer.ts"

const socketPath = "/run/memory/messaging.sock"
const token = Redacted.make("0123456789abcdef".repeat(4))

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })
const fork = Effect.forkChild({ startImmediately: true })
const parse = (line: string | undefined) => JSON.parse(line ?? "null") as Record<string, unknown>

interface Options extends Partial<Values> {
  /** What the peer says behind its challenge in the same write. */
  readonly behind?: string
}

/** A link that does not run yet, and the peer behind it, which has proved itself and then says only what it is told. */
const connect = Effect.fnUntraced(function*({ behind = "", ...limits }: Options = {}) {
  const peer = yield* connectMemory
  const { noted, writes } = noting(peer.socket)
  const writing = { fork: yield* FiberSet.makeRuntime<never, void, never>(), outboxes: new Outboxes() }
  const scope = yield* Scope.fork(yield* Scope.Scope)
  const { add, carried, forget, idsInFlight, ordinalOf, proceeded } = makeCarried()
  const making = yield* fork(
    peerLink2.make(noted, { socketPath, token }, undefined, { ...defaults, ...limits }, ordinalOf, writing).pipe(
      Scope.provide(scope)
    )
  )
  const hello = parse(yield* peer.line)
  const serverNonce = Handshake.newNonce()
  const transcript = { path: socketPath, from: undefined, clientNonce: String(hello["nonce"]), serverNonce }
  const proof = Handshake.prove("server", token, transcript)
  yield* peer.write(`${JSON.stringify({ type: "challenge", nonce: serverNonce, proof })}\n${behind}`)
  const link = yield* Fiber.join(making)
  writes.length = 0

  /** A request in flight, sent as the frame `"<id>"`. */
  const request = (id: string, until: Until = "stored") => {
    const made = makeRequest(id, { until })
    add(made)
    link.submit(made, carried)
    return made
  }
  const say = (...frames: ReadonlyArray<object>) =>
    peer.write(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(""))
  /** Until all that was said before has been read. */
  const heard = Effect.suspend(() => {
    const behind = request(`behind ${proceeded()}`)
    return Effect.andThen(say(ack(behind.messageId)), behind.exit)
  })
  const close = Scope.close(scope, Exit.void)
  return { add, carried, close, forget, heard, idsInFlight, link, peer, proceeded, request, say, writes }
})

/** As `connect`, and the link runs and has proved itself. */
const run = Effect.fnUntraced(function*(options?: Options) {
  const connected = yield* connect(options)
  const running = yield* fork(connected.link.run(connected.carried))
  assert.strictEqual(parse(yield* connected.peer.line)["type"], "auth")
  connected.writes.length = 0
  return { ...connected, running, end: Fiber.join(running) }
})

/** As this library's server says it. */
const ack = (messageId: string, id = "uds-1") => ({
  type: "response",
  data: "ok",
  ts: "2026-01-02T03:04:05.678Z",
  meta: { id, messageId }
})
const stored = (id: string, data = "ok") => Exit.succeed({ id: Option.some(id), data })

describe("a link of protocol 2", () => {
  it.effect("proves itself at once, also with nothing to carry", () =>
    Effect.gen(function*() {
      const { carried, link, writes } = yield* connect()
      yield* fork(link.run(carried))
      yield* Effect.yieldNow
      assert.deepStrictEqual(writes.map((text) => parse(text)["type"]), ["auth"])
    }))

  it.effect("writes its proof together with what it was handed before it runs", () =>
    Effect.gen(function*() {
      const { carried, link, peer, request, writes } = yield* connect()
      for (const id of ["a", "b"]) request(id)
      yield* fork(link.run(carried))
      assert.strictEqual(parse(yield* peer.line)["type"], "auth")
      for (const id of ["a", "b"]) assert.strictEqual(yield* peer.line, `"${id}"`)
      assert.strictEqual(writes.length, 1)
    }))

  it.effect("reads what came behind the challenge", () =>
    Effect.gen(function*() {
      const { carried, link } = yield* connect({ behind: "{\"type\":\"error\",\"data\":\"idle timeout\"}\n" })
      assert.deepStrictEqual(yield* link.run(carried), { _tag: "Lost" })
    }))

  it.effect("writes all requests of one turn at once, in order", () =>
    Effect.gen(function*() {
      const { peer, request, writes } = yield* run()
      const ids = Array.from({ length: 50 }, (_, n) => `m${n}`)
      for (const id of ids) request(id)
      for (const id of ids) assert.strictEqual(yield* peer.line, `"${id}"`)
      assert.deepStrictEqual(writes, [ids.map((id) => `"${id}"\n`).join("")])
    }))

  it.effect("tells the bytes that the socket has not taken", () =>
    Effect.gen(function*() {
      const { link, peer, request } = yield* run()
      request("é")
      assert.strictEqual(link.backlog(), 5)
      yield* peer.line
      assert.strictEqual(link.backlog(), 0)
    }))

  it.effect("may be repeated", () =>
    Effect.gen(function*() {
      const { link } = yield* connect()
      assert.isTrue(link.isRepeatable)
    }))

  it.effect("gives each request the ack that names it", () =>
    Effect.gen(function*() {
      const { request, say } = yield* run()
      const [first, second] = [request("a"), request("b")]
      yield* say(ack("b", "uds-1"), ack("a", "uds-2"))
      assert.deepStrictEqual([yield* first.exit, yield* second.exit], [stored("uds-2"), stored("uds-1")])
    }))

  it.effect("takes an ack in other words than its own server's", () =>
    Effect.gen(function*() {
      const { request, say } = yield* run()
      const requests = ["a", "b", "c"].map((id) => request(id))
      yield* say(
        { meta: { messageId: "a", id: "uds-1" }, type: "response" },
        { type: "response", data: "stored", meta: { id: "entry 2", messageId: "b", duplicate: true } },
        ack("c", "uds-03")
      )
      for (const { exit } of requests) yield* exit
      assert.deepStrictEqual(requests.map(({ ends }) => ends), [
        [stored("uds-1", "")],
        [stored("entry 2", "stored")],
        [stored("uds-03")]
      ])
    }))

  it.effect("asks for more once for all that has arrived together", () =>
    Effect.gen(function*() {
      const { proceeded, request, say } = yield* run()
      const before = proceeded()
      const requests = ["a", "b", "c"].map((id) => request(id))
      yield* say(...requests.map(({ messageId }) => ack(messageId)))
      for (const { exit } of requests) yield* exit
      // The test is told in the middle of the batch.
      yield* Effect.yieldNow
      assert.strictEqual(proceeded(), before + 1)
    }))

  it.effect("takes no pong for an ack, a receipt or an answer", () =>
    Effect.gen(function*() {
      const { heard, request, say } = yield* run()
      const requests = (["stored", "handled", "answered"] as const).map((until) => request(until, until))
      for (const { messageId } of requests) yield* say({ type: "pong", from: socketPath, meta: { messageId } })
      yield* heard
      assert.deepStrictEqual(requests.map(({ ends }) => ends.length), [0, 0, 0])
    }))

  it.effect("takes an ack, a receipt or an answer for no pong", () =>
    Effect.gen(function*() {
      const { heard, request, say } = yield* run()
      const ping = request("p", "pong")
      const { messageId } = ping
      yield* say(ack("p"), { type: "response", data: "handled", meta: { messageId } })
      yield* say({ type: "response", data: "answer", meta: { inReplyTo: messageId } })
      yield* heard
      assert.strictEqual(ping.ends.length, 0)
      yield* say({ type: "pong", from: socketPath, meta: { messageId } })
      assert.deepStrictEqual(yield* ping.exit, Exit.succeed({ id: Option.none(), data: "" }))
    }))

  it.effect.each([
    { inbox: { entries: 2, bytes: 100, more: true }, told: { inbox: { entries: 2, bytes: 100 } } },
    ...[undefined, null, 7, [], {}, { entries: 2 }, { entries: -1, bytes: 1 }, { entries: 1.5, bytes: 1 }, {
      entries: "2",
      bytes: 1
    }].map((inbox) => ({ inbox, told: {} }))
  ])("reads of a pong what the inbox holds, where it is told: $inbox", ({ inbox, told }) =>
    Effect.gen(function*() {
      const { request, say } = yield* run()
      const ping = request("p", "pong")
      yield* say({ type: "pong", from: socketPath, meta: { messageId: ping.messageId, inbox } })
      assert.deepStrictEqual(yield* ping.exit, Exit.succeed({ id: Option.none(), data: "", ...told }))
    }))

  it.effect("takes an answer and a receipt for no ack", () =>
    Effect.gen(function*() {
      const { heard, request, say } = yield* run()
      const { ends, messageId } = request("a")
      yield* say({ type: "response", data: "handled", meta: { messageId } })
      yield* say({ type: "response", data: "answer", meta: { inReplyTo: messageId } })
      yield* heard
      assert.strictEqual(ends.length, 0)
    }))

  const strange: ReadonlyArray<readonly [string, object]> = [
    ["an ack of an unknown request", ack("z")],
    ["an ack of a name that JavaScript knows", ack("__proto__")],
    ["an error of an unknown request", { type: "error", data: "failed", meta: { messageId: "z" } }],
    ["an error with an empty meta", { type: "error", data: "failed", meta: {} }],
    ["an error whose meta is a list", { type: "error", data: "failed", meta: [] }],
    ["an error whose meta is nothing", { type: "error", data: "failed", meta: null }],
    ["an error whose text is none", { type: "error", data: 1 }],
    ["an ack that names no request", { type: "response", data: "ok" }],
    ["an ack whose id is no text", { type: "response", data: "ok", meta: { id: 1, messageId: "a" } }],
    ["an ack that names a request and answers another", {
      type: "response",
      meta: { id: "uds-1", messageId: "a", inReplyTo: "z" }
    }],
    ["an ack from nobody", { ...ack("a"), from: 1 }],
    ["an ack whose text is none", { ...ack("a"), data: ["ok"] }],
    ["a text", { type: "text", data: "a", meta: { messageId: "a" } }],
    ["an unknown type", { type: "surprise", meta: { messageId: "a" } }]
  ]
  for (const [what, frame] of strange) {
    it.effect(`skips ${what}`, () =>
      Effect.gen(function*() {
        const { heard, request, running, say } = yield* run()
        const { ends, exit } = request("a")
        yield* say(frame)
        yield* heard
        assert.deepStrictEqual([ends.length, running.pollUnsafe()], [0, undefined])
        yield* say(ack("a", "uds-7"))
        assert.deepStrictEqual(yield* exit, stored("uds-7"))
      }))
  }

  it.effect("waits for the handling beyond the ack, and keeps its id", () =>
    Effect.gen(function*() {
      const { heard, request, say } = yield* run()
      const waiting = request("a", "handled")
      yield* say(ack("a"))
      yield* heard
      assert.deepStrictEqual([waiting.ends.length, waiting.id], [0, Option.some("uds-1")])
      yield* say({ type: "response", data: "handled", meta: { messageId: "a" } })
      assert.deepStrictEqual(yield* waiting.exit, stored("uds-1", "handled"))
    }))

  it.effect("gives a question the answer that names it, not its ack or receipt", () =>
    Effect.gen(function*() {
      const { request, say } = yield* run()
      const { exit } = request("a", "answered")
      yield* say(ack("a"), { type: "response", data: "handled", meta: { messageId: "a" } })
      yield* say({ type: "response", data: "because", meta: { inReplyTo: "a" } })
      assert.deepStrictEqual(yield* exit, stored("uds-1", "because"))
    }))

  it.effect("forgets the id that another connection was told", () =>
    Effect.gen(function*() {
      const { add, carried, link, say } = yield* run()
      const again = makeRequest("a", { until: "handled" })
      again.id = Option.some("uds-1")
      add(again)
      link.submit(again, carried)
      assert.deepStrictEqual(again.id, Option.none())
      yield* say({ type: "response", data: "handled", meta: { messageId: "a" } })
      assert.deepStrictEqual(yield* again.exit, Exit.succeed({ id: Option.none(), data: "handled" }))
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
    ["anything else", { data: "no", meta: { messageId: "a" } }, new Rejected({ socketPath, text: "no" })],
    ["no text", { meta: { messageId: "a" } }, new Rejected({ socketPath, text: "" })]
  ]
  for (const [what, error, reason] of refusals) {
    it.effect(`fails the one request that is refused: ${what}`, () =>
      Effect.gen(function*() {
        const { request, running, say } = yield* run()
        const [first, second] = [request("a", "answered"), request("b")]
        yield* say({ type: "error", ...error }, ack("b"))
        assert.deepStrictEqual([yield* first.exit, yield* second.exit], [Exit.fail(fail(reason)), stored("uds-1")])
        assert.isUndefined(running.pollUnsafe())
      }))
  }

  it.effect("ignores the answer to a request that is not in flight any more", () =>
    Effect.gen(function*() {
      const { forget, request, say } = yield* run()
      const [first, second] = [request("a"), request("b")]
      forget(first)
      yield* say(ack("a"), ack("b", "uds-2"))
      assert.deepStrictEqual(yield* second.exit, stored("uds-2"))
      assert.strictEqual(first.ends.length, 0)
    }))
})

describe("a link of protocol 2 ends", () => {
  const lost = { _tag: "Lost" } as const
  const lastWords: ReadonlyArray<readonly [string, object]> = [
    ["unauthorized", { _tag: "Distrusted", error: fail(new Unauthorized({ socketPath })) }],
    ["authentication timeout", lost],
    ["idle timeout", lost],
    ["frame timeout", lost]
  ]
  for (const [text, expected] of lastWords) {
    it.effect(`with the last word "${text}", and settles no request`, () =>
      Effect.gen(function*() {
        const { end, idsInFlight, request, say } = yield* run()
        const requests = [request("a"), request("b", "answered")]
        yield* say({ type: "error", data: text }, ack("a"))
        assert.deepStrictEqual(yield* end, expected)
        assert.deepStrictEqual([requests.map(({ ends }) => ends.length), idsInFlight()], [[0, 0], ["a", "b"]])
      }))
  }

  it.effect("with another last word, which fails the first request without an ack and no other", () =>
    Effect.gen(function*() {
      const { end, idsInFlight, request, say } = yield* run()
      const [acked, first, second] = [request("a", "handled"), request("b"), request("c")]
      yield* say(ack("a"), { type: "error", data: "invalid frame" }, ack("c"))
      assert.deepStrictEqual(yield* end, { _tag: "Refused" })
      assert.deepStrictEqual(idsInFlight(), ["a", "c"])
      assert.deepStrictEqual([acked.ends.length, second.ends.length], [0, 0])
      assert.deepStrictEqual(first.ends, [Exit.fail(fail(new Rejected({ socketPath, text: "invalid frame" })))])
    }))

  const ends = ["hangs up", "closes its side", "says what is no frame"] as const
  for (const how of ends) {
    it.effect(`when the peer ${how}, and settles no request`, () =>
      Effect.gen(function*() {
        const { end, peer, request } = yield* run()
        const requests = [request("a"), request("b", "handled")]
        yield* how === "hangs up" ? peer.hangUp : how === "closes its side" ? peer.end : peer.write("{]\n")
        assert.deepStrictEqual(yield* end, lost)
        assert.deepStrictEqual(requests.map(({ ends }) => ends.length), [0, 0])
      }))
  }

  it.effect("when it is closed itself", () =>
    Effect.gen(function*() {
      const { close, end, request } = yield* run()
      request("a")
      yield* close
      assert.deepStrictEqual(yield* end, lost)
    }))

  it.effect("after it has heard what was said before", () =>
    Effect.gen(function*() {
      const { end, peer, request, say } = yield* run()
      const [first, second] = [request("a"), request("b")]
      yield* say(ack("a"))
      yield* peer.write(`${JSON.stringify(ack("b", "uds-2"))}\n{]\n`)
      yield* end
      assert.deepStrictEqual([first.ends, second.ends], [[stored("uds-1")], [stored("uds-2")]])
    }))
})

describe("a link of protocol 2 that waits", () => {
  it.effect("pings while a request is outstanding, and is silent otherwise", () =>
    Effect.gen(function*() {
      const { peer, request, say, writes } = yield* run()
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(writes, [])
      const { exit } = request("a")
      assert.strictEqual(yield* peer.line, "\"a\"")
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual(writes.length, 1)
      yield* TestClock.adjust("1 millis")
      const first = parse(yield* peer.line)
      assert.strictEqual(first["type"], "ping")
      yield* TestClock.adjust("10 seconds")
      const second = parse(yield* peer.line)
      assert.notDeepEqual(second["meta"], first["meta"])
      yield* say({ type: "pong", meta: first["meta"] }, ack("a"))
      yield* exit
      writes.length = 0
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(writes, [])
    }))

  it.effect("is silent for the keep-alive interval that is set", () =>
    Effect.gen(function*() {
      const { request, writes } = yield* run({ keepAliveInterval: Duration.seconds(3) })
      request("a")
      yield* TestClock.adjust("2999 millis")
      assert.strictEqual(writes.length, 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(writes.length, 2)
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FiberSet, Option, Redacted, Result, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Outboxes } from "../../src/internal/outbox.ts"
import * as peerLink1 from "../../src/internal/peerLink1.ts"
import type { Until } from "../../src/internal/request.ts"
import { defaults } from "../../src/Limits.ts"
import type * as Message from "../../src/Message.ts"
import {
  InboxFull,
  InvalidReply,
  MessageTooLarge,
  MessagingError,
  NotSupported,
  Rejected,
  Unauthorized
} from "../../src/MessagingError.ts"
import { makeCarried, makeRequest, noting } from "../utils/carrying.ts"
import { connectMemory, token } from "../utils/memoryPeer.ts"

const socketPath = "/run/memory/messaging.sock"

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })
const rejected = (text: string) => Exit.fail(fail(new Rejected({ socketPath, text })))
const full = Exit.fail(fail(new InboxFull({ socketPath, retryAfter: Option.none() })))
const fork = Effect.forkChild({ startImmediately: true })

const tooLarge = fail(new MessageTooLarge({ bytes: 3, maxBytes: 2 }))

/** A link that runs, and the peer behind it, which says only what it is told. */
const connect = Effect.gen(function*() {
  const peer = yield* connectMemory
  const { noted, writes } = noting(peer.socket)
  const writing = { fork: yield* FiberSet.makeRuntime<never, void, never>(), outboxes: new Outboxes() }
  const scope = yield* Scope.fork(yield* Scope.Scope)
  const encode = ({ data = "", type }: Message.Message) =>
    data === "too large" ? Result.fail(tooLarge) : Result.succeed(`${type} ${data} ${token}\n`)
  const link = yield* Scope.provide(
    peerLink1.make(noted, { socketPath, token: Redacted.make(token) }, encode, defaults, writing),
    scope
  )
  const { add, carried, forget, idsInFlight, proceeded } = makeCarried()
  /** A request in flight, sent as the line `<type> <id> <token>`. */
  const request = (id: string, until: Until = "stored", message: Message.Message = { type: "text", data: id }) => {
    const made = makeRequest(id, { until, message })
    add(made)
    link.submit(made, carried)
    return made
  }
  const running = yield* fork(link.run(carried))
  const say = (...frames: ReadonlyArray<object>) =>
    peer.write(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(""))
  return {
    close: Scope.close(scope, Exit.void),
    end: Fiber.join(running),
    forget,
    idsInFlight,
    link,
    peer,
    proceeded,
    request,
    running,
    say,
    writes
  }
})

const ack = (id: string) => ({ type: "response", data: "ok", meta: { id } })
const error = (data: string) => ({ type: "error", data })
const pong = { type: "pong", from: socketPath }
const stored = (id: string) => Exit.succeed({ id: Option.some(id), data: "ok" })
const ends = (requests: ReadonlyArray<{ readonly ends: ReadonlyArray<unknown> }>) => requests.map(({ ends }) => ends)

describe("a link of protocol 1", () => {
  it.effect("must not be repeated", () =>
    Effect.gen(function*() {
      const { link } = yield* connect
      assert.isFalse(link.isRepeatable)
    }))

  it.effect("writes nothing before it has something to carry", () =>
    Effect.gen(function*() {
      const { writes } = yield* connect
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(writes, [])
    }))

  it.effect("writes all requests of one turn at once, in order, each with the token", () =>
    Effect.gen(function*() {
      const { link, peer, request, writes } = yield* connect
      const ids = Array.from({ length: 50 }, (_, n) => `m${n}`)
      for (const id of ids) request(id)
      const text = ids.map((id) => `text ${id} ${token}\n`).join("")
      assert.strictEqual(link.backlog(), text.length)
      for (const id of ids) assert.strictEqual(yield* peer.line, `text ${id} ${token}`)
      assert.deepStrictEqual([writes, link.backlog()], [[text], 0])
    }))

  it.effect("matches answers by order", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect
      const [first, second, third] = [request("a"), request("b", "pong", { type: "ping" }), request("c")]
      yield* say(ack("uds-1"), pong, ack("uds-2"))
      assert.deepStrictEqual(yield* third.exit, stored("uds-2"))
      assert.deepStrictEqual(ends([first, second]), [[stored("uds-1")], [
        Exit.succeed({ id: Option.none(), data: "" })
      ]])
    }))

  it.effect("asks for more once for all that has arrived together", () =>
    Effect.gen(function*() {
      const { proceeded, request, say } = yield* connect
      const requests = ["a", "b", "c"].map((id) => request(id))
      yield* say(...requests.map(({ messageId }) => ack(messageId)))
      for (const { exit } of requests) yield* exit
      yield* Effect.yieldNow
      assert.strictEqual(proceeded(), 1)
    }))

  it.effect("takes an ack without an id, or with one that is no text", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect
      const [first, second] = [request("a"), request("b")]
      yield* say({ type: "response" }, { type: "response", data: "stored", meta: { id: 1 } })
      assert.deepStrictEqual([yield* first.exit, yield* second.exit], [
        Exit.succeed({ id: Option.none(), data: "" }),
        Exit.succeed({ id: Option.none(), data: "stored" })
      ])
    }))

  it.effect("keeps the place of a request that is not in flight any more", () =>
    Effect.gen(function*() {
      const { forget, request, say } = yield* connect
      const [first, second] = [request("a"), request("b")]
      forget(first)
      yield* say(ack("uds-1"), ack("uds-2"))
      assert.deepStrictEqual(yield* second.exit, stored("uds-2"))
      assert.deepStrictEqual(first.ends, [])
    }))

  it.effect("gives the answer of a request that has gone to none that took its id", () =>
    Effect.gen(function*() {
      const { forget, request, say } = yield* connect
      forget(request("a"))
      const again = request("a")
      yield* say(ack("uds-1"), ack("uds-2"))
      assert.deepStrictEqual(yield* again.exit, stored("uds-2"))
    }))

  it.effect("skips blank lines, other types and what is no message", () =>
    Effect.gen(function*() {
      const { peer, request, say } = yield* connect
      const { exit } = request("a")
      yield* peer.write("\n \t\r\n{}\n{\"type\":\"shout\"}\n{\"type\":\"response\",\"data\":1}\n")
      yield* say({ type: "text", data: "a" }, { type: "error", data: null }, { type: "response", meta: [] })
      yield* say(ack("uds-7"))
      assert.deepStrictEqual(yield* exit, stored("uds-7"))
    }))

  it.effect("takes a pong for nothing but a ping", () =>
    Effect.gen(function*() {
      const { request, say } = yield* connect
      const [first, ping] = [request("a"), request("b", "pong", { type: "ping" })]
      yield* say(pong, ack("uds-1"), pong)
      yield* ping.exit
      assert.deepStrictEqual(first.ends, [stored("uds-1")])
    }))

  it.effect("drops an answer that nothing asked for", () =>
    Effect.gen(function*() {
      const { peer, request, running, say } = yield* connect
      yield* say(pong, ack("uds-1"))
      yield* Effect.yieldNow
      const { exit } = request("a")
      yield* peer.line
      yield* say(ack("uds-2"))
      assert.deepStrictEqual(yield* exit, stored("uds-2"))
      assert.isUndefined(running.pollUnsafe())
    }))

  for (const [until, what] of [["handled", "receipts"], ["answered", "answers"]] as const) {
    it.effect(`has no ${what}: fails without a byte written, and goes on`, () =>
      Effect.gen(function*() {
        const { peer, request, say, writes } = yield* connect
        const refused = request("a", until)
        assert.deepStrictEqual(refused.ends, [Exit.fail(fail(new NotSupported({ socketPath, what })))])
        const { exit } = request("b")
        yield* peer.line
        assert.deepStrictEqual(writes, [`text b ${token}\n`])
        yield* say(ack("uds-1"))
        assert.deepStrictEqual(yield* exit, stored("uds-1"))
      }))
  }

  it.effect("fails what no frame holds without a byte written, and goes on", () =>
    Effect.gen(function*() {
      const { peer, request, say, writes } = yield* connect
      const refused = request("a", "stored", { type: "text", data: "too large" })
      assert.deepStrictEqual(refused.ends, [Exit.fail(tooLarge)])
      const { exit } = request("b")
      yield* peer.line
      assert.strictEqual(writes.length, 1)
      yield* say(ack("uds-1"))
      assert.deepStrictEqual(yield* exit, stored("uds-1"))
    }))
})

describe("a refusal in protocol 1", () => {
  const refusals: ReadonlyArray<readonly [string, Exit.Exit<never, MessagingError>]> = [
    ["inbox full", full],
    ["invalid frame", rejected("invalid frame")],
    ["failed", rejected("failed")],
    ["idle timeout", rejected("idle timeout")],
    ["authentication timeout", rejected("authentication timeout")]
  ]
  for (const [text, expected] of refusals) {
    it.effect(`fails the oldest request and settles none behind it: ${text}`, () =>
      Effect.gen(function*() {
        const { end, idsInFlight, peer, request, say } = yield* connect
        const requests = ["a", "b", "c"].map((id) => request(id))
        yield* say(error(text))
        yield* peer.end
        assert.deepStrictEqual(yield* end, { _tag: "Refused" })
        assert.deepStrictEqual(ends(requests), [[expected], [], []])
        assert.deepStrictEqual(idsInFlight(), ["b", "c"])
      }))
  }

  it.effect("of a request that is not in flight any more fails none", () =>
    Effect.gen(function*() {
      const { end, forget, peer, request, say } = yield* connect
      const requests = [request("a"), request("b")] as const
      forget(requests[0])
      yield* say(error("inbox full"))
      yield* peer.end
      assert.deepStrictEqual(yield* end, { _tag: "Refused" })
      assert.deepStrictEqual(ends(requests), [[], []])
    }))

  it.effect("for want of anything to do fails none of those that cross it", () =>
    Effect.gen(function*() {
      const { end, peer, request, say } = yield* connect
      const first = request("a")
      yield* say(ack("uds-1"))
      yield* first.exit
      const crossing = [request("b"), request("c")]
      yield* say(error("idle timeout"))
      yield* peer.end
      assert.deepStrictEqual(yield* end, { _tag: "Refused" })
      assert.deepStrictEqual(ends(crossing), [[], []])
    }))

  it.effect("is heard together with the answers before it", () =>
    Effect.gen(function*() {
      const { end, peer, request, say } = yield* connect
      const requests = ["a", "b", "c"].map((id) => request(id))
      yield* say(ack("uds-1"), error("inbox full"))
      yield* peer.end
      yield* end
      assert.deepStrictEqual(ends(requests), [[stored("uds-1")], [full], []])
    }))

  for (const together of [true, false]) {
    it.effect(`lets a peer that reads on be heard, ${together ? "in the same" : "in another"} write`, () =>
      Effect.gen(function*() {
        const { end, peer, request, say } = yield* connect
        const requests = ["a", "b", "c", "d"].map((id) => request(id))
        if (together) yield* say(error("inbox full"), ack("uds-1"), error("inbox full"), ack("uds-2"))
        else {
          yield* say(error("inbox full"))
          yield* say(ack("uds-1"))
          yield* say(error("inbox full"))
          yield* say(ack("uds-2"))
        }
        yield* peer.end
        assert.deepStrictEqual(yield* end, { _tag: "Refused" })
        // The second error is not one of protocol 1, so it says nothing.
        assert.deepStrictEqual(ends(requests), [[full], [stored("uds-1")], [stored("uds-2")], []])
      }))
  }

  it.effect("asks for nothing more to send, and says that there is no room", () =>
    Effect.gen(function*() {
      const { link, peer, proceeded, request, say } = yield* connect
      const [first, second] = [request("a"), request("b")]
      yield* peer.line
      yield* say(error("inbox full"))
      yield* first.exit
      yield* Effect.yieldNow
      assert.deepStrictEqual([proceeded(), link.backlog()], [0, Infinity])
      yield* say(ack("uds-1"))
      yield* second.exit
      yield* Effect.yieldNow
      assert.strictEqual(proceeded(), 0)
    }))

  it.effect("ends the connection after the closing timeout where the peer does not, whatever it says", () =>
    Effect.gen(function*() {
      const { end, request, running, say } = yield* connect
      const [first, second] = [request("a"), request("b")]
      yield* say(error("inbox full"))
      yield* first.exit
      yield* TestClock.adjust("600 millis")
      yield* say({ type: "text" })
      yield* TestClock.adjust("399 millis")
      assert.isUndefined(running.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* end, { _tag: "Refused" })
      assert.deepStrictEqual(second.ends, [])
    }))

  it.effect("settles none where what follows it is no frame", () =>
    Effect.gen(function*() {
      const { end, peer, request, say } = yield* connect
      const requests = [request("a"), request("b")]
      yield* say(error("inbox full"))
      yield* peer.write("{]\n")
      assert.deepStrictEqual(yield* end, { _tag: "Refused" })
      assert.deepStrictEqual(ends(requests), [[full], []])
    }))
})

describe("a link of protocol 1 ends", () => {
  it.effect("distrusted when the peer does not know the token, at once, and settles no request", () =>
    Effect.gen(function*() {
      const { end, request, say } = yield* connect
      const requests = [request("a"), request("b")]
      yield* say(error("unauthorized"), ack("uds-1"))
      const found = yield* end
      assert.deepStrictEqual(found, { _tag: "Distrusted", error: fail(new Unauthorized({ socketPath })) })
      assert.deepStrictEqual(ends(requests), [[], []])
    }))

  for (const how of ["hangs up", "closes its side"] as const) {
    it.effect(`lost when the peer ${how}, after what it said before`, () =>
      Effect.gen(function*() {
        const { end, peer, request, say } = yield* connect
        const requests = [request("a"), request("b")]
        yield* say(ack("uds-1"))
        yield* how === "hangs up" ? peer.hangUp : peer.end
        assert.deepStrictEqual(yield* end, { _tag: "Lost" })
        assert.deepStrictEqual(ends(requests), [[stored("uds-1")], []])
      }))
  }

  it.effect("lost when the peer says what is no frame, which fails the oldest request", () =>
    Effect.gen(function*() {
      const { end, peer, request } = yield* connect
      const requests = ["a", "b", "c"].map((id) => request(id))
      yield* peer.write(`${JSON.stringify(ack("uds-1"))}\n{"secret":\n`)
      assert.deepStrictEqual(yield* end, { _tag: "Lost" })
      const invalid = Exit.fail(fail(new InvalidReply({ socketPath, problem: "frame is not JSON" })))
      assert.deepStrictEqual(ends(requests), [[stored("uds-1")], [invalid], []])
    }))

  it.effect("lost when it is closed itself", () =>
    Effect.gen(function*() {
      const { close, end, request } = yield* connect
      const { ends } = request("a")
      yield* close
      assert.deepStrictEqual([yield* end, ends], [{ _tag: "Lost" }, []])
    }))

  it.effect("with the token in none of its errors, whatever the peer says", () =>
    Effect.gen(function*() {
      const texts: Array<string> = []
      for (const said of [`${token}\n`, `{"type":"error","data":"unauthorized","x":"${token}"}\n`, `${token}{`]) {
        const { end, peer, request } = yield* connect
        const requests = [request("a"), request("b")]
        yield* peer.line
        yield* peer.write(said)
        yield* peer.end
        const found = yield* end
        const errors = [...requests.flatMap(({ ends }) => ends), found]
        texts.push(...errors.map((error) => `${JSON.stringify(error)} ${String(error)}`))
      }
      assert.isAbove(texts.length, 3)
      assert.notInclude(texts.join(" "), token)
    }))
})

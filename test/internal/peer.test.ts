import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, type Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  ConnectionLost,
  MessagingError,
  PeerNotFound,
  PeerUnreachable,
  Rejected,
  Timeout,
  Unauthorized
} from "../../src/MessagingError.ts"
import type { Noted } from "../utils/carrying.ts"
import { answerTo, makeScripted, socketPath } from "../utils/scriptedPeer.ts"

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })
const failed = (reason: MessagingError["reason"]) => Exit.fail(fail(reason))
const lost = (mayBeStored: boolean) => failed(new ConnectionLost({ socketPath, mayBeStored }))
const late = (mayBeStored: boolean) => failed(new Timeout({ socketPath, mayBeStored }))
const notFound = new PeerNotFound({ socketPath })
const unreachable = new PeerUnreachable({ socketPath, code: "ECONNREFUSED" })
const unauthorized = new Unauthorized({ socketPath })
const rejected = new Rejected({ socketPath, text: "no" })
const answered = (id: string) => Exit.succeed(answerTo(id))
const ends = (requests: ReadonlyArray<Noted>) => requests.map(({ ends }) => ends)

const Lost = { _tag: "Lost" } as const
const Refused = { _tag: "Refused" } as const

const check = (behaviour: string, body: () => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.effect(behaviour, () => Effect.suspend(body))

/** Lets what is ready run. */
const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("a peer hands over", () => {
  check("what was asked, in order, over one connection", () =>
    Effect.gen(function*() {
      const { ask, connection, connections } = yield* makeScripted()
      const requests = ["a", "b", "c"].map((id) => ask(id))
      yield* settle
      assert.deepStrictEqual(connection().handed, ["a", "b", "c"])
      connection().answer("b", "a", "c")
      assert.deepStrictEqual(ends(requests), [[answered("a")], [answered("b")], [answered("c")]])
      assert.strictEqual(connections.length, 1)
    }))

  check("at once where there is room", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      ask("a")
      yield* settle
      ask("b")
      assert.deepStrictEqual(connection().handed, ["a", "b"])
    }))

  check("no more messages than the limit, and the next when one is done with", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted({ limits: { maxInFlightMessages: 2 } })
      const [, b] = ["a", "b", "c", "d", "e", "f"].map((id) => ask(id, { deadline: id === "c" ? 10 : Infinity }))
      yield* settle
      const { answer, handed, refuse } = connection()
      assert.deepStrictEqual(handed, ["a", "b"])
      answer("a")
      assert.deepStrictEqual(handed, ["a", "b", "c"])
      peer().abandon(b as Noted)
      assert.deepStrictEqual(handed, ["a", "b", "c", "d"])
      peer().expire(10)
      assert.deepStrictEqual(handed, ["a", "b", "c", "d", "e"])
      refuse("d", fail(rejected))
      assert.deepStrictEqual(handed, ["a", "b", "c", "d", "e", "f"])
    }))

  check("no more bytes than the limit", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted({ limits: { maxInFlightBytes: 10 } })
      for (const [id, size] of [["a", 6], ["b", 4], ["c", 1], ["d", 1]] as const) {
        ask(id, { frame: "x".repeat(size) })
      }
      yield* settle
      const { answer, handed } = connection()
      assert.deepStrictEqual(handed, ["a", "b"])
      answer("b")
      assert.deepStrictEqual(handed, ["a", "b", "c", "d"])
    }))

  check("a message larger than all bytes allowed, alone", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted({ limits: { maxInFlightBytes: 10 } })
      for (const [id, size] of [["a", 1], ["b", 20], ["c", 1]] as const) ask(id, { frame: "x".repeat(size) })
      yield* settle
      const { answer, handed } = connection()
      assert.deepStrictEqual(handed, ["a"])
      answer("a")
      assert.deepStrictEqual(handed, ["a", "b"])
      answer("b")
      assert.deepStrictEqual(handed, ["a", "b", "c"])
    }))

  check("nothing past what waits, however small", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted({ limits: { maxInFlightBytes: 10 } })
      ask("a", { frame: "x".repeat(6) })
      yield* settle
      ask("b", { frame: "x".repeat(6) })
      ask("c", { frame: "x" })
      assert.deepStrictEqual(connection().handed, ["a"])
    }))

  check("what is behind a message that waited and was given up", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted({ limits: { maxInFlightBytes: 10 } })
      ask("a", { frame: "x".repeat(6) })
      yield* settle
      const b = ask("b", { frame: "x".repeat(6) })
      ask("c", { frame: "x" })
      peer().abandon(b)
      assert.deepStrictEqual([connection().handed, b.ends], [["a", "c"], []])
    }))

  check("what is behind a message that waited past its deadline", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted({ limits: { maxInFlightBytes: 10 } })
      ask("a", { frame: "x".repeat(6) })
      yield* settle
      const b = ask("b", { frame: "x".repeat(6), deadline: 10 })
      ask("c", { frame: "x" })
      peer().expire(10)
      assert.deepStrictEqual([connection().handed, b.ends], [["a", "c"], [late(false)]])
    }))

  check("nothing while the socket has not taken what it was given, then in order", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted({ limits: { maxInFlightBytes: 10 } })
      ask("a", { frame: "x" })
      yield* settle
      connection().backlog = 10
      ask("b", { frame: "x" })
      assert.deepStrictEqual(connection().handed, ["a"])
      connection().backlog = 9
      ask("c", { frame: "x" })
      assert.deepStrictEqual(connection().handed, ["a", "b", "c"])
    }))
})

describe("a peer whose connection is lost", () => {
  check("connects again and keeps the order, with what came meanwhile behind", () =>
    Effect.gen(function*() {
      const { ask, connection, connections, told } = yield* makeScripted({ limits: { maxInFlightMessages: 3 } })
      for (const id of ["a", "b", "c", "d"]) ask(id)
      yield* settle
      connection().answer("b")
      connection().end(Lost)
      ask("e")
      yield* settle
      assert.deepStrictEqual(connections.map(({ handed }) => handed), [["a", "b", "c", "d"], ["a", "c", "d"]])
      connection().answer("d", "c", "a")
      assert.deepStrictEqual(connection().handed, ["a", "c", "d", "e"])
      assert.deepStrictEqual([told.retried, connections.map(({ isOpen }) => isOpen())], [3, [false, true]])
    }))

  check("hands nothing to the connection that has ended", () =>
    Effect.gen(function*() {
      const { ask, connection, connections } = yield* makeScripted()
      ask("a")
      yield* settle
      connection().answer("a")
      connection().end(Lost)
      ask("b")
      yield* settle
      assert.deepStrictEqual(connections.map(({ handed }) => handed), [["a"], ["b"]])
    }))

  check(
    "fails what was on it, in doubt, where it must not be repeated, and sends the rest",
    () =>
      Effect.gen(function*() {
        const { ask, connection, connections, told } = yield* makeScripted({
          isRepeatable: false,
          limits: { maxInFlightMessages: 2 }
        })
        const requests = ["a", "b", "c", "d"].map((id) => ask(id))
        yield* settle
        connection().answer("a")
        connection().end(Lost)
        yield* settle
        assert.deepStrictEqual(ends(requests), [[answered("a")], [lost(true)], [lost(true)], []])
        assert.deepStrictEqual([connections[1]?.handed, told.retried], [["d"], 0])
      })
  )

  check(
    "repeats what was behind a refusal, where nothing else may be repeated, without doubt",
    () =>
      Effect.gen(function*() {
        const { ask, connection, peer, told } = yield* makeScripted({ isRepeatable: false })
        const [a, b] = [ask("a"), ask("b", { deadline: 10 })]
        yield* settle
        connection().refuse("a", fail(rejected))
        connection().end(Refused)
        yield* settle
        assert.deepStrictEqual([connection().handed, told.retried], [["b"], 1])
        connection().end(Refused)
        peer().expire(10)
        assert.deepStrictEqual(ends([a, b]), [[failed(rejected)], [late(false)]])
      })
  )

  check("keeps the doubt of what it had sent once", () =>
    Effect.gen(function*() {
      let isGone = false
      const connect = Effect.suspend(() => isGone ? Effect.never : Effect.void)
      const { ask, connection, peer } = yield* makeScripted({ connect })
      const [a, b] = [ask("a", { deadline: 10 }), ask("b", { deadline: 20 })]
      yield* settle
      isGone = true
      connection().answer("b")
      connection().end(Lost)
      yield* settle
      const c = ask("c", { deadline: 10 })
      peer().expire(10)
      assert.deepStrictEqual(ends([a, b, c]), [[late(true)], [answered("b")], [late(false)]])
    }))

  check("fails all with the reason where it distrusts the peer, and connects no more", () =>
    Effect.gen(function*() {
      const { ask, connection, told } = yield* makeScripted({ limits: { maxInFlightMessages: 1 } })
      const requests = ["a", "b"].map((id) => ask(id))
      yield* settle
      connection().end({ _tag: "Distrusted", error: fail(unauthorized) })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(ends(requests), [[failed(unauthorized)], [failed(unauthorized)]])
      assert.deepStrictEqual(told, { ended: 1, retried: 0, tried: 1 })
    }))
})

describe("a peer that cannot be reached", () => {
  for (const reason of [notFound, unreachable]) {
    check(`fails all at once: ${reason._tag}`, () =>
      Effect.gen(function*() {
        const connect = Effect.andThen(Effect.yieldNow, Effect.fail(fail(reason)))
        const { ask, told } = yield* makeScripted({ connect })
        const requests = [ask("a"), ask("b", { retryWhenFull: true })]
        yield* settle
        assert.deepStrictEqual(ends(requests), [[failed(reason)], [failed(reason)]])
        assert.deepStrictEqual(told, { ended: 1, retried: 0, tried: 1 })
      }))

    check(`fails what it had sent in doubt, the rest without: ${reason._tag}`, () =>
      Effect.gen(function*() {
        let isGone = false
        const connect = Effect.suspend(() => isGone ? Effect.fail(fail(reason)) : Effect.void)
        const { ask, connection } = yield* makeScripted({ connect, limits: { maxInFlightMessages: 1 } })
        const requests = ["a", "b", "c"].map((id) => ask(id))
        yield* settle
        connection().answer("a")
        isGone = true
        connection().end(Lost)
        yield* settle
        assert.deepStrictEqual(ends(requests), [[answered("a")], [lost(true)], [failed(reason)]])
      }))
  }

  check("fails what it had sent in doubt whatever the reason, and the rest with it", () =>
    Effect.gen(function*() {
      let isGone = false
      const connect = Effect.suspend(() => isGone ? Effect.fail(fail(unauthorized)) : Effect.void)
      const { ask, connection } = yield* makeScripted({ connect })
      const { ends } = ask("a")
      yield* settle
      isGone = true
      connection().end(Lost)
      const late = ask("b")
      yield* TestClock.adjust(100)
      assert.deepStrictEqual([ends, late.ends], [[lost(true)], [failed(unauthorized)]])
    }))

  check("is tried again after 10 ms, then ever later up to 400 ms, while somebody waits", () =>
    Effect.gen(function*() {
      const connect = Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false })))
      const { ask, peer, told } = yield* makeScripted({ connect })
      const { ends } = ask("a", { deadline: 20_000 })
      yield* settle
      assert.strictEqual(told.tried, 1)
      yield* TestClock.adjust(7)
      assert.strictEqual(told.tried, 1)
      yield* TestClock.adjust(5)
      assert.strictEqual(told.tried, 2)
      // 10, 20, 40, 80, 160, 320 and then 400 each, give or take a fifth.
      yield* TestClock.adjust(10_000)
      const sofar = told.tried
      assert.isAtLeast(sofar, 6 + Math.floor((10_000 - 760) / 480))
      assert.isAtMost(sofar, 8 + Math.ceil((10_000 - 480) / 320))
      peer().expire(20_000)
      assert.deepStrictEqual(ends, [late(false)])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([told.tried, told.ended], [sofar, 1])
    }))

  check("is not connected to for nobody, once all have given up", () =>
    Effect.gen(function*() {
      let isThere = false
      const connect = Effect.suspend(() =>
        isThere ? Effect.void : Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false })))
      )
      const { ask, connections, peer, told } = yield* makeScripted({ connect })
      const request = ask("a")
      yield* settle
      peer().abandon(request)
      isThere = true
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([connections.length, told.ended, request.ends], [0, 1, []])
    }))

  check(
    "is tried again later after a connection of no use, and at once after one of use",
    () =>
      Effect.gen(function*() {
        const { ask, connection, connections } = yield* makeScripted()
        ask("a")
        yield* settle
        connection().end(Lost)
        yield* TestClock.adjust(7)
        assert.strictEqual(connections.length, 1)
        yield* TestClock.adjust(5)
        assert.strictEqual(connections.length, 2)
        connection().end(Lost)
        yield* TestClock.adjust(15)
        assert.strictEqual(connections.length, 2)
        yield* TestClock.adjust(9)
        assert.strictEqual(connections.length, 3)
        ask("b")
        connection().answer("a")
        connection().end(Lost)
        yield* settle
        assert.strictEqual(connections.length, 4)
        // And the next one waits as little as the first.
        connection().end(Lost)
        yield* TestClock.adjust(12)
        assert.strictEqual(connections.length, 5)
      })
  )

  check("takes a refusal for use", () =>
    Effect.gen(function*() {
      const { ask, connection, connections } = yield* makeScripted()
      const [a, b] = [ask("a"), ask("b")]
      yield* settle
      connection().refuse("a", fail(rejected))
      connection().end(Refused)
      yield* settle
      assert.deepStrictEqual([connections.length, a.ends, b.ends], [2, [failed(rejected)], []])
    }))
})

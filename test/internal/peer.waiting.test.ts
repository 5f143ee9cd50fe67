import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Option, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { ConnectionLost, InboxFull, MessagingError, Rejected, Timeout } from "../../src/MessagingError.ts"
import type { Noted } from "../utils/carrying.ts"
import { answerTo, makeScripted, socketPath } from "../utils/scriptedPeer.ts"

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })
const late = (mayBeStored: boolean) => Exit.fail(fail(new Timeout({ socketPath, mayBeStored })))
const rejected = fail(new Rejected({ socketPath, text: "no" }))
const full = (millis?: number) =>
  fail(new InboxFull({ socketPath, retryAfter: Option.map(Option.fromUndefinedOr(millis), Duration.millis) }))
const answered = (id: string) => Exit.succeed(answerTo(id))
const ends = (requests: ReadonlyArray<Noted>) => requests.map(({ ends }) => ends)

const Lost = { _tag: "Lost" } as const

const check = (behaviour: string, body: () => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.effect(behaviour, () => Effect.suspend(body))

/** Lets what is ready run. */
const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("a peer nobody asks", () => {
  check("closes its connection once it has been of no use for a while, not before", () =>
    Effect.gen(function*() {
      const { ask, connection, told } = yield* makeScripted()
      ask("a")
      yield* settle
      yield* TestClock.adjust("3 seconds")
      connection().answer("a")
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual([connection().isOpen(), told.ended], [true, 0])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual([connection().isOpen(), told.ended], [false, 1])
    }))

  check("is not kept connected by what it says unasked", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted({ limits: { connectionTimeout: Duration.seconds(2) } })
      ask("a")
      yield* settle
      connection().answer("a")
      connection().hear()
      yield* TestClock.adjust("1500 millis")
      connection().hear()
      yield* TestClock.adjust("499 millis")
      assert.isTrue(connection().isOpen())
      yield* TestClock.adjust("1 millis")
      assert.isFalse(connection().isOpen())
    }))

  check("stays connected while something is outstanding, and the whole time after", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      ask("a")
      yield* settle
      yield* TestClock.adjust("33 seconds")
      connection().answer("a")
      yield* TestClock.adjust("9999 millis")
      assert.isTrue(connection().isOpen())
      yield* TestClock.adjust("1 millis")
      assert.isFalse(connection().isOpen())
    }))

  check("stays connected while something waits for room in the inbox", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      const a = ask("a", { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(60_000))
      yield* TestClock.adjust("50 seconds")
      assert.deepStrictEqual([connection().isOpen(), a.ends], [true, []])
    }))

  check("is another one when it is asked again", () =>
    Effect.gen(function*() {
      const { ask, connection, connections } = yield* makeScripted()
      ask("a")
      yield* settle
      connection().answer("a")
      yield* TestClock.adjust("10 seconds")
      ask("b")
      yield* settle
      assert.deepStrictEqual(connections.map(({ handed }) => handed), [["a"], ["b"]])
    }))
})

describe("a deadline", () => {
  check("ends what is due and says when the next is", () =>
    Effect.gen(function*() {
      const { ask, peer } = yield* makeScripted()
      const requests = [30, 10, 20, 10, Infinity].map((deadline, n) => ask(`${n}`, { deadline }))
      yield* settle
      assert.strictEqual(peer().expire(9.9), 10)
      assert.deepStrictEqual(ends(requests), [[], [], [], [], []])
      assert.strictEqual(peer().expire(10), 20)
      assert.deepStrictEqual(ends(requests), [[], [late(true)], [], [late(true)], []])
      assert.strictEqual(peer().expire(100), Infinity)
      assert.deepStrictEqual(ends(requests), [[late(true)], [late(true)], [late(true)], [late(true)], []])
    }))

  check("of what was sent leaves a doubt, of what was not leaves none", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted({ limits: { maxInFlightMessages: 2 } })
      const refused = ask("a", { deadline: 10, retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(1_000))
      const [sent, waiting] = [ask("b", { deadline: 10 }), ask("c", { deadline: 10, retryWhenFull: true })]
      peer().expire(10)
      assert.deepStrictEqual(ends([refused, sent, waiting]), [[late(false)], [late(true)], [late(false)]])
    }))

  check("ends a connection with it that has answered nothing of what was sent", () =>
    Effect.gen(function*() {
      const { ask, connections, peer, told } = yield* makeScripted({ limits: { maxInFlightMessages: 1 } })
      ask("a", { deadline: 10 })
      ask("b")
      yield* settle
      peer().expire(10)
      yield* settle
      assert.deepStrictEqual(connections.map(({ handed, isOpen }) => [handed, isOpen()]), [[["a"], false], [
        ["b"],
        true
      ]])
      // It was not lost: nothing is sent again.
      assert.strictEqual(told.retried, 0)
    }))

  check("leaves a connection that has something else in flight", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted()
      ask("a", { deadline: 10 })
      const b = ask("b")
      yield* settle
      peer().expire(10)
      yield* settle
      assert.isTrue(connection().isOpen())
      connection().answer("b")
      assert.deepStrictEqual(b.ends, [answered("b")])
    }))

  check("leaves a connection over which the peer has acked the request", () =>
    Effect.gen(function*() {
      const { ask, connection, connections, peer } = yield* makeScripted()
      ask("a", { deadline: 10, until: "answered" })
      yield* settle
      connection().ack("a", "uds-1")
      peer().expire(10)
      yield* settle
      ask("b")
      assert.deepStrictEqual(connections.map(({ handed, isOpen }) => [handed, isOpen()]), [[["a", "b"], true]])
    }))

  check("leaves a connection on which nothing was in flight", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted()
      ask("a", { deadline: 10, retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(60_000))
      peer().expire(10)
      yield* settle
      assert.isTrue(connection().isOpen())
    }))

  check("lets the next request have a connection of its own after a mute one", () =>
    Effect.gen(function*() {
      const { ask, connection, connections, peer } = yield* makeScripted()
      for (const [n, id] of ["a", "b", "c"].entries()) {
        ask(id, { deadline: n })
        yield* settle
        peer().expire(n)
        yield* settle
      }
      ask("d")
      yield* settle
      connection().answer("d")
      assert.deepStrictEqual(connections.map(({ isOpen }) => isOpen()), [false, false, false, true])
    }))
})

describe("a full inbox", () => {
  check("fails what does not wait for room, and what is not told when there is some", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      const requests = [ask("a"), ask("b", { retryWhenFull: true }), ask("c", { retryWhenFull: true })]
      yield* settle
      connection().refuse("a", full(100))
      connection().refuse("b", full())
      connection().refuse("c", rejected)
      assert.deepStrictEqual(ends(requests), [[Exit.fail(full(100))], [Exit.fail(full())], [Exit.fail(rejected)]])
    }))

  check("is asked again when it said so, and up to a quarter later", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      const a = ask("a", { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(100))
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(connection().handed, ["a"])
      yield* TestClock.adjust(27)
      assert.deepStrictEqual(connection().handed, ["a", "a"])
      connection().answer("a")
      assert.deepStrictEqual(a.ends, [answered("a")])
    }))

  check("does not hold back for longer than a call may take, whatever it says", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      ask("a", { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(1e12))
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(connection().handed, ["a"])
      yield* TestClock.adjust("1252 millis")
      assert.deepStrictEqual(connection().handed, ["a", "a"])
    }))

  check("is not asked by what can wait, while the others pass", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      const patient = { retryWhenFull: true }
      for (const id of ["a", "b"]) ask(id, patient)
      yield* settle
      const { handed, refuse } = connection()
      refuse("a", full(100))
      ask("c", patient)
      ask("d")
      ask("e", patient)
      ask("f")
      assert.deepStrictEqual(handed, ["a", "b", "d", "f"])
      refuse("b", full(100))
      yield* TestClock.adjust(126)
      assert.deepStrictEqual(handed, ["a", "b", "d", "f", "a", "b", "c", "e"])
    }))

  check("is not asked by what can wait, though all that it refused have given up", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted()
      const a = ask("a", { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(100))
      peer().abandon(a)
      ask("b", { retryWhenFull: true })
      assert.deepStrictEqual(connection().handed, ["a"])
      yield* TestClock.adjust(126)
      assert.deepStrictEqual(connection().handed, ["a", "b"])
    }))

  check("is asked again in the old order, also by what waits for other reasons", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted({ limits: { maxInFlightMessages: 3 } })
      const patient = { retryWhenFull: true }
      ask("a", patient)
      ask("b")
      ask("c", patient)
      for (const id of ["d", "e"]) ask(id)
      yield* settle
      const { answer, handed, refuse } = connection()
      assert.deepStrictEqual(handed, ["a", "b", "c"])
      refuse("c", full(100))
      refuse("a", full(100))
      assert.deepStrictEqual(handed, ["a", "b", "c", "d", "e"])
      ask("f")
      ask("g", patient)
      yield* TestClock.adjust(126)
      answer("b", "d", "e")
      assert.deepStrictEqual(handed.slice(5), ["a", "c", "f"])
      answer("a")
      assert.deepStrictEqual(handed.slice(5), ["a", "c", "f", "g"])
    }))

  check("is asked once for all that it refused, at the first time it said", () =>
    Effect.gen(function*() {
      const { ask, connection } = yield* makeScripted()
      for (const id of ["a", "b"]) ask(id, { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(100))
      yield* TestClock.adjust(50)
      connection().refuse("b", full(100))
      yield* TestClock.adjust(76)
      assert.deepStrictEqual(connection().handed, ["a", "b", "a", "b"])
      connection().refuse("a", full(100))
      yield* TestClock.adjust(99)
      assert.strictEqual(connection().handed.length, 4)
      yield* TestClock.adjust(27)
      assert.deepStrictEqual(connection().handed, ["a", "b", "a", "b", "a"])
    }))

  check("is asked again over the next connection", () =>
    Effect.gen(function*() {
      const { ask, connection, connections } = yield* makeScripted()
      const a = ask("a", { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(100))
      connection().end(Lost)
      yield* settle
      assert.deepStrictEqual(connections.map(({ handed }) => handed), [["a"], []])
      yield* TestClock.adjust(126)
      connection().answer("a")
      assert.deepStrictEqual(a.ends, [answered("a")])
    }))
})

describe("closing a peer", () => {
  check("fails all there is, in doubt where it was sent", () =>
    Effect.gen(function*() {
      const { ask, connection, peer } = yield* makeScripted({ limits: { maxInFlightMessages: 2 } })
      const refused = ask("a", { retryWhenFull: true })
      yield* settle
      connection().refuse("a", full(100))
      const others = [ask("b"), ask("c"), ask("d"), ask("e", { retryWhenFull: true })]
      peer().close()
      const lost = (mayBeStored: boolean) => [Exit.fail(fail(new ConnectionLost({ socketPath, mayBeStored })))]
      assert.deepStrictEqual(ends([refused, ...others]), [
        lost(false),
        lost(true),
        lost(true),
        lost(false),
        lost(false)
      ])
    }))

  check("leaves a doubt that there was", () =>
    Effect.gen(function*() {
      let connects = 0
      const connect = Effect.suspend(() => connects++ === 0 ? Effect.void : Effect.never)
      const { ask, connection, peer } = yield* makeScripted({ connect })
      const [a] = [ask("a"), ask("b")]
      yield* settle
      connection().answer("b")
      connection().end(Lost)
      yield* settle
      peer().close()
      assert.deepStrictEqual(a.ends, [Exit.fail(fail(new ConnectionLost({ socketPath, mayBeStored: true })))])
    }))
})

/** What happens to a peer in the very step, or a few steps from it, in which something ends. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Option, type Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Request } from "../../src/internal/request.ts"
import { ConnectionLost, InboxFull, MessagingError, PeerNotFound, Rejected } from "../../src/MessagingError.ts"
import type { Noted } from "../utils/carrying.ts"
import { makeRandom, seed, sized } from "../utils/effort.ts"
import { answerTo, makeScripted, type ScriptedOptions, socketPath } from "../utils/scriptedPeer.ts"

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })
const rejected = fail(new Rejected({ socketPath, text: "no" }))
const full = fail(new InboxFull({ socketPath, retryAfter: Option.some(Duration.millis(100)) }))
const lost = fail(new ConnectionLost({ socketPath, mayBeStored: true }))
const notFound = fail(new PeerNotFound({ socketPath }))
const answered = (id: string) => Exit.succeed(answerTo(id))

const check = (behaviour: string, body: () => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.effect(behaviour, () => Effect.suspend(body))

const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

type Scripted = Effect.Success<ReturnType<typeof makeScripted>>
type Ending = readonly [name: string, ScriptedOptions, (peer: Scripted) => Effect.Effect<void>]

const sync = (step: (peer: Scripted) => void) => (peer: Scripted) => Effect.sync(() => step(peer))

/** Each brings a peer, whose request `a` is in flight or answered, to an end of its connection or its own. */
const endings: ReadonlyArray<Ending> = [
  [
    "its idle limit",
    {},
    (peer) => Effect.andThen(Effect.sync(() => peer.connection().answer("a")), TestClock.adjust("10 seconds"))
  ],
  [
    "a loss",
    {},
    sync((peer) => {
      peer.connection().answer("a")
      peer.connection().end({ _tag: "Lost" })
    })
  ],
  ["a loss with something in flight", {}, sync((peer) => peer.connection().end({ _tag: "Lost" }))],
  ["a loss of protocol 1", { isRepeatable: false }, sync((peer) => peer.connection().end({ _tag: "Lost" }))],
  [
    "a refusal",
    { isRepeatable: false },
    sync((peer) => {
      peer.connection().refuse("a", rejected)
      peer.connection().end({ _tag: "Refused" })
    })
  ],
  ["distrust", {}, sync((peer) => peer.connection().end({ _tag: "Distrusted", error: rejected }))],
  ["a mute connection", {}, sync((peer) => peer.peer().expire(10))]
]

/** The same, one piece of the scheduler or of the microtasks at a time. */
const turns: ReadonlyArray<readonly [string, Effect.Effect<void>]> = [
  ["turns of the scheduler", Effect.yieldNow],
  ["microtasks", Effect.promise(() => Promise.resolve())]
]

describe("what is asked of a peer around its end", () => {
  for (const [name, options, end] of endings) {
    for (const [unit, turn] of turns) {
      check(`is answered, 0 to 12 ${unit} after ${name}`, () =>
        Effect.gen(function*() {
          for (let wait = 0; wait <= 12; wait++) {
            let isEnding = false
            const peer = yield* makeScripted({
              ...options,
              // Everything after the end is answered as soon as it is handed over.
              onHandOver: (id, connection) => {
                if (isEnding) connection.answerSoon(id)
              }
            })
            const first = peer.ask("a", { deadline: 10 })
            yield* settle
            isEnding = true
            // The end takes its turns beside those counted here.
            const asking = Effect.andThen(
              wait === 0 ? Effect.void : Effect.repeat(turn, { times: wait - 1 }),
              Effect.sync(() => ["b", "c"].map((id) => peer.ask(id)))
            )
            const [late] = yield* Effect.all([asking, end(peer)], { concurrency: "unbounded" })
            yield* TestClock.adjust("1 second")
            assert.strictEqual(first.ends.length, 1, `${wait}`)
            for (const { ends, messageId } of late) {
              // What went with the connection may share its fate.
              const wasOnIt = peer.connections[0]?.handed.includes(messageId) === true
              const fate = name === "distrust"
                ? rejected
                : wasOnIt && name === "a loss of protocol 1"
                ? lost
                : undefined
              const expected = fate === undefined || ends[0]?._tag === "Success" ? answered(messageId) : Exit.fail(fate)
              assert.deepStrictEqual(ends, [expected], `${wait}`)
            }
          }
        }))
    }
  }

  for (const [name, options, end] of endings) {
    check(`is answered when the end of another request asks it: ${name}`, () =>
      Effect.gen(function*() {
        let isEnding = false
        const peer = yield* makeScripted({
          ...options,
          onHandOver: (id, connection) => {
            if (isEnding) connection.answerSoon(id)
          }
        })
        const late: Array<Noted> = []
        peer.ask("a", { deadline: 10, onEnd: () => late.push(peer.ask("b"), peer.ask("c")) })
        yield* settle
        isEnding = true
        yield* end(peer)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(late.map(({ ends }) => ends), [[answered("b")], [answered("c")]])
      }))
  }

  check("is answered when the end of all asks it, each time", () =>
    Effect.gen(function*() {
      let isThere = false
      const connect = Effect.andThen(
        Effect.yieldNow,
        Effect.suspend(() => isThere ? Effect.void : Effect.fail(notFound))
      )
      const { ask, connection, told } = yield* makeScripted({ connect })
      const again: Array<Noted> = []
      const onEnd = (id: string) => () => {
        isThere = true
        again.push(ask(id))
      }
      const first = [ask("a", { onEnd: onEnd("c") }), ask("b", { onEnd: onEnd("d") })]
      yield* settle
      assert.deepStrictEqual(first.map(({ ends }) => ends), [[Exit.fail(notFound)], [Exit.fail(notFound)]])
      connection().answer("c", "d")
      assert.deepStrictEqual(again.map(({ ends }) => ends), [[answered("c")], [answered("d")]])
      assert.strictEqual(told.ended, 1)
    }))

  check("goes to another peer when the end of the peer itself asks it", () =>
    Effect.gen(function*() {
      const late: Array<Noted> = []
      const peer = yield* makeScripted({
        onEnd: () => {
          if (late.length === 0) late.push(peer.ask("b"))
        }
      })
      peer.ask("a")
      yield* settle
      peer.connection().answer("a")
      yield* TestClock.adjust("10 seconds")
      peer.connection().answer("b")
      assert.deepStrictEqual(late.map(({ ends }) => ends), [[answered("b")]])
    }))
})

describe("a request that another's end gives up", () => {
  const cases: ReadonlyArray<readonly [string, ScriptedOptions, (peer: Scripted) => void]> = [
    ["at its deadline", {}, ({ peer }) => peer().expire(10)],
    ["by closing", {}, ({ peer }) => peer().close()],
    ["by a loss", { isRepeatable: false }, ({ connection }) => connection().end({ _tag: "Lost" })],
    ["by distrust", {}, ({ connection }) => connection().end({ _tag: "Distrusted", error: rejected })],
    ["by an answer", {}, ({ connection }) => connection().answer("a")]
  ]
  for (const [name, options, end] of cases) {
    check(`is told nothing: ${name}`, () =>
      Effect.gen(function*() {
        const peer = yield* makeScripted(options)
        const others: Array<Request> = []
        const a = peer.ask("a", {
          deadline: 10,
          onEnd: () => {
            for (const other of others) abandon(other)
          }
        })
        const [b, c] = [peer.ask("b", { deadline: 10 }), peer.ask("c", { deadline: 10, retryWhenFull: true })]
        others.push(b, c)
        yield* settle
        const { abandon } = peer.peer()
        peer.connection().refuse("c", full)
        end(peer)
        yield* settle
        assert.deepStrictEqual([a.ends.length, b.ends, c.ends], [1, [], []])
      }))
  }
})

const runs = sized(300, 20_000)

describe("a peer in random steps", () => {
  for (const isRepeatable of [true, false]) {
    check(
      `ends each request once, in ${runs} runs${isRepeatable ? "" : " where nothing may be repeated"}`,
      () =>
        Effect.gen(function*() {
          const random = makeRandom(seed)
          const below = (limit: number) => Math.floor(random() * limit)
          const pick = <A>(items: ReadonlyArray<A>) => items[below(items.length)] as A
          for (let run = 0; run < runs; run++) {
            let isThere = true
            const connect = Effect.suspend(() =>
              isThere ? Effect.void : Effect.fail(fail(new ConnectionLost({ socketPath, mayBeStored: false })))
            ).pipe((made) => below(2) === 0 ? made : Effect.delay(made, 5))
            const limits = { maxInFlightMessages: 1 + below(4), maxInFlightBytes: 4 + below(30) }
            const peer = yield* makeScripted({
              connect,
              isRepeatable,
              limits,
              onHandOver: (id, connection) => {
                const request = asked.get(id)
                if (request === undefined) throw new Error(id)
                assert.deepStrictEqual([...request.ends], [], "handed over after its end")
                assert.isFalse(abandoned.has(request), "handed over after it was given up")
                const flying = connection.inFlight()
                assert.isAtMost(flying.length, limits.maxInFlightMessages)
                const bytes = flying.reduce((sum, { frame }) => sum + frame.length, 0)
                assert.isTrue(flying.length === 1 || bytes <= limits.maxInFlightBytes, "bytes in flight")
              }
            })
            const asked = new Map<string, Noted>()
            const abandoned = new Set<Noted>()
            let ordinal = 0
            const ask = () => {
              const id = `${++ordinal}`
              const deadline = below(10) === 0 ? run * 1_000_000 + 1 : Infinity
              const made = { ordinal, deadline, frame: "x".repeat(1 + below(12)), retryWhenFull: below(3) === 0 }
              const request = peer.prepare(id, made)
              // Known before it is handed over.
              asked.set(id, request)
              peer.add(request)
            }
            for (let step = 0; step < 40; step++) {
              const connection = peer.connections.at(-1)
              const flying = connection?.inFlight() ?? []
              const dice = below(12)
              if (dice < 4) ask()
              else if (dice < 6 && flying.length > 0) connection?.answer(pick(flying).messageId)
              else if (dice === 6 && flying.length > 0) connection?.refuse(pick(flying).messageId, full)
              else if (dice === 7 && asked.size > 0) {
                const request = pick([...asked.values()])
                if (request.ends.length > 0 || abandoned.has(request)) continue
                abandoned.add(request)
                peer.peer().abandon(request)
              } else if (dice === 8) connection?.end({ _tag: pick(["Lost", "Refused"] as const) })
              else if (dice === 9) yield* TestClock.adjust(pick([1, 50, 126, 11_000]))
              else if (dice === 10) isThere = !isThere
              else yield* Effect.yieldNow
            }
            isThere = true
            for (let round = 0; round < 200; round++) {
              yield* TestClock.adjust(500)
              const connection = peer.connections.at(-1)
              for (const { messageId } of connection?.inFlight() ?? []) connection?.answer(messageId)
              if ([...asked.values()].every((request) => request.ends.length > 0 || abandoned.has(request))) break
            }
            for (const request of asked.values()) {
              assert.strictEqual(
                request.ends.length,
                abandoned.has(request) ? 0 : 1,
                `run ${run}: ${request.messageId}`
              )
            }
          }
        })
    )
  }
})

import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Fiber, Logger, References } from "effect"
import { TestClock } from "effect/testing"
import type { Progress } from "../src/internal/peerPool.ts"
import * as Limits from "../src/Limits.ts"
import { ack, error, makeEndpoint, ping, pong, serve, text } from "./utils/memoryPeer.ts"
import { auth, greet, serveProven2 } from "./utils/protocol2.ts"

type Endpoint = Effect.Success<ReturnType<typeof makeEndpoint>>

const wrongToken = `{"type":"ping","meta":{"authToken":"${"0".repeat(64)}"}}\n`
const noToken = "{\"type\":\"ping\"}\n"

/** The answer to a guess, once there is one. */
const guess = Effect.fnUntraced(function*({ connect }: Endpoint, frame = wrongToken) {
  const { peer } = yield* connect()
  yield* peer.write(frame)
  return yield* Effect.forkScoped(peer.rest, { startImmediately: true })
})

const isAnswered = (answer: Fiber.Fiber<unknown>) =>
  // The frame, its judgement and the answer each take some turns of the scheduler.
  Effect.as(Effect.repeat(Effect.yieldNow, { times: 50 }), undefined).pipe(
    Effect.map(() => answer.pollUnsafe() !== undefined)
  )

/** Waits in milliseconds until each of a row of guesses was answered, one after the other. */
const waits = Effect.fnUntraced(function*(endpoint: Endpoint, count: number, frame?: string) {
  const seen: Array<number> = []
  for (let n = 0; n < count; n++) {
    const answer = yield* guess(endpoint, frame)
    let waited = 0
    while (!(yield* isAnswered(answer))) {
      yield* TestClock.adjust("5 millis")
      waited += 5
    }
    seen.push(waited)
  }
  return seen
})

describe("Connection", () => {
  describe("a proof that is wrong", () => {
    it.effect("is answered at once four times, then ever later, at last after a second", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        // While one waits a little is forgotten, so the waits do not quite double.
        const seen = yield* waits(endpoint, 14)
        assert.deepStrictEqual(seen.slice(0, 4), [0, 0, 0, 0])
        for (const [i, wait] of seen.slice(4).entries()) {
          const before = seen[i + 3] ?? 0
          assert.isTrue(wait >= Math.min(before, 500) && wait <= 1_000, `${seen.join(" ")}`)
        }
        assert.isAtLeast(seen.at(-1) ?? 0, 500)
        assert.isAtLeast(seen.reduce((a, b) => a + b), 3_000)
      }))

    it.effect.each([
      { name: "an absent token", frame: noToken },
      { name: "a wrong token", frame: wrongToken }
    ])("says the same however long it waits: $name", ({ frame }) =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        yield* waits(endpoint, 9, wrongToken)
        const answer = yield* guess(endpoint, frame)
        yield* TestClock.adjust("1 seconds")
        assert.deepStrictEqual(
          (yield* Fiber.join(answer)).map((line) => line.replace(/"ts":"[^"]+"/, "\"ts\"")),
          [error("unauthorized").replace(/"ts":"[^"]+"/, "\"ts\"")]
        )
      }))

    it.effect("waits as long in protocol 2, and as long for an absent token as for a wrong one", () =>
      Effect.gen(function*() {
        const rows = []
        for (const frame of [noToken, wrongToken]) rows.push(yield* waits(yield* makeEndpoint(), 10, frame))
        assert.deepStrictEqual(rows[0], rows[1])
        const endpoint = yield* makeEndpoint()
        yield* waits(endpoint, 9)
        const { peer } = yield* endpoint.connect()
        const { nonce } = yield* greet(peer)
        yield* peer.write(auth(nonce, { key: "0".repeat(64) }))
        const answer = yield* Effect.forkScoped(peer.rest, { startImmediately: true })
        assert.isFalse(yield* isAnswered(answer))
        yield* TestClock.adjust("1 seconds")
        assert.strictEqual((yield* Fiber.join(answer)).length, 1)
      }))

    it.effect("does not wait less for a peer that closes its side", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        yield* waits(endpoint, 12)
        const { peer, session } = yield* endpoint.connect()
        yield* peer.write(wrongToken)
        yield* peer.end
        assert.isFalse(yield* isAnswered(session))
      }))

    it.effect("has only its own answer when the authentication deadline passes meanwhile", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        yield* waits(endpoint, 12)
        const { peer } = yield* endpoint.connect()
        yield* TestClock.adjust("1900 millis")
        yield* peer.write(wrongToken)
        const answer = yield* Effect.forkScoped(peer.rest, { startImmediately: true })
        yield* isAnswered(answer)
        yield* TestClock.adjust("1 seconds")
        const said = (yield* Fiber.join(answer)).map((line) => (JSON.parse(line) as { readonly data: string }).data)
        assert.deepStrictEqual(said, ["unauthorized"])
      }))

    it.effect("is forgotten after a second each", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        yield* waits(endpoint, 40)
        yield* TestClock.adjust("16 seconds")
        assert.deepStrictEqual(yield* waits(endpoint, 5), [0, 0, 0, 0, 10])
      }))

    it.effect("keeps nobody waiting who has the token, newcomer or proven", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        const proven = yield* endpoint.connect()
        yield* proven.peer.write(ping)
        assert.strictEqual(yield* proven.peer.line, pong())
        for (let n = 0; n < 50; n++) yield* guess(endpoint)
        const newcomer = yield* endpoint.connect()
        yield* newcomer.peer.write(ping)
        assert.strictEqual(yield* newcomer.peer.line, pong())
        yield* proven.peer.write(ping)
        assert.strictEqual(yield* proven.peer.line, pong())
      }))

    it.effect("never waits longer than the authentication timeout", () =>
      Effect.gen(function*() {
        const endpoint = yield* makeEndpoint()
        yield* waits(endpoint, 12)
        const answer = yield* guess(endpoint)
        yield* isAnswered(answer)
        yield* TestClock.adjust("100 millis")
        assert.strictEqual((yield* Fiber.join(answer)).length, 1)
      }).pipe(Effect.provide(Limits.layer({ authenticationTimeout: "100 millis" }))))

    it.effect.each([
      { name: "what is no frame", frame: "{\n" },
      { name: "what is no message", frame: text("a").replace("\"text\"", "\"shout\"") }
    ])("is not $name, which is answered at once", ({ frame }) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* waits(yield* makeEndpoint(), 20, frame), Array.from({ length: 20 }, () => 0))
      }))
  })

  describe("the log", () => {
    const logging = <A, E, R>(test: (logged: Array<string>) => Effect.Effect<A, E, R>) => {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        logged.push(`${logLevel} ${String(message)}`)
      })
      return test(logged).pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All")
      )
    }
    const said = (endpoint: Endpoint, frame: string) =>
      Effect.gen(function*() {
        const answer = yield* guess(endpoint, frame)
        yield* isAnswered(answer)
      })
    const warning = "Warn a connection was refused: it did not prove that it knows the token"
    const silent = "Debug a connection was refused: unauthorized"

    it.effect("warns of wrong proofs every ten seconds, and counts those between", () =>
      logging((logged) =>
        Effect.gen(function*() {
          const endpoint = yield* makeEndpoint()
          const after = (wait: Duration.Input, frame: string) =>
            Effect.andThen(TestClock.adjust(wait), said(endpoint, frame))
          yield* after("1 hour", wrongToken)
          yield* after("1 seconds", noToken)
          yield* after("8999 millis", wrongToken)
          assert.deepStrictEqual(logged, [warning, silent, silent])
          yield* after("1 millis", wrongToken)
          yield* after("10 seconds", wrongToken)
          assert.deepStrictEqual(logged.slice(3), [`${warning}, and 2 more since the last warning`, warning])
        })
      ))

    it.effect("tells of other refusals, and of nothing that was not refused, only whom it concerns", () =>
      logging((logged) =>
        Effect.gen(function*() {
          const endpoint = yield* makeEndpoint()
          for (const frame of ["null\n", `{"type":"text","data":"${"x".repeat(70_000)}"}\n`]) {
            yield* said(endpoint, frame)
          }
          yield* said(endpoint, "")
          yield* TestClock.adjust("2 seconds")
          yield* Effect.repeat(Effect.yieldNow, { times: 50 })
          assert.deepStrictEqual(logged, [
            "Debug a connection was refused: invalid",
            "Debug a connection was refused: too-large",
            "Debug a connection was refused: timeout"
          ])
        })
      ))
  })

  describe("tells the pool", () => {
    const marking = (marks: Array<Progress>) => ({ mark: (progress: Progress) => void marks.push(progress) })

    it.effect("when the first bytes arrive, and when the proof is wrong", () =>
      Effect.gen(function*() {
        const marks: Array<Progress> = []
        const { peer, session } = yield* serve(marking(marks))
        yield* isAnswered(session)
        assert.deepStrictEqual(marks, [])
        yield* peer.write("{")
        yield* isAnswered(session)
        assert.deepStrictEqual(marks, ["heard"])
        yield* peer.write("}\n")
        yield* peer.rest
        assert.deepStrictEqual(marks.slice(-1), ["refused"])
      }))

    it.effect("nothing of a peer that has the token but that it was heard", () =>
      Effect.gen(function*() {
        const marks: Array<Progress> = []
        const { peer } = yield* serveProven2(marking(marks))
        yield* peer.write(`{"type":"ping","meta":{"messageId":"a"}}\n`)
        yield* peer.line
        assert.deepStrictEqual([...new Set(marks)], ["heard"])
      }))
  })

  describe("more than one piece at once", () => {
    const many = Array.from({ length: 300 }, (_, n) => text(`${n}`.padStart(100)))

    it.effect("is judged in order", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        yield* Effect.forkScoped(peer.write(many.join("")))
        for (let n = 1; n <= many.length; n++) assert.strictEqual(yield* peer.line, ack(n))
        const stored = yield* inbox.drain
        assert.deepStrictEqual(stored.map(({ message }) => Number(message.data)), many.map((_, n) => n))
      }))

    it.effect("is judged up to the first bad frame and not behind it", () =>
      Effect.gen(function*() {
        const { inbox, peer } = yield* serve()
        yield* Effect.forkScoped(peer.write([...many.slice(0, 200), "bad\n", ...many.slice(200)].join("")))
        for (let n = 1; n <= 200; n++) assert.strictEqual(yield* peer.line, ack(n))
        assert.strictEqual(yield* peer.line, error("invalid frame"))
        yield* peer.hangUp
        assert.strictEqual((yield* inbox.size).entries, 200)
      }))
  })
})

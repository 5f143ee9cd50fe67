import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Metric, Redacted } from "effect"
import * as Capability from "../../src/Capability.ts"
import * as Connection from "../../src/Connection.ts"
import * as Inbox from "../../src/Inbox.ts"
import * as metrics from "../../src/internal/metrics.ts"
import * as peerPool from "../../src/internal/peerPool.ts"
import { defaults } from "../../src/Limits.ts"
import { connectMemory, socketPath, text, token } from "../utils/memoryPeer.ts"

/** A connection that stays until it is told to end, or is evicted; it has begun, or been turned away, when returned. */
const enter = Effect.fnUntraced(function*(pool: peerPool.PeerPool) {
  const told = yield* Deferred.make<void>()
  let place: peerPool.Place | undefined
  const fiber = yield* Effect.forkScoped(
    pool.run((given) => {
      place = given
      return Deferred.await(told)
    }),
    { startImmediately: true }
  )
  return {
    fiber,
    wasRun: place !== undefined,
    prove: () => place?.admit(),
    mark: (progress: peerPool.Progress) => place?.mark(progress),
    end: Effect.andThen(Deferred.succeed(told, undefined), Fiber.await(fiber)),
    fail: Effect.andThen(Deferred.die(told, "a fault"), Fiber.await(fiber)),
    interrupt: Fiber.interrupt(fiber)
  }
})

const enterProven = Effect.fnUntraced(function*(pool: peerPool.PeerPool) {
  const peer = yield* enter(pool)
  return { ...peer, admitted: peer.prove() }
})

const isConnected = (peer: { readonly fiber: Fiber.Fiber<void> }) => peer.fiber.pollUnsafe() === undefined

describe("peerPool", () => {
  describe("proven peers", () => {
    it.effect("admits as many as the limit", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 2, maxUnauthenticatedPeers: 2 })
        const peers = [yield* enterProven(pool), yield* enterProven(pool)]
        assert.deepStrictEqual(peers.map(({ admitted }) => admitted), [true, true])
      }))

    it.effect("does not run a connection while the limit is reached", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 2 })
        yield* enterProven(pool)
        const late = yield* enter(pool)
        yield* Fiber.join(late.fiber)
        assert.isFalse(late.wasRun)
      }))

    it.effect("does not admit one that entered before the limit was reached", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 2 })
        const slow = yield* enter(pool)
        yield* enterProven(pool)
        assert.isFalse(slow.prove())
      }))

    it.effect("keeps one proven that sends more, and one whose later proof is wrong", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 1 })
        const proven = yield* enterProven(pool)
        proven.mark("heard")
        proven.mark("refused")
        assert.isFalse((yield* enter(pool)).wasRun)
        assert.isTrue(isConnected(proven))
      }))

    it.effect("counts one once, however often it proves itself", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 2, maxUnauthenticatedPeers: 2 })
        const first = yield* enter(pool)
        assert.deepStrictEqual([first.prove(), first.prove(), first.prove()], [true, true, true])
        yield* first.end
        assert.deepStrictEqual([yield* enterProven(pool), yield* enterProven(pool)].map(({ admitted }) => admitted), [
          true,
          true
        ])
        assert.isFalse((yield* enter(pool)).wasRun)
      }))

    it.effect.each(["end", "fail", "interrupt"] as const)(
      "gives back the place of one after its %s",
      (way) =>
        Effect.gen(function*() {
          const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 1 })
          const first = yield* enterProven(pool)
          yield* first[way]
          const second = yield* enterProven(pool)
          assert.isTrue(second.admitted)
        })
    )

    it.effect("gives back no place for one that was not admitted", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 2 })
        const slow = yield* enter(pool)
        yield* enterProven(pool)
        slow.prove()
        yield* slow.end
        assert.isFalse((yield* enter(pool)).wasRun)
      }))
  })

  describe("unproven peers", () => {
    it.effect("turns the oldest out for a newcomer when the pool is full", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 3, maxUnauthenticatedPeers: 2 })
        const [first, second] = [yield* enter(pool), yield* enter(pool)]
        const third = yield* enter(pool)
        yield* Fiber.await(first.fiber)
        assert.deepStrictEqual([first, second, third].map(isConnected), [false, true, true])
      }))

    it.effect.each([
      { name: "one that was refused before all others", marks: ["", "heard", "refused", "refused"], out: 2 },
      { name: "the only one that was refused", marks: ["", "heard", "refused", ""], out: 2 },
      { name: "a silent one before one that has been heard", marks: ["heard", "heard", "", ""], out: 2 },
      {
        name: "the oldest that has been heard once more than half have",
        marks: ["", "heard", "heard", "heard"],
        out: 1
      },
      { name: "the oldest that has been heard when all have", marks: ["heard", "heard", "heard", "heard"], out: 0 },
      { name: "the oldest of those that say nothing", marks: ["", "", "", ""], out: 0 }
    ])("turns out $name", ({ marks, out }) =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 4 })
        const peers = []
        for (const mark of marks) {
          const peer = yield* enter(pool)
          if (mark === "heard" || mark === "refused") peer.mark(mark)
          peers.push(peer)
        }
        yield* enter(pool)
        yield* Effect.yieldNow
        assert.deepStrictEqual(peers.map(isConnected), marks.map((_, i) => i !== out))
      }))

    it.effect("counts every one of them once, whatever it has come to", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 2 })
        const turnedOut = yield* enter(pool)
        yield* enter(pool)
        yield* enter(pool)
        // Its fiber has not ended yet.
        turnedOut.mark("heard")
        const last = yield* enter(pool)
        last.mark("heard")
        last.mark("refused")
        yield* last.end
        const [a, b] = [yield* enter(pool), yield* enter(pool)]
        yield* Effect.yieldNow
        assert.deepStrictEqual([turnedOut, a, b].map(isConnected), [false, true, true])
      }))

    it.effect("turns nobody out before the pool is full", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 3, maxUnauthenticatedPeers: 2 })
        const peers = [yield* enter(pool), yield* enter(pool)]
        yield* Effect.yieldNow
        assert.deepStrictEqual(peers.map(isConnected), [true, true])
      }))

    it.effect("never turns out a proven peer, however old", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 3, maxUnauthenticatedPeers: 1 })
        const proven = yield* enterProven(pool)
        const crowd = [yield* enter(pool), yield* enter(pool), yield* enter(pool)]
        yield* Effect.forEach(crowd.slice(0, 2), ({ fiber }) => Fiber.await(fiber))
        assert.deepStrictEqual([proven, ...crowd].map(isConnected), [true, false, false, true])
      }))

    it.effect("do not count as proven peers", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 1, maxUnauthenticatedPeers: 3 })
        yield* enter(pool)
        yield* enter(pool)
        assert.isTrue((yield* enterProven(pool)).admitted)
      }))

    it.effect("leave their place to others when they prove themselves", () =>
      Effect.gen(function*() {
        const pool = peerPool.make({ maxPeers: 3, maxUnauthenticatedPeers: 2 })
        const first = yield* enter(pool)
        yield* enterProven(pool)
        yield* enter(pool)
        yield* Effect.yieldNow
        assert.isTrue(isConnected(first))
      }))

    it.effect.each(["end", "fail", "interrupt"] as const)(
      "give back their place after their %s",
      (way) =>
        Effect.gen(function*() {
          const pool = peerPool.make({ maxPeers: 3, maxUnauthenticatedPeers: 2 })
          const first = yield* enter(pool)
          const second = yield* enter(pool)
          yield* second[way]
          yield* enter(pool)
          yield* Effect.yieldNow
          assert.isTrue(isConnected(first))
        })
    )
  })

  describe("the gauge of connections", () => {
    it.effect("follows each connection from its beginning over its proof to its end", () =>
      Effect.gen(function*() {
        const meter = yield* metrics.make
        const pool = peerPool.make({ maxPeers: 2, maxUnauthenticatedPeers: 3 }, meter)
        const counts = Effect.map(Metric.snapshot, (all) => {
          const count = (state: string) =>
            all.find(({ attributes, id }) => id === "effect_messaging_connections" && attributes?.["state"] === state)
          return [count("unauthenticated"), count("authenticated")].map((metric) =>
            metric === undefined ? 0 : (metric.state as { readonly value: number }).value
          )
        })
        const peers = [yield* enter(pool), yield* enter(pool), yield* enter(pool)]
        assert.deepStrictEqual(yield* counts, [3, 0])
        peers[0]?.prove()
        assert.deepStrictEqual(yield* counts, [2, 1])
        peers[1]?.mark("heard")
        yield* peers[1]?.end ?? Effect.void
        assert.deepStrictEqual(yield* counts, [1, 1])
        yield* peers[0]?.end ?? Effect.void
        assert.deepStrictEqual(yield* counts, [1, 0])
      }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
  })

  describe("a crowd that never proves itself", () => {
    const holders = 160
    const newcomers = 200

    /** What the pool serves, over sockets without I/O; ends the connection as a transport does. */
    const makeServer = Effect.gen(function*() {
      const inbox = yield* Inbox.make
      const connection = yield* Connection.make({ socketPath, token: Redacted.make(token) }).pipe(
        Effect.provideService(Inbox.Inbox, inbox),
        Effect.provideService(Capability.Capability, yield* Capability.makeMemory)
      )
      const pool = peerPool.make(defaults)
      const connect = Effect.gen(function*() {
        const peer = yield* connectMemory
        yield* Effect.forkScoped(
          Effect.ensuring(pool.run((place) => connection(peer.socket, place)), peer.hangUp)
        )
        return peer
      })
      return { inbox, connect }
    })

    it.effect("does not keep out newcomers who have the token, though it reconnects whenever it is turned out", () =>
      Effect.gen(function*() {
        const { connect, inbox } = yield* makeServer
        let reconnects = 0
        const hold = Effect.forever(
          Effect.scoped(Effect.flatMap(connect, ({ rest }) => rest)).pipe(
            Effect.andThen(Effect.sync(() => reconnects++))
          )
        )
        yield* Effect.forEach(Array.from({ length: holders }), () => Effect.forkScoped(hold))
        // Until the crowd fills the pool and pushes.
        yield* Effect.repeat(Effect.yieldNow, { until: () => reconnects > holders })
        const call = Effect.scoped(Effect.gen(function*() {
          const peer = yield* connect
          // The frame reaches the server later than the connection does.
          yield* Effect.yieldNow
          yield* peer.write(text("a"))
          return yield* peer.line
        }))
        const answers: Array<string | undefined> = []
        for (let n = 0; n < newcomers; n++) {
          answers.push(yield* call)
          yield* inbox.drain
        }
        const stored = answers.filter((line) => line?.includes(`"data":"ok"`))
        assert.isAtLeast(stored.length, 0.99 * newcomers)
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ping, withPeer, withServer } from "../utils/server.ts"

/** Stops this process's event loop, as a busy application or a suspended machine does. */
const stall = (millis: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)

describe("a process that stalls past its deadlines", () => {
  it.live("judges the bytes that had arrived before the authentication deadline", () =>
    withServer(({ connect, token }) =>
      Effect.gen(function*() {
        for (let round = 0; round < 5; round++) {
          const peer = yield* connect
          // The accept and the start of its deadline take a few turns of the event loop.
          yield* Effect.repeat(Effect.yieldNow, { times: 5 })
          // Written and stalled in one step: when the loop runs again, the timer is due and the bytes are unread.
          yield* Effect.sync(() => {
            peer.socket.write(ping(token))
            stall(400)
          })
          assert.include(yield* peer.line, "\"pong\"")
        }
      }), { authenticationTimeout: "200 millis" }))

  it.live("judges them before the idle deadline, too", () =>
    withPeer((peer, { token }) =>
      Effect.gen(function*() {
        yield* peer.write(ping(token))
        assert.include(yield* peer.line, "\"pong\"")
        yield* Effect.sync(() => {
          peer.socket.write(ping(token))
          stall(400)
        })
        assert.include(yield* peer.line, "\"pong\"")
      }), { authenticationTimeout: "200 millis", idleTimeout: "200 millis" }))
})

describe("releasing an endpoint", () => {
  it.effect("does not wait for 128 peers that never read, on a clock that never moves", () =>
    Effect.gen(function*() {
      const peers = yield* withServer(({ connect, token }) =>
        Effect.gen(function*() {
          const peers = yield* Effect.forEach(Array.from({ length: 128 }), () => connect)
          for (const peer of peers) {
            yield* peer.write(ping(token))
            yield* peer.line
            peer.socket.pause()
            // More replies than the system buffers, so that the server's writes wait.
            yield* peer.write(ping(token).repeat(4_000))
          }
          return peers
        })
      )
      yield* Effect.forEach(peers, (peer) => Effect.andThen(Effect.sync(() => peer.socket.resume()), peer.closed))
    }))
})

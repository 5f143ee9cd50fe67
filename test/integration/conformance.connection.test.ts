/** PROTOCOL.md section 3 over the life of a connection: deadlines, ends, and how many there may be. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import type { RawPeer } from "../utils/rawPeer.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import {
  ack,
  error,
  frame,
  isOpen,
  nothingStored,
  ping,
  pong,
  replied,
  repliedAndClosed,
  withPeer,
  withServer
} from "../utils/server.ts"

/** Keeps sending in the background for as long as the test lasts. */
const drip = (peer: RawPeer, bytes: string) =>
  Effect.forkScoped(Effect.repeat(peer.write(bytes), Schedule.spaced("5 millis")), { startImmediately: true })

describe("authentication deadline", () => {
  const limits = { authenticationTimeout: "150 millis" } as const

  it.live("ends a connection that says nothing", () =>
    withPeer((peer) => repliedAndClosed(peer, error("authentication timeout")), limits))

  it.live("is not extended by the bytes of a frame that never ends", () =>
    withPeer((peer) =>
      Effect.gen(function*() {
        yield* peer.write("{")
        yield* drip(peer, " ")
        yield* repliedAndClosed(peer, error("authentication timeout"))
      }), limits))

  it.live("is neither met nor extended by blank lines", () =>
    withPeer((peer) =>
      Effect.gen(function*() {
        yield* drip(peer, " \n")
        yield* repliedAndClosed(peer, error("authentication timeout"))
      }), limits))

  it.live("is met by the first good frame", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const peer = yield* server.connect
        yield* isOpen(peer, server)
        // Accepted later, so that its deadline is the later one.
        const silent = yield* server.connect
        yield* repliedAndClosed(silent, error("authentication timeout"))
        yield* isOpen(peer, server)
      }), limits))

  it.live("judges what arrived before it, though the process stalls until after it", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        // One synchronous step: nothing is read and no timer fires before it is over.
        peer.socket.write(frame(server.token))
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)
        yield* replied(peer, ack(1))
        yield* isOpen(peer, server)
      }), limits))

  it.live("does not store what is sent after it", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* repliedAndClosed(peer, error("authentication timeout"))
        yield* peer.write(frame(server.token, { data: "late" }))
        const other = yield* server.connect
        yield* other.write(frame(server.token, { data: "other" }))
        yield* replied(other, ack(1))
        assert.strictEqual((yield* server.inbox.take).message.data, "other")
      }), limits))
})

describe("idle deadline", () => {
  const limits = { authenticationTimeout: "400 millis", idleTimeout: "400 millis" } as const

  it.live("ends an authenticated connection without activity", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* isOpen(peer, server)
        yield* repliedAndClosed(peer, error("idle timeout"))
        yield* nothingStored(server)
      }), limits))

  it.live("counts blank lines as activity", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const active = yield* server.connect
        yield* isOpen(active, server)
        yield* drip(active, "\r\n")
        const idle = yield* server.connect
        yield* isOpen(idle, server)
        yield* repliedAndClosed(idle, error("idle timeout"))
        yield* isOpen(active, server)
      }), limits))
})

describe("frame deadline", () => {
  const limits = { frameTimeout: "150 millis" } as const

  it.live("ends a connection whose frame does not end", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* isOpen(peer, server)
        yield* peer.write("{")
        yield* repliedAndClosed(peer, error("frame timeout"))
      }), limits))

  it.live("is not extended by the bytes of the frame", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* isOpen(peer, server)
        yield* peer.write("{")
        yield* drip(peer, " ")
        yield* repliedAndClosed(peer, error("frame timeout"))
      }), limits))
})

describe("end of a connection", () => {
  it.live("answers what a half-closing client sent, then closes", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* peer.write(frame(server.token).repeat(3) + ping(server.token))
        yield* peer.end
        yield* repliedAndClosed(peer, ack(1), ack(2), ack(3), pong(server.socketPath))
      })
    ))

  it.live("closes without a word after a client that sends nothing and closes", () =>
    withPeer((peer) => Effect.andThen(peer.end, repliedAndClosed(peer))))

  it.live("keeps the message of a client that is gone before its ack", () =>
    withPeer((peer, server) =>
      Effect.gen(function*() {
        yield* Effect.callback<void>((resume) => {
          peer.socket.write(frame(server.token, { data: "last will" }), () => resume(Effect.void))
        })
        peer.socket.destroy()
        assert.strictEqual((yield* server.inbox.take).message.data, "last will")
      })
    ))

  it.live("keeps the messages of a client that never reads and goes", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const peer = yield* connectRaw(server.socketPath, { paused: true })
        yield* Effect.callback<void>((resume) => {
          peer.socket.write(frame(server.token).repeat(100), () => resume(Effect.void))
        })
        peer.socket.destroy()
        for (let n = 1; n <= 100; n++) assert.strictEqual((yield* server.inbox.take).id, `uds-${n}`)
      })
    ))

  it.live("delivers its error to a client that goes on sending and reads later", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const peer = yield* connectRaw(server.socketPath, { paused: true })
        yield* peer.write("null\n")
        yield* Effect.callback<void>((resume) => {
          // More than the system holds: flushed only if the server takes it.
          peer.socket.write(frame(server.token).repeat(50_000), () => resume(Effect.void))
        })
        peer.socket.resume()
        yield* repliedAndClosed(peer, error("invalid frame"))
      }), { closeTimeout: "30 seconds" }))

  it.live("cuts off a client that neither reads its error nor stops sending", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const peer = yield* connectRaw(server.socketPath, { paused: true })
        yield* peer.write("null\n")
        yield* drip(peer, frame(server.token))
        // A paused socket notices the end only when a write fails.
        yield* peer.closed
        yield* nothingStored(server)
      }), { closeTimeout: "100 millis" }))
})

describe("number of clients", () => {
  const authenticated = Effect.fnUntraced(function*(server: Parameters<typeof isOpen>[1], count: number) {
    const peers: Array<RawPeer> = []
    for (let n = 0; n < count; n++) {
      const peer = yield* server.connect
      yield* isOpen(peer, server)
      peers.push(peer)
    }
    return peers
  })

  it.live("serves 128 clients and closes the next at once, without a word", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const peers = yield* authenticated(server, 128)
        const refused = yield* server.connect
        yield* refused.write(frame(server.token))
        yield* repliedAndClosed(refused)
        yield* nothingStored(server)
        yield* Effect.forEach(peers, (peer) => isOpen(peer, server), { discard: true })
      })
    ))

  it.live("does not wait for a frame to close the client that is one too many", () =>
    withServer((server) =>
      Effect.gen(function*() {
        yield* authenticated(server, 2)
        yield* repliedAndClosed(yield* server.connect)
      }), { maxPeers: 2 }))

  it.live("serves a new client when another has left", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const [leaver] = yield* authenticated(server, 2)
        assert.isDefined(leaver)
        yield* leaver.end
        yield* repliedAndClosed(leaver)
        yield* isOpen(yield* server.connect, server)
      }), { maxPeers: 2 }))
})

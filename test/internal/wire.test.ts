import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FiberSet, Latch } from "effect"
import { Socket } from "effect/socket"
import { Buffer } from "node:buffer"
import * as wires from "../../src/internal/wire.ts"
import { connectMemory } from "../utils/memoryPeer.ts"

/** A wire over one end of an in-memory pair, and the peer at the other. */
const connected = Effect.gen(function*() {
  const peer = yield* connectMemory
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  return { peer, wire: yield* wires.fromSocket(peer.socket, fork) }
})

const write = (wire: wires.Wire, text: string) => wire.write(text) ?? Effect.void

describe("wire", () => {
  it.effect("reads and writes what the socket does", () =>
    Effect.gen(function*() {
      const { peer, wire } = yield* connected
      yield* peer.write("there")
      assert.strictEqual(Buffer.concat(yield* wire.pull).toString(), "there")
      yield* write(wire, "back\n")
      assert.strictEqual(yield* peer.line, "back")
    }))

  it.effect("ends behind its last word, and still hears the peer", () =>
    Effect.gen(function*() {
      const { peer, wire } = yield* connected
      yield* write(wire, "first\n")
      yield* wire.end("last\n")
      assert.deepStrictEqual(yield* peer.rest, ["first", "last"])
      yield* peer.write("heard")
      assert.strictEqual(Buffer.concat(yield* wire.pull).toString(), "heard")
    }))

  it.effect("has what arrives heard, with a wait where one is asked for, until nothing more comes", () =>
    Effect.gen(function*() {
      const { peer, wire } = yield* connected
      const heard: Array<string> = []
      const ready = Latch.makeUnsafe(false)
      const receiving = yield* Effect.forkChild(
        Effect.flip(wire.receive((chunks) => {
          heard.push(Buffer.concat(chunks).toString())
          return heard.length === 2 ? ready.await : undefined
        })),
        { startImmediately: true }
      )
      for (const word of ["one", "two", "three"]) {
        yield* peer.write(word)
        yield* Effect.yieldNow
      }
      assert.deepStrictEqual(heard, ["one", "two"])
      yield* ready.open
      yield* Effect.yieldNow
      assert.deepStrictEqual(heard, ["one", "two", "three"])
      yield* peer.end
      assert.strictEqual((yield* Fiber.join(receiving))._tag, "SocketError")
    }))

  it.effect("is destroyed both ways, also for who waits on it", () =>
    Effect.gen(function*() {
      const { peer, wire } = yield* connected
      const waiting = yield* Effect.forkChild(Effect.flip(wire.pull), { startImmediately: true })
      wire.destroy()
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "SocketError")
      assert.deepStrictEqual(yield* peer.rest, [])
    }))

  it.effect("is destroyed without a failure where the socket is gone already", () =>
    Effect.gen(function*() {
      const { socket } = yield* connectMemory
      const gone = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
      const forked: Array<Effect.Effect<void>> = []
      const wire = yield* wires.fromSocket({
        ...socket,
        writer: Effect.map(socket.writer, (writer) => ({ ...writer, write: () => Effect.fail(gone) }))
      }, (effect) => void forked.push(effect))
      wire.destroy()
      const exits = yield* Effect.forEach(forked, Effect.exit)
      assert.deepStrictEqual(exits, [Exit.void])
    }))

  it.effect("is told from a socket that is none", () =>
    Effect.gen(function*() {
      const { peer, wire } = yield* connected
      assert.isFalse(wires.isWire(peer.socket))
      assert.isTrue(wires.isWire({ ...peer.socket, ...wire }))
    }))
})

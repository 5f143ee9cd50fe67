import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Scope } from "effect"
import * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"
import * as net from "node:net"
import * as path from "node:path"
import { closeGracefully, NodeSocket } from "../../src/internal/nodeSocket.ts"
import type * as wires from "../../src/internal/wire.ts"
import { tick } from "../utils/resources.ts"
import { tempDirectory } from "../utils/tempHost.ts"

/** Both ends of a connection: ours as a `Socket`, and the peer's, which is plain `node:net` and does not read yet. */
const connect = Effect.fnUntraced(function*(options: net.ServerOpts = {}) {
  const socketPath = path.join(yield* tempDirectory, "s")
  const server = yield* Effect.acquireRelease(
    Effect.sync(() => net.createServer({ ...options, allowHalfOpen: true, pauseOnConnect: true })),
    (server) => Effect.sync(() => server.close())
  )
  const accepted = Effect.callback<{ readonly conn: net.Socket; readonly socket: NodeSocket }>((resume) => {
    server.once("connection", (conn) => resume(Effect.succeed({ conn, socket: new NodeSocket(conn) })))
  })
  const accepting = yield* Effect.forkChild(accepted, { startImmediately: true })
  yield* Effect.callback<void>((resume) => {
    server.listen(socketPath, () => resume(Effect.void))
  })
  const peer = yield* Effect.acquireRelease(
    Effect.sync(() => net.createConnection({ path: socketPath, allowHalfOpen: true }).pause()),
    (peer) => Effect.sync(() => peer.destroy())
  )
  peer.on("error", () => {})
  const ours = yield* Effect.acquireRelease(
    Fiber.join(accepting),
    ({ conn }) => Effect.sync(() => conn.destroy())
  )
  const wire: wires.Wire = ours.socket
  return { ...ours, wire, peer }
})

const connection = connect()

const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.andThen(tick, until(condition)))

const text = (chunks: ReadonlyArray<Uint8Array>) => Buffer.concat(chunks).toString()

/** Notes what is heard, and answers as told. */
const hearInto =
  <E = never>(heard: Array<string>, answer: () => Effect.Effect<void, E> | undefined = () => undefined) =>
  (chunks: wires.Chunks) => {
    heard.push(text(chunks))
    return answer()
  }

/** Why a read or a write failed: a close code, or `write`. */
const reasonOf = <A, R>(effect: Effect.Effect<A, Socket.SocketError, R>) =>
  Effect.map(
    Effect.flip(effect),
    ({ reason }) => reason._tag === "SocketCloseError" ? reason.code : reason._tag
  )

/** More than the system takes for a peer that does not read. */
const plenty = "x".repeat(4 * 1024 * 1024)

describe("nodeSocket", () => {
  describe("reading", () => {
    it.live("gives what arrives while nobody reads, at most one chunk of it before the connection is paused", () =>
      Effect.gen(function*() {
        const { conn, peer, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        peer.write("first")
        assert.strictEqual(text(yield* pull), "first")
        peer.write("second")
        yield* until(() => conn.isPaused())
        peer.write("third")
        peer.end()
        // What is not read stays with the system, and is there in the end.
        let rest = ""
        const failure = yield* reasonOf(Effect.forever(Effect.map(pull, (chunks) => {
          rest += text(chunks)
        })))
        assert.strictEqual(rest, "secondthird")
        assert.strictEqual(failure, 1000)
      }))

    it.live("starts paused, so that nothing is taken from a peer before somebody reads", () =>
      Effect.gen(function*() {
        const { conn, peer } = yield* connection
        peer.write("early")
        yield* Effect.replicateEffect(tick, 5)
        assert.strictEqual(conn.bytesRead, 0)
      }))

    it.live("ends with the peer's side, again and again", () =>
      Effect.gen(function*() {
        const { peer, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        const waiting = yield* Effect.forkChild(reasonOf(pull), { startImmediately: true })
        peer.end()
        assert.strictEqual(yield* Fiber.join(waiting), 1000)
        assert.strictEqual(yield* reasonOf(pull), 1000)
      }))

    it.live("tells a broken connection from an ended one, and keeps to what it told first", () =>
      Effect.gen(function*() {
        const { conn, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        const waiting = yield* Effect.forkChild(reasonOf(pull), { startImmediately: true })
        conn.destroy(new Error("broken"))
        assert.strictEqual(yield* Fiber.join(waiting), 1006)
        yield* until(() => conn.closed)
        assert.strictEqual(yield* reasonOf(pull), 1006)
      }))

    it.live("ends when the connection is destroyed on this side", () =>
      Effect.gen(function*() {
        const { conn, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        const waiting = yield* Effect.forkChild(reasonOf(pull), { startImmediately: true })
        conn.destroy()
        assert.strictEqual(yield* Fiber.join(waiting), 1000)
      }))

    it.live("goes on for a reader that asks for more as soon as it has something", () =>
      Effect.gen(function*() {
        const { peer, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        let read = ""
        // Without a pause between, as `Effect.forever` would make.
        const readOn: Effect.Effect<void, Socket.SocketError> = Effect.flatMap(pull, (chunks) => {
          read += text(chunks)
          return readOn
        })
        const reading = yield* Effect.forkChild(reasonOf(readOn), { startImmediately: true })
        for (const word of ["one", "two", "three"]) {
          peer.write(word)
          yield* until(() => read.endsWith(word))
        }
        peer.end()
        assert.strictEqual(yield* Fiber.join(reading), 1000)
        assert.strictEqual(read, "onetwothree")
      }))

    it.live("loses nothing to a reader that was interrupted", () =>
      Effect.gen(function*() {
        const { conn, peer, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        const waiting = yield* Effect.forkChild(pull, { startImmediately: true })
        yield* Fiber.interrupt(waiting)
        peer.write("kept")
        yield* until(() => conn.isPaused())
        assert.strictEqual(text(yield* pull), "kept")
      }))

    it.live("takes nothing from a reader that waits when an earlier one is interrupted", () =>
      Effect.gen(function*() {
        const { peer, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        const earlier = yield* Effect.forkChild(pull, { startImmediately: true })
        const later = yield* Effect.forkChild(pull, { startImmediately: true })
        yield* Fiber.interrupt(earlier)
        peer.write("for the later")
        assert.strictEqual(text(yield* Fiber.join(later)), "for the later")
      }))

    it.live("gives at once what has arrived, be it a single byte", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connection
        yield* Fiber.interrupt(yield* Effect.forkChild(wire.pull, { startImmediately: true }))
        peer.write("1")
        yield* until(() => conn.readableLength > 0)
        const exit = (yield* Effect.forkChild(wire.pull, { startImmediately: true })).pollUnsafe()
        assert.strictEqual(exit !== undefined && Exit.isSuccess(exit) ? text(exit.value) : exit, "1")
      }))

    it.live.each([
      { sent: "abcd", pieces: ["abcd"] },
      { sent: "abcde", pieces: ["abcd", "e"] },
      { sent: "abcdefghij", pieces: ["abcd", "efgh", "ij"] }
    ])("gives what has arrived in pieces, in order: $sent", ({ pieces, sent }) =>
      Effect.gen(function*() {
        const { peer, wire } = yield* connect({ highWaterMark: 4 })
        peer.write(sent)
        peer.end()
        const read: Array<string> = []
        const readOn: Effect.Effect<void, Socket.SocketError> = Effect.flatMap(wire.pull, (chunks) => {
          read.push(text(chunks))
          return readOn
        })
        assert.strictEqual(yield* reasonOf(readOn), 1000)
        assert.deepStrictEqual(read, pieces)
      }))

    it.live("gives no more than a piece to a reader that does not ask again there and then", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connect({ highWaterMark: 4 })
        const first = yield* Effect.forkChild(wire.pull, { startImmediately: true })
        peer.write("abcdefghij")
        const read = [text(yield* Fiber.join(first))]
        yield* until(() => conn.isPaused())
        assert.strictEqual(conn.readableLength, 6)
        for (const left of [2, 0]) {
          read.push(text(yield* wire.pull))
          assert.strictEqual(conn.readableLength, left)
        }
        assert.deepStrictEqual(read, ["abcd", "efgh", "ij"])
      }))

    it.live("loses nothing that arrives after the scope of a reader that waited has closed", () =>
      Effect.gen(function*() {
        const { conn, peer, socket, wire } = yield* connection
        const scope = yield* Scope.make()
        const pull = yield* Scope.provide(Socket.readerBytes(socket), scope)
        const waiting = yield* Effect.forkChild(Effect.exit(pull), { startImmediately: true })
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(waiting)
        peer.write("kept")
        yield* until(() => conn.isPaused())
        assert.strictEqual(text(yield* wire.pull), "kept")
      }))

    it.live("has whatever arrives heard, piece by piece, there and then, until the peer has closed its side", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connect({ highWaterMark: 4 })
        peer.write("abcdef")
        yield* Fiber.interrupt(yield* Effect.forkChild(wire.pull, { startImmediately: true }))
        yield* until(() => conn.readableLength === 6)
        const heard: Array<string> = []
        const receiving = yield* Effect.forkChild(reasonOf(wire.receive(hearInto(heard))), { startImmediately: true })
        assert.deepStrictEqual(heard, ["abcd", "ef"])
        peer.write("ghijkl")
        yield* until(() => heard.length === 4)
        assert.deepStrictEqual(heard.slice(2), ["ghij", "kl"])
        peer.end()
        assert.strictEqual(yield* Fiber.join(receiving), 1000)
      }))

    it.live("reads nothing more while what was heard has to wait, and loses nothing", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connect({ highWaterMark: 4 })
        const heard: Array<string> = []
        const ready = Latch.makeUnsafe(false)
        const hear = hearInto(heard, () => heard.length === 1 ? ready.await : undefined)
        yield* Effect.forkChild(Effect.exit(wire.receive(hear)), { startImmediately: true })
        peer.write("abcdefghij")
        yield* until(() => conn.isPaused())
        assert.deepStrictEqual([heard, conn.readableLength], [["abcd"], 6])
        ready.openUnsafe()
        yield* until(() => heard.length === 3)
        assert.deepStrictEqual(heard, ["abcd", "efgh", "ij"])
        assert.isFalse(conn.isPaused())
      }))

    it.live("fails as what was heard does, or dies of what hearing throws, and keeps the rest", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connect({ highWaterMark: 4 })
        peer.write("abcdefghij")
        assert.strictEqual(yield* Effect.flip(wire.receive(() => Effect.fail("enough"))), "enough")
        const defect = new Error("unheard of")
        const exit = yield* Effect.exit(wire.receive(() => {
          throw defect
        }))
        assert.deepStrictEqual(exit, Exit.die(defect))
        yield* until(() => conn.isPaused())
        assert.strictEqual(text(yield* wire.pull), "ij")
      }))

    it.live("hears nothing more when it was interrupted, nor on a connection that has ended", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connection
        const heard: Array<string> = []
        yield* Fiber.interrupt(
          yield* Effect.forkChild(wire.receive(hearInto(heard)), { startImmediately: true })
        )
        peer.write("kept")
        yield* until(() => conn.isPaused())
        assert.strictEqual(text(yield* wire.pull), "kept")
        conn.destroy()
        yield* until(() => conn.closed)
        assert.strictEqual(yield* reasonOf(wire.receive(hearInto(heard))), 1000)
        assert.deepStrictEqual(heard, [])
      }))

    it.live("cannot be upgraded", () =>
      Effect.gen(function*() {
        const { socket } = yield* connection
        const { upgrade } = yield* socket.reader
        assert.strictEqual(yield* reasonOf(upgrade({})), "SocketUpgradeError")
      }))

    it.live("wakes a reader whose scope closes", () =>
      Effect.gen(function*() {
        const { socket } = yield* connection
        const scope = yield* Scope.make()
        const pull = yield* Scope.provide(Socket.readerBytes(socket), scope)
        const waiting = yield* Effect.forkChild(reasonOf(pull), { startImmediately: true })
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* Fiber.join(waiting), 1006)
      }))
  })

  describe("writing", () => {
    it.live("waits for a peer that does not read, and goes on when it does", () =>
      Effect.gen(function*() {
        const { conn, peer, socket } = yield* connection
        const { write } = yield* socket.writer
        const listeners = conn.listenerCount("close")
        const writing = yield* Effect.forkChild(write(plenty), { startImmediately: true })
        yield* Effect.replicateEffect(tick, 5)
        assert.isUndefined(writing.pollUnsafe())
        assert.strictEqual(conn.listenerCount("drain"), 1)
        let received = 0
        peer.on("data", (chunk: Uint8Array) => {
          received += chunk.length
        }).resume()
        yield* Fiber.join(writing)
        yield* until(() => received === plenty.length)
        assert.deepStrictEqual([conn.listenerCount("drain"), conn.listenerCount("close")], [0, listeners])
      }))

    it.live("fails when the connection ends while it waits", () =>
      Effect.gen(function*() {
        const { conn, socket } = yield* connection
        const { write } = yield* socket.writer
        const writing = yield* Effect.forkChild(reasonOf(write(Buffer.from(plenty))), { startImmediately: true })
        conn.destroy()
        assert.strictEqual(yield* Fiber.join(writing), "SocketWriteError")
        assert.strictEqual(conn.listenerCount("drain"), 0)
      }))

    it.live("leaves no listener behind when it is interrupted while it waits", () =>
      Effect.gen(function*() {
        const { conn, socket } = yield* connection
        const { write } = yield* socket.writer
        const listeners = conn.listenerCount("close")
        const writing = yield* Effect.forkChild(write(plenty), { startImmediately: true })
        yield* Fiber.interrupt(writing)
        assert.deepStrictEqual([conn.listenerCount("drain"), conn.listenerCount("close")], [0, listeners])
      }))

    it.live("fails on a connection that has ended, and tells that it is closed", () =>
      Effect.gen(function*() {
        const { conn, socket } = yield* connection
        const { write } = yield* socket.writer
        conn.destroy()
        yield* until(() => conn.closed)
        const error = yield* Effect.flip(write("late"))
        assert.strictEqual(error.reason._tag, "SocketWriteError")
        assert.include(String((error.reason as { readonly cause?: unknown }).cause), "the connection is closed")
      }))

    it.live.each([
      { what: "a long text", given: plenty },
      { what: "a long text that is not ASCII", given: `é${plenty}` }
    ])(
      "keeps $what for a peer that does not read at a byte for each of its own",
      ({ given }) =>
        Effect.gen(function*() {
          const { socket } = yield* connection
          const { write } = yield* socket.writer
          const before = process.memoryUsage()
          yield* Effect.forkChild(write(given), { startImmediately: true })
          const after = process.memoryUsage()
          assert.isBelow(after.arrayBuffers - before.arrayBuffers, 1.5 * plenty.length)
        })
    )

    it.live("writes all parts in order", () =>
      Effect.gen(function*() {
        const { peer, socket } = yield* connection
        const writer = yield* socket.writer
        assert.isUndefined(yield* writer.writeAll(["a", Buffer.from("b"), "c"]))
        const [chunk] = yield* Effect.promise(() => peer.take(1).toArray())
        assert.strictEqual(String(chunk), "abc")
      }))

    it.live.each([
      { what: "a short text that is not ASCII", sent: "é🦊" },
      { what: "a long text that is not ASCII", sent: "é🦊".repeat(3_000) },
      { what: "a short text", sent: "e" },
      { what: "a long text", sent: "e".repeat(30_000) }
    ])("writes $what as it is", ({ sent }) =>
      Effect.gen(function*() {
        const { peer, wire } = yield* connection
        yield* Effect.forkChild(wire.end(sent), { startImmediately: true })
        const chunks = yield* Effect.promise(() => peer.toArray())
        assert.strictEqual(Buffer.concat(chunks).toString(), sent)
      }))

    it.live("has nothing to wait for where the system takes a long chunk at once", () =>
      Effect.gen(function*() {
        const { conn, wire } = yield* connection
        assert.isUndefined(wire.write(Buffer.alloc(conn.writableHighWaterMark + 1)))
        assert.strictEqual(conn.writableLength, 0)
      }))

    it.live("half-closes behind a last word, and still reads", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connection
        yield* wire.end("last")
        const chunks = yield* Effect.promise(() => peer.take(1).toArray())
        assert.strictEqual(String(chunks[0]), "last")
        assert.deepStrictEqual([conn.writableEnded, conn.destroyed], [true, false])
      }))

    it.live("half-closes behind a last word that the peer does not take before who waits is interrupted", () =>
      Effect.gen(function*() {
        const { conn, wire } = yield* connection
        yield* Fiber.interrupt(yield* Effect.forkChild(wire.end(plenty), { startImmediately: true }))
        assert.isTrue(conn.writableEnded)
      }))

    it.live("says no last word on a connection that has ended", () =>
      Effect.gen(function*() {
        const { conn, wire } = yield* connection
        conn.destroy()
        assert.strictEqual(yield* reasonOf(wire.end("late")), "SocketWriteError")
      }))

    it.live("fails behind a last word, which the peer gets all the same", () =>
      Effect.gen(function*() {
        const { conn, peer, wire } = yield* connection
        yield* wire.end("last")
        assert.strictEqual(yield* reasonOf(wire.write("late") ?? Effect.void), "SocketWriteError")
        const chunks = yield* Effect.promise(() => peer.toArray())
        assert.strictEqual(Buffer.concat(chunks).toString(), "last")
        assert.isFalse(conn.destroyed)
      }))

    it.live("cuts the connection on a close event", () =>
      Effect.gen(function*() {
        const { conn, peer, socket } = yield* connection
        const { write } = yield* socket.writer
        yield* write(new Socket.CloseEvent())
        assert.isTrue(conn.destroyed)
        peer.resume()
        yield* until(() => peer.readableEnded)
      }))

    it.live("half-closes when its scope closes, and still reads", () =>
      Effect.gen(function*() {
        const { conn, peer, socket } = yield* connection
        const pull = yield* Socket.readerBytes(socket)
        yield* Effect.scoped(Effect.flatMap(socket.writer, ({ write }) => write("last")))
        peer.resume()
        yield* until(() => peer.readableEnded)
        assert.isFalse(conn.destroyed)
        peer.write("after")
        assert.strictEqual(text(yield* pull), "after")
      }))
  })

  describe("closeGracefully", () => {
    it.live("flushes to a peer that reads", () =>
      Effect.gen(function*() {
        const { conn, peer, socket } = yield* connection
        const { write } = yield* socket.writer
        yield* Effect.forkChild(Effect.exit(write(plenty)), { startImmediately: true })
        const closing = yield* Effect.forkChild(closeGracefully(conn, 60_000), { startImmediately: true })
        let received = 0
        peer.on("data", (chunk: Uint8Array) => {
          received += chunk.length
        }).resume()
        yield* Fiber.join(closing)
        assert.isTrue(conn.closed)
        yield* until(() => peer.readableEnded)
        assert.strictEqual(received, plenty.length)
      }))

    it.live("cuts off a peer that does not read within its time, and not before", () =>
      Effect.gen(function*() {
        const { conn, socket } = yield* connection
        const { write } = yield* socket.writer
        yield* Effect.forkChild(Effect.exit(write(plenty)), { startImmediately: true })
        const listeners = conn.listenerCount("close")
        const patient = yield* Effect.forkChild(closeGracefully(conn, 60_000), { startImmediately: true })
        yield* Effect.replicateEffect(tick, 5)
        assert.isUndefined(patient.pollUnsafe())
        assert.isFalse(conn.destroyed)
        yield* Fiber.interrupt(patient)
        assert.strictEqual(conn.listenerCount("close"), listeners)
        yield* closeGracefully(conn, 10)
        assert.isTrue(conn.destroyed)
      }))

    it.live("has nothing to wait for where the connection has closed", () =>
      Effect.gen(function*() {
        const { conn } = yield* connection
        conn.destroy()
        yield* until(() => conn.closed)
        const exit = (yield* Effect.forkChild(closeGracefully(conn, 60_000), { startImmediately: true })).pollUnsafe()
        assert.isTrue(exit !== undefined && Exit.isSuccess(exit))
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Logger, Queue, References, Scope } from "effect"
import type * as Socket from "effect/socket/Socket"
import * as net from "node:net"
import * as path from "node:path"
import { accept } from "../../src/internal/acceptor.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { tick } from "../utils/resources.ts"
import { tempDirectory } from "../utils/tempHost.ts"

class Greeting extends Context.Service<Greeting, string>()("test/Greeting") {}

/** A server whose connections the acceptor under test is given, and the scope of the acceptor. */
const accepting = Effect.fnUntraced(function*(options: { maxWaiting?: number; closeTimeout?: number } = {}) {
  const address = path.join(yield* tempDirectory, "s")
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const { attach, listener } = yield* Scope.provide(
    accept({ address, maxWaiting: 8, closeTimeout: 60_000, ...options }),
    scope
  )
  attach(server)
  let accepted = 0
  const closed: Array<net.Socket> = []
  server.on("connection", (conn) => {
    accepted++
    conn.once("close", () => closed.push(conn))
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(address, () => resume(Effect.void))
    }),
    () => Effect.sync(() => server.close())
  )
  const until = (condition: () => boolean): Effect.Effect<void> =>
    Effect.suspend(() => condition() ? Effect.void : Effect.andThen(tick, until(condition)))
  return {
    address,
    listener,
    /** The server's ends of connections that have closed. */
    closed,
    until,
    release: Scope.close(scope, Exit.void),
    /** A peer, once its connection has been accepted. */
    connect: Effect.suspend(() => {
      const before = accepted
      return Effect.tap(connectRaw(address), () => until(() => accepted > before))
    })
  }
})

const write = (socket: Socket.Socket, text: string) =>
  Effect.scoped(Effect.flatMap(socket.writer, (writer) => writer.write(text)))

describe("acceptor", () => {
  it.live("tells the address it was given", () =>
    Effect.gen(function*() {
      const { address, listener } = yield* accepting()
      assert.deepInclude(listener.address, { path: address })
    }))

  it.live("forgets a connection that has closed", () =>
    Effect.gen(function*() {
      const { closed, connect, listener, release, until } = yield* accepting()
      yield* Effect.forkScoped(listener.run(() => Effect.void), { startImmediately: true })
      yield* connect
      yield* until(() => closed.length === 1)
      let touched = 0
      for (const conn of closed) {
        conn.destroy = () => {
          touched++
          return conn
        }
      }
      yield* release
      assert.strictEqual(touched, 0)
    }))

  it.live("holds so many connections until it runs, and cuts off the others", () =>
    Effect.gen(function*() {
      const { connect, listener } = yield* accepting({ maxWaiting: 2 })
      const [first, second, third] = [yield* connect, yield* connect, yield* connect]
      assert.deepStrictEqual(yield* third.rest, [])
      yield* Effect.forkScoped(listener.run((socket) => write(socket, "served\n")), { startImmediately: true })
      assert.deepStrictEqual(yield* Effect.forEach([first, second], ({ rest }) => rest), [["served"], ["served"]])
      // There is no such bound while it runs.
      const later = yield* Effect.replicateEffect(connect, 5)
      assert.deepStrictEqual(
        yield* Effect.forEach(later, ({ rest }) => rest),
        Array.from({ length: 5 }, () => ["served"])
      )
    }))

  it.live("gives a handler the services it runs with", () =>
    Effect.gen(function*() {
      const { connect, listener } = yield* accepting()
      yield* Effect.forkScoped(
        Effect.provideService(
          listener.run((socket) => Effect.flatMap(Greeting, (greeting) => write(socket, greeting))),
          Greeting,
          "hello\n"
        )
      )
      assert.deepStrictEqual(yield* (yield* connect).rest, ["hello"])
    }))

  it.live("flushes what a handler has written when it ends, then closes", () =>
    Effect.gen(function*() {
      const { connect, listener } = yield* accepting()
      const long = "x".repeat(1024 * 1024)
      yield* Effect.forkScoped(listener.run((socket) =>
        Effect.scoped(Effect.flatMap(socket.writer, (writer) =>
          Effect.asVoid(Effect.forkDetach(Effect.ignore(writer.write(`${long}\n`)), { startImmediately: true }))))
      ))
      assert.deepStrictEqual(yield* (yield* connect).rest, [long])
    }))

  it.live("cuts off at its time a peer that does not take what a handler has written", () =>
    Effect.gen(function*() {
      const { address, listener } = yield* accepting({ closeTimeout: 20 })
      yield* Effect.forkScoped(listener.run((socket) =>
        Effect.scoped(Effect.flatMap(socket.writer, (writer) =>
          Effect.asVoid(
            Effect.forkDetach(Effect.ignore(writer.write("x".repeat(4 * 1024 * 1024))), { startImmediately: true })
          )))
      ))
      const peer = yield* connectRaw(address, { paused: true })
      // Only a peer that reads would learn of an end; one that writes learns that nobody is there.
      yield* Effect.callback<void>((resume) => {
        peer.socket.once("close", () =>
          resume(Effect.void))
        const write = () => {
          if (!peer.socket.destroyed) peer.socket.write("x", () => setImmediate(write))
        }
        write()
      })
    }))

  it.live("cuts the connection of a handler that fails, and says so", () =>
    Effect.gen(function*() {
      const logged = yield* Queue.unbounded<string>()
      const logger = Logger.make(({ logLevel, message }) => {
        Queue.offerUnsafe(logged, `${logLevel} ${String(message)}`)
      })
      const { connect, listener } = yield* accepting()
      const failures = yield* Queue.unbounded<Effect.Effect<never, string>>()
      yield* Effect.forkScoped(
        Effect.provide(listener.run(() => Effect.flatten(Queue.take(failures))), Logger.layer([logger])),
        { startImmediately: true }
      )
      for (const failure of [Effect.fail("no"), Effect.die("no")]) {
        Queue.offerUnsafe(failures, failure)
        yield* (yield* connect).closed
        assert.match(yield* Queue.take(logged), /^Error a connection's handler failed/)
      }
    }))

  it.live("cuts at once the connection of a handler that fails, whatever it has written", () =>
    Effect.gen(function*() {
      const { address, closed, listener, until } = yield* accepting()
      const writeAndFail = (socket: Socket.Socket) =>
        Effect.scoped(Effect.flatMap(socket.writer, (writer) =>
          Effect.andThen(
            Effect.forkDetach(Effect.ignore(writer.write("x".repeat(4 * 1024 * 1024))), { startImmediately: true }),
            Effect.fail("no")
          )))
      yield* Effect.forkScoped(
        Effect.provideService(listener.run(writeAndFail), References.MinimumLogLevel, "None"),
        { startImmediately: true }
      )
      yield* connectRaw(address, { paused: true })
      yield* until(() => closed.length === 1)
    }))

  it.live("says nothing of handlers that succeed or are interrupted", () =>
    Effect.gen(function*() {
      const logged: Array<unknown> = []
      const logger = Logger.make(({ message }) => void logged.push(message))
      const { closed, connect, listener, until } = yield* accepting()
      const handlers = yield* Queue.unbounded<Effect.Effect<void>>()
      const running = yield* Effect.forkScoped(
        Effect.provide(listener.run(() => Effect.flatten(Queue.take(handlers))), Logger.layer([logger])),
        { startImmediately: true }
      )
      for (const handler of [Effect.void, Effect.interrupt]) {
        Queue.offerUnsafe(handlers, handler)
        yield* (yield* connect).closed
      }
      yield* connect
      yield* Fiber.interrupt(running)
      yield* until(() => closed.length === 3)
      assert.deepStrictEqual(logged, [])
    }))

  it.live("ends every handler and every connection when it stops running, and holds new ones again", () =>
    Effect.gen(function*() {
      const { connect, listener } = yield* accepting({ maxWaiting: 1 })
      const began = yield* Deferred.make<void>()
      let ended = 0
      const running = yield* Effect.forkScoped(
        listener.run(() =>
          Effect.andThen(Deferred.succeed(began, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Effect.sync(() => void ended++))
          )
        )
      )
      const served = yield* connect
      yield* Deferred.await(began)
      yield* Fiber.interrupt(running)
      yield* served.closed
      assert.strictEqual(ended, 1)
      const [held, tooMany] = [yield* connect, yield* connect]
      assert.deepStrictEqual(yield* tooMany.rest, [])
      yield* Effect.forkScoped(listener.run((socket) => write(socket, "again\n")))
      assert.deepStrictEqual(yield* held.rest, ["again"])
    }))

  it.live("holds connections again when the first step of a handler has ended the run", () =>
    Effect.gen(function*() {
      const { connect, listener } = yield* accepting()
      const first = yield* connect
      const running = yield* Effect.forkScoped(
        Effect.withFiber((fiber) => listener.run(() => Effect.sync(() => fiber.interruptUnsafe())))
      )
      yield* Fiber.await(running)
      yield* first.closed
      const next = yield* connect
      yield* Effect.forkScoped(listener.run((socket) => write(socket, "served\n")))
      assert.deepStrictEqual(yield* next.rest, ["served"])
    }))

  it.live("cuts what it holds when its scope closes, and whatever comes after", () =>
    Effect.gen(function*() {
      const { connect, release } = yield* accepting()
      const held = yield* connect
      yield* release
      yield* held.closed
      assert.deepStrictEqual(yield* (yield* connect).rest, [])
    }))
})

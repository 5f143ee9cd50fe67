import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Duration, Effect, Fiber, Layer, Option, Queue, Redacted, Schedule } from "effect"
import { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import * as net from "node:net"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import * as Messaging from "../../src/Messaging.ts"
import { MessagingError, Timeout } from "../../src/MessagingError.ts"
import { Transport } from "../../src/Transport.ts"
import { nodeNetwork } from "../utils/endpoints.ts"
import { client1, memoryNetwork1, nodeNetwork1 } from "../utils/protocol1.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { withTempHost } from "../utils/tempHost.ts"

/** The test's clock, and how long each sleep is that it has taken on: only then does an adjustment reach the sleep. */
const makeArmedClock = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const armed = yield* Queue.unbounded<number>()
  const armedClock: Clock.Clock = {
    ...clock,
    sleep: Effect.fnUntraced(function*(duration: Duration.Duration) {
      const sleeping = yield* Effect.forkChild(clock.sleep(duration), { startImmediately: true })
      yield* Queue.offer(armed, Duration.toMillis(duration))
      yield* Fiber.join(sleeping)
    })
  }
  return { armed, armedClock }
})

/** An endpoint at a real socket whose deadlines follow the test's clock, and a peer that has just been accepted. */
const acceptPeer = Effect.gen(function*() {
  const { armed, armedClock } = yield* makeArmedClock
  const services = yield* Effect.provideService(Layer.build(Layers.layer()), Clock.Clock, armedClock)
  const { socketPath } = Option.getOrThrow(Context.get(services, Messaging.Messaging).address)
  const peer = yield* connectRaw(socketPath)
  // The accepted connection's first sleep is as long as the authentication deadline.
  yield* Queue.take(armed).pipe(Effect.repeat({ until: (millis) => millis === 2000 }))
  const capabilities = Layer.provide(Layer.effect(Capability.Capability, Capability.make), NodeFileSystem.layer)
  const { token } = yield* Effect.provide(
    Effect.flatMap(Capability.Capability, (_) => _.lookup(socketPath)),
    capabilities
  )
  const ping = `${JSON.stringify({ type: "ping", meta: { authToken: Redacted.value(token) } })}\n`
  const pong = (millis: number) => `{"type":"pong","from":"${socketPath}","ts":"${new Date(millis).toISOString()}"}`
  return { peer, ping, pong }
})

const error = (text: string, millis: number) =>
  `{"type":"error","data":"${text}","ts":"${new Date(millis).toISOString()}"}`

const message = Message.text("anybody?")

type Protocol = 1 | 2
const protocols: ReadonlyArray<{ readonly protocol: Protocol }> = [{ protocol: 1 }, { protocol: 2 }]

/** Protocol 1 has sent the message by then; protocol 2 has only said hello. */
const unanswered = (socketPath: string, protocol: Protocol) =>
  new MessagingError({ reason: new Timeout({ socketPath, mayBeStored: protocol === 1 }) })

describe("deadlines of a real socket", () => {
  it.effect("accept a first frame just before the authentication deadline", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { peer, ping, pong } = yield* acceptPeer
        yield* TestClock.adjust("1999 millis")
        yield* peer.write(ping)
        assert.strictEqual(yield* peer.line, pong(1999))
      })
    ))

  it.effect("close a silent peer at the authentication deadline", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { peer } = yield* acceptPeer
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("authentication timeout", 2000)])
      })
    ))

  it.effect("serve a proven peer just before the idle deadline", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { peer, ping, pong } = yield* acceptPeer
        yield* peer.write(ping)
        assert.strictEqual(yield* peer.line, pong(0))
        yield* TestClock.adjust("29999 millis")
        yield* peer.write(ping)
        assert.strictEqual(yield* peer.line, pong(29_999))
      })
    ))

  it.effect("close a proven peer that says nothing at the idle deadline", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { peer, ping, pong } = yield* acceptPeer
        yield* peer.write(ping)
        assert.strictEqual(yield* peer.line, pong(0))
        yield* TestClock.adjust("30 seconds")
        assert.deepStrictEqual(yield* peer.rest, [error("idle timeout", 30_000)])
      })
    ))
})

describe("the deadline of a send", () => {
  describe("without I/O", () => {
    const socketPath = "/run/mute/messaging.sock"

    /** Something that listens and is published, and an endpoint that can send to it. */
    const setup = Effect.fnUntraced(function*(protocol: Protocol) {
      const listener = yield* (yield* Transport).listen({ socketPath })
      yield* (yield* Capability.Capability).publish(socketPath)
      const layer = protocol === 1 ? client1(memoryNetwork1) : Layers.layerMemory()
      const sender = Context.get(yield* Layer.build(layer), Messaging.Messaging)
      return { listener, sender }
    })

    const pendingUntil = Effect.fnUntraced(function*(
      call: Effect.Effect<unknown, MessagingError>,
      deadline: number
    ) {
      const calling = yield* Effect.forkChild(Effect.flip(call), { startImmediately: true })
      yield* TestClock.adjust(deadline - 1)
      assert.isUndefined(calling.pollUnsafe())
      yield* TestClock.adjust(1)
      return yield* Fiber.join(calling)
    })

    it.effect.each([
      { what: "a send", deadline: 5000, call: (_: Messaging.Messaging["Service"]) => _.send(socketPath, message) },
      { what: "a ping", deadline: 5000, call: (_: Messaging.Messaging["Service"]) => _.ping(socketPath) },
      {
        what: "a send with a timeout of its own",
        deadline: 700,
        call: (_: Messaging.Messaging["Service"]) => _.send(socketPath, message, { timeout: "700 millis" })
      }
    ].flatMap((row) => protocols.map(({ protocol }) => ({ ...row, protocol }))))(
      "ends $what to a listener that never answers, by protocol $protocol, and not before",
      ({ call, deadline, protocol }) =>
        Effect.gen(function*() {
          const { sender } = yield* setup(protocol)
          const failure = yield* pendingUntil(call(sender), deadline)
          assert.deepStrictEqual(failure, unanswered(socketPath, protocol))
        }).pipe(Effect.provide(Layers.memoryNetwork))
    )

    it.effect.each<{ readonly protocol: Protocol; readonly what: string; readonly frame: string }>([
      { protocol: 1, what: "blank lines", frame: "\n" },
      { protocol: 1, what: "other frames", frame: `{"type":"text","data":"wait"}\n` },
      { protocol: 1, what: "parts of one frame", frame: " " },
      { protocol: 2, what: "blank lines", frame: "\n" },
      { protocol: 2, what: "parts of one frame", frame: " " }
    ])(
      "is not moved by a listener that drips $what, by protocol $protocol",
      ({ frame, protocol }) =>
        Effect.gen(function*() {
          const { listener, sender } = yield* setup(protocol)
          yield* Effect.forkScoped(listener.run((socket) =>
            Effect.scoped(
              Effect.flatMap(
                socket.writer,
                (writer) => Effect.repeat(writer.write(frame), Schedule.spaced("400 millis"))
              )
            )
          ))
          const failure = yield* pendingUntil(sender.send(socketPath, message), 5000)
          assert.deepStrictEqual(failure, unanswered(socketPath, protocol))
        }).pipe(Effect.provide(Layers.memoryNetwork))
    )

    it.effect.each(protocols)(
      "hangs up on the listener, by protocol $protocol",
      ({ protocol }) =>
        Effect.gen(function*() {
          const { listener, sender } = yield* setup(protocol)
          const hungUp = yield* Deferred.make<void>()
          yield* Effect.forkScoped(listener.run((socket) =>
            Effect.scoped(Effect.flatMap(Socket.readerBytes(socket), (pull) => Effect.ignore(Effect.forever(pull))))
              .pipe(
                Effect.ensuring(Deferred.succeed(hungUp, undefined))
              )
          ))
          yield* pendingUntil(sender.send(socketPath, message), 5000)
          yield* Deferred.await(hungUp)
        }).pipe(Effect.provide(Layers.memoryNetwork))
    )
  })

  /** A server of `node:net` alone that tells when bytes arrive and never answers. */
  const listenMute = Effect.fnUntraced(function*(socketPath: string) {
    const received = yield* Deferred.make<void>()
    const sockets = new Set<net.Socket>()
    yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const server = net.createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          socket.once("data", () => Deferred.doneUnsafe(received, Effect.void))
        })
        server.listen(socketPath, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    return { received: Deferred.await(received) }
  })

  it.effect.each(protocols)(
    "ends a send to a real server that never answers, by protocol $protocol, and not before",
    ({ protocol }) =>
      withTempHost((host) =>
        Effect.gen(function*() {
          const socketPath = path.join(host.tmpdir, "mute.sock")
          const { received } = yield* listenMute(socketPath)
          yield* Effect.provide(
            Effect.flatMap(Capability.Capability, (capability) => capability.publish(socketPath)),
            protocol === 1 ? nodeNetwork1 : nodeNetwork
          )
          const sender = Context.get(yield* Layer.build(Layers.layerClient()), Messaging.Messaging)
          const sending = yield* Effect.forkChild(Effect.flip(sender.send(socketPath, message)))
          yield* received
          yield* TestClock.adjust("4999 millis")
          assert.isUndefined(sending.pollUnsafe())
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(yield* Fiber.join(sending), unanswered(socketPath, protocol))
        })
      )
  )
})

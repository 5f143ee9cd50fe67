import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Queue, Scope, Stream } from "effect"
import * as net from "node:net"
import * as CapabilityFiles from "../src/Capability.ts"
import { Capability } from "../src/Capability.ts"
import * as Layers from "../src/Layers.ts"
import * as Message from "../src/Message.ts"
import { Messaging } from "../src/Messaging.ts"
import { type Change, Peers } from "../src/Peers.ts"
import { withTempHost } from "./utils/tempHost.ts"

const start = <E>(layer: Layer.Layer<Messaging | Peers, E>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layer, scope)
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    return {
      messaging: Context.get(context, Messaging),
      peers: Context.get(context, Peers),
      socketPath: Option.getOrElse(Context.get(context, Messaging).address, () => ({ socketPath: "" })).socketPath,
      stop: Scope.close(scope, Exit.void)
    }
  })

const shown = ({ _tag, peer }: Change) => `${_tag} ${Option.getOrElse(peer.name, () => "?")}`

/** What the stream tells, one at a time. */
const watching = (peers: Peers["Service"]) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<string>()
    yield* Effect.forkScoped(Stream.runForEach(peers.changes, (change) => Queue.offer(queue, shown(change))), {
      startImmediately: true
    })
    return { next: Queue.take(queue) }
  })

describe("Peers.changes", () => {
  it.effect("tells those there are, then who comes and goes, in memory", () =>
    Effect.gen(function*() {
      const one = yield* start(Layers.layerMemory({ name: "one" }))
      const { next } = yield* watching(one.peers)
      assert.strictEqual(yield* next, "Arrived one")
      const two = yield* start(Layers.layerMemory({ name: "two" }))
      assert.strictEqual(yield* next, "Arrived two")
      yield* two.stop
      assert.strictEqual(yield* next, "Departed two")
    }).pipe(Effect.provide(Layers.memoryNetwork)))

  it.live("tells them from the capability directory", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const one = yield* start(Layers.layer({ name: "one" }))
        const { next } = yield* watching(one.peers)
        assert.strictEqual(yield* next, "Arrived one")
        const two = yield* start(Layers.layer({ name: "two" }))
        assert.strictEqual(yield* next, "Arrived two")
        yield* two.stop
        assert.strictEqual(yield* next, "Departed two")
      })
    ))

  it.effect("tells a peer that restarts at the same path twice, even between two looks", () =>
    Effect.gen(function*() {
      const one = yield* start(Layers.layerMemory({ name: "one" }))
      const first = yield* start(Layers.layerMemory({ name: "first", socketPath: "/memory/two" }))
      const { next } = yield* watching(one.peers)
      yield* next
      yield* next
      yield* first.stop
      yield* start(Layers.layerMemory({ name: "second", socketPath: "/memory/two" }))
      assert.deepStrictEqual([yield* next, yield* next], ["Departed first", "Arrived second"])
    }).pipe(Effect.provide(Layers.memoryNetwork)))

  it.effect("finds by itself who died without a word, every watchInterval", () =>
    Effect.gen(function*() {
      const capability = yield* Capability
      const one = yield* start(Layers.layerMemory({ name: "one" }))
      const { next } = yield* watching(one.peers)
      yield* next
      // A capability without an endpoint behind it, as a killed process leaves it.
      const dead = yield* capability.publish("/memory/dead", { name: "dead" })
      const two = yield* start(Layers.layerMemory({ name: "two" }))
      assert.strictEqual(yield* next, "Arrived two")
      assert.strictEqual((yield* one.peers.list).length, 2)
      yield* two.stop
      assert.strictEqual(yield* next, "Departed two")
      yield* capability.remove(dead)
    }).pipe(Effect.scoped, Effect.provide(Layers.memoryNetwork)))

  it.live("notices a listener that is gone while its capability stays", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const one = yield* start(Layers.layer({ name: "one", limits: { watchInterval: "100 millis" } }))
        const { next } = yield* watching(one.peers)
        yield* next
        const two = yield* start(Layers.layer({ name: "two", limits: { maxPeers: 1, maxUnauthenticatedPeers: 1 } }))
        assert.strictEqual(yield* next, "Arrived two")
        // Its only place is taken by a peer that has proved itself: it answers nobody else now.
        const client = yield* start(Layers.layerClient())
        yield* client.messaging.ping(two.socketPath)
        assert.strictEqual(yield* next, "Departed two")
      })
    ))
})

describe("Peers.list", () => {
  it.live("leaves out who cannot prove to know the token, though it accepts connections", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const capability = yield* Capability
        const one = yield* start(Layers.layer({ name: "one" }))
        const path = `${host.homedir}/rogue`
        yield* Effect.acquireRelease(
          Effect.callback<net.Server>((resume) => {
            const server = net.createServer((conn) => {
              conn.on("error", () => {})
              conn.end("{\"type\":\"challenge\",\"nonce\":\"00\",\"proof\":\"00\"}\n")
            })
            server.listen(path, () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        yield* capability.publish(path, { name: "rogue" })
        assert.deepStrictEqual((yield* one.peers.list).map(({ name }) => name), [Option.some("one")])
      }).pipe(Effect.provide(CapabilityFiles.layer.pipe(Layer.provide(NodeFileSystem.layer))))
    ))
})

describe("names as addresses", () => {
  it.effect("reach the only live peer of that name", () =>
    Effect.gen(function*() {
      const one = yield* start(Layers.layerMemory({ name: "one" }))
      const two = yield* start(Layers.layerMemory({ name: "two" }))
      const receipt = yield* one.messaging.send("two", Message.text("a"))
      assert.strictEqual(receipt.socketPath, two.socketPath)
    }).pipe(Effect.provide(Layers.memoryNetwork)))

  it.effect("are refused with the candidates when nobody, or more than one, has them", () =>
    Effect.gen(function*() {
      const one = yield* start(Layers.layerMemory({ name: "twin" }))
      const two = yield* start(Layers.layerMemory({ name: "twin" }))
      const ambiguous = yield* Effect.flip(one.messaging.send("twin", Message.text("a")))
      assert.deepInclude(ambiguous.reason, { _tag: "NameNotUnique", name: "twin", problem: "ambiguous" })
      for (const { socketPath } of [one, two]) assert.include(ambiguous.message, `uds:${socketPath}`)
      const unknown = yield* Effect.flip(one.messaging.ask("nobody", "?"))
      assert.strictEqual(unknown.message, "no live peer is named \"nobody\"; there are: twin, twin")
    }).pipe(Effect.provide(Layers.memoryNetwork)))
})

import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Host } from "../src/Host.ts"
import { Inbox } from "../src/Inbox.ts"
import * as privateFiles from "../src/internal/privateFiles.ts"
import * as Layers from "../src/Layers.ts"
import * as Message from "../src/Message.ts"
import { Messaging } from "../src/Messaging.ts"
import { Peers } from "../src/Peers.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

const variable = "CLAUDE_CODE_MESSAGING_SOCKET"

/** Builds an endpoint in a scope of its own. */
const start = <E>(layer: Layer.Layer<Messaging | Inbox | Peers, E>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Effect.onError(Layer.buildWithScope(layer, scope), () => Scope.close(scope, Exit.void))
    const messaging = Context.get(context, Messaging)
    return {
      messaging,
      inbox: Context.get(context, Inbox),
      peers: Context.get(context, Peers),
      socketPath: Option.getOrElse(messaging.address, () => ({ socketPath: "" })).socketPath,
      stop: Scope.close(scope, Exit.void)
    }
  })

const pathOf = Effect.map(Messaging, ({ address }) => Option.getOrThrow(address).socketPath)

describe("Layers.layer", () => {
  it.live("listens, publishes and exports while in scope, and leaves nothing", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const endpoint = yield* start(Layers.layer())
        assert.strictEqual(host.environment[variable], endpoint.socketPath)
        assert.isTrue(fs.lstatSync(endpoint.socketPath).isSocket())
        assert.strictEqual(fs.lstatSync(endpoint.socketPath).mode & 0o777, 0o600)
        assert.strictEqual(fs.readdirSync(path.join(host.homedir, ".claude", "messaging-capabilities")).length, 1)
        yield* endpoint.stop
        assert.notProperty(host.environment, variable)
        assert.deepStrictEqual(contents(host.homedir), [
          ".claude",
          ".claude/messaging-capabilities",
          path.relative(host.homedir, path.dirname(path.dirname(endpoint.socketPath)))
        ])
      })
    ))

  it.live("gives the variable its former value back", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        host.environment[variable] = "/former"
        yield* Effect.scoped(Layer.build(Layers.layer()))
        assert.strictEqual(host.environment[variable], "/former")
      })
    ))

  it.live("leaves the variable alone when somebody has set it meanwhile", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const endpoint = yield* start(Layers.layer())
        host.environment[variable] = "/other"
        yield* endpoint.stop
        assert.strictEqual(host.environment[variable], "/other")
      })
    ))

  it.live("brings back no value of an endpoint that has ended, in whichever order they end", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]]) {
          host.environment[variable] = "/former"
          const endpoints = [yield* start(Layers.layer()), yield* start(Layers.layer()), yield* start(Layers.layer())]
          const alive = new Set(endpoints.map(({ socketPath }) => socketPath))
          for (const i of order) {
            const endpoint = endpoints[i] ?? assert.fail()
            yield* endpoint.stop
            alive.delete(endpoint.socketPath)
            const value = host.environment[variable] ?? ""
            assert.isTrue(alive.size === 0 ? value === "/former" : alive.has(value), order.join())
          }
        }
      })
    ))

  it.live("is not fooled by a relative temporary directory below one that others can write to", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const open = path.join(host.homedir, "open")
        fs.mkdirSync(open)
        fs.chmodSync(open, 0o777)
        fs.mkdirSync(path.join(open, "t"), { mode: 0o700 })
        const error = yield* Effect.scoped(Layer.build(Layers.layer({ socketPath: `${open}/t/s` }))).pipe(Effect.flip)
        assert.include(error.message, "writable by others")
        const files = yield* privateFiles.make.pipe(
          Effect.provideService(Host, { ...host, cwd: open }),
          Effect.provide(NodeFileSystem.layer)
        )
        assert.include((yield* Effect.flip(files.checkAncestors("t/s"))).message, "writable by others")
      })
    ))

  it.live("runs two endpoints in one program, each with an inbox of its own", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const a = yield* start(Layers.layer({ name: "a" }))
        const b = yield* start(Layers.layer({ name: "b" }))
        yield* a.messaging.send(b.socketPath, Message.text("to b"))
        assert.strictEqual((yield* a.inbox.size).entries, 0)
        assert.strictEqual((yield* b.inbox.take).message.data, "to b")
        assert.strictEqual((yield* a.peers.list).length, 2)
        yield* b.stop
        yield* a.stop
      })
    ))

  it.live("is one endpoint when the same layer value is provided twice in a program", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const layer = Layers.layer()
        const both = Layer.merge(Layer.effectDiscard(pathOf).pipe(Layer.provide(layer)), layer)
        const paths = yield* Effect.provide(Effect.all([pathOf, pathOf]), both)
        assert.strictEqual(paths[0], paths[1])
        const peers = yield* Effect.provide(Effect.flatMap(Peers, (peers) => peers.list), both)
        assert.strictEqual(peers.length, 1)
      })
    ))

  it.live("listens where it is told, and keeps a directory that was there before", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const directory = path.join(host.homedir, "mine")
        fs.mkdirSync(directory, { mode: 0o700 })
        const endpoint = yield* start(Layers.layer({ socketPath: `uds:${directory}/s` }))
        assert.strictEqual(endpoint.socketPath, `${directory}/s`)
        yield* endpoint.stop
        assert.deepStrictEqual(contents(directory), [])
      })
    ))

  it.live("starts and stops twenty times without a trace", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        yield* Effect.scoped(Layer.build(Layers.layer()))
        const before = contents(host.homedir)
        const resources = process.getActiveResourcesInfo().length
        for (let i = 0; i < 20; i++) yield* Effect.scoped(Layer.build(Layers.layer()))
        assert.deepStrictEqual(contents(host.homedir), before)
        assert.isAtMost(process.getActiveResourcesInfo().length, resources)
      })
    ))

  it.live("leaves nothing when it is interrupted at any turn of its start", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        let started = false
        let turns = 0
        for (; !started; turns++) {
          const starting = yield* Effect.forkChild(
            Layer.build(Layers.layer()).pipe(
              Effect.andThen(Effect.sync(() => {
                started = true
              })),
              Effect.andThen(Effect.never),
              Effect.scoped
            ),
            { startImmediately: true }
          )
          yield* Effect.repeat(Effect.yieldNow, { times: turns })
          yield* Fiber.interrupt(starting)
          const left = contents(host.homedir).filter((name) => /\.(json|tmp|sock)$|\/\d+-|\/\.[0-9a-f]{8}$/.test(name))
          assert.deepStrictEqual(left, [])
          assert.notProperty(host.environment, variable)
        }
      })
    ))

  it.live.each([
    { name: "a wrong limit", options: { limits: { maxPeers: 0 } }, tag: "InvalidLimit" },
    { name: "a wrong namespace", options: { namespace: "../x" }, tag: "InvalidNamespace" },
    { name: "a relative path", options: { socketPath: "x.sock" }, tag: "AddressError" },
    { name: "a path with a token", options: { socketPath: "/x#token=y" }, tag: "AddressError" },
    { name: "a path that is too long", options: { socketPath: `/${"x".repeat(107)}` }, tag: "AddressError" },
    { name: "a shared directory", options: { socketPath: "/tmp/x.sock" }, tag: "ListenError" },
    { name: "an unwritable place", options: { socketPath: "/proc/x/s" }, tag: "ListenError" },
    { name: "a name that is too long", options: { name: "x".repeat(5_000) }, tag: "CapabilityError" }
  ])(
    "fails with a typed error for $name, and leaves nothing",
    ({ options, tag }) =>
      withTempHost((host) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(Effect.scoped(Layer.build(Layers.layer(options))))
          assert.strictEqual(error._tag, tag)
          assert.deepStrictEqual(contents(host.homedir).filter((name) => /\.(json|tmp|sock)$|\/\d+-/.test(name)), [])
          assert.notProperty(host.environment, variable)
        })
      )
  )

  it.live("can be started again at the same path after a failure", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const socketPath = path.join(host.homedir, "e", "s")
        const failed = yield* Effect.flip(start(Layers.layer({ socketPath, name: "x".repeat(5_000) })))
        assert.strictEqual(failed._tag, "CapabilityError")
        const endpoint = yield* start(Layers.layer({ socketPath }))
        yield* endpoint.messaging.ping(socketPath)
        yield* endpoint.stop
      })
    ))

  it.live("refuses a Node that is too old before anything else", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const error = yield* Effect.scoped(Layer.build(Layers.layer())).pipe(
          Effect.provideService(Host, { ...host, nodeVersion: "20.20.2" }),
          Effect.flip
        )
        assert.strictEqual(error._tag, "UnsupportedNode")
        assert.include(error.message, "needs Node 22.19.0 or later, and this is Node 20.20.2")
        assert.deepStrictEqual(contents(host.homedir), [])
      })
    ))
})

describe("Layers.layerConfig", () => {
  const withConfig = (values: Record<string, unknown>) =>
    Layers.layerConfig().pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(values))))

  it.live("reads its options from Config", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const socketPath = path.join(host.homedir, "c", "s")
        const endpoint = yield* start(
          withConfig({
            socketPath,
            namespace: "acme",
            name: "n",
            limits: { maxInboxEntries: 1, idleTimeout: "1 minute" }
          })
        )
        assert.strictEqual(host.environment["ACME_MESSAGING_SOCKET"], socketPath)
        yield* endpoint.messaging.send(socketPath, Message.text("a"))
        const error = yield* Effect.flip(endpoint.messaging.send(socketPath, Message.text("b")))
        assert.strictEqual(error.reason._tag, "InboxFull")
        assert.deepStrictEqual((yield* endpoint.peers.list).map(({ name }) => name), [Option.some("n")])
        yield* endpoint.stop
      })
    ))

  it.live("fails with InvalidLimit for a value that cannot work", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(start(withConfig({ limits: { maxPeers: 0 } })))
        assert.strictEqual(error._tag, "InvalidLimit")
      })
    ))
})

describe("Layers.layerClient", () => {
  it.live("sends, pings and lists without socket, file or variable", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const endpoint = yield* start(Layers.layer())
        const before = contents(host.homedir)
        const value = host.environment[variable]
        const client = yield* start(Layers.layerClient())
        assert.isTrue(Option.isNone(client.messaging.address))
        yield* client.messaging.send(endpoint.socketPath, Message.text("a"))
        yield* client.messaging.ping(endpoint.socketPath)
        assert.strictEqual((yield* client.peers.list).length, 1)
        assert.isUndefined((yield* endpoint.inbox.take).sender.address)
        assert.deepStrictEqual(contents(host.homedir), before)
        assert.strictEqual(host.environment[variable], value)
        yield* client.stop
        yield* endpoint.stop
      })
    ))
})

describe("Layers.layerMemory", () => {
  it.effect("touches neither disk nor environment", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const endpoint = yield* start(Layers.layerMemory())
        yield* endpoint.messaging.send(endpoint.socketPath, Message.text("a"))
        assert.strictEqual((yield* endpoint.inbox.take).message.data, "a")
        assert.deepStrictEqual(contents(host.homedir), [])
        assert.deepStrictEqual(host.environment, {})
        yield* endpoint.stop
      })
    ))

  it.effect("meets only the endpoints of its own network", () =>
    Effect.gen(function*() {
      const count = Effect.gen(function*() {
        yield* Layer.build(Layers.layerMemory({ name: "a" }))
        const b = yield* Layer.build(Layers.layerMemory({ name: "b" }))
        return (yield* Context.get(b, Peers).list).length
      }).pipe(Effect.scoped, Effect.provide(Layers.memoryNetwork))
      assert.deepStrictEqual(yield* Effect.all([count, count]), [2, 2])
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, type Scope } from "effect"
import * as path from "node:path"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import * as Messaging from "../../src/Messaging.ts"
import { AccessDenied, MessagingError, PeerUnreachable } from "../../src/MessagingError.ts"
import * as Peers from "../../src/Peers.ts"
import { Faults, Network } from "../../src/testing/index.ts"
import { ListenError, ListenFailed } from "../../src/Transport.ts"
import { endpointsOf } from "../utils/endpoints.ts"
import { contents, withTempHost } from "../utils/tempHost.ts"

const endpoint = endpointsOf(Layers.layer)
const memoryEndpoint = endpointsOf(Layers.layerMemory)

/** A test against real files and sockets in a home of its own, with faults in reach. */
const check = (
  behaviour: string,
  body: (faults: Faults.Faults["Service"]) => Effect.Effect<void, unknown, Scope.Scope | Faults.Faults>
) => it.live(behaviour, () => withTempHost(() => Effect.provide(Effect.flatMap(Faults.Faults, body), Faults.layer)))

/** A test among in-memory endpoints. */
const checkMemory = (
  behaviour: string,
  body: (faults: Faults.Faults["Service"]) => Effect.Effect<void, unknown, Scope.Scope | Faults.Faults>
) =>
  it.effect(
    behaviour,
    () => Effect.flatMap(Faults.Faults, body).pipe(Effect.provide(Layer.mergeAll(Layers.memoryNetwork, Faults.layer)))
  )

const namesOf = (log: ReadonlyArray<Faults.Operation>) => log.map(({ name }) => name)

const bob = "/memory/bob.sock"

describe("Faults", () => {
  check("notes what a start does, in order, and by what paths", (faults) =>
    Effect.gen(function*() {
      const { socketPath } = yield* endpoint({ name: "noted" })
      const log = yield* faults.log
      assert.deepStrictEqual(log.map(({ number }) => number), log.map((_, index) => index + 1))
      const looks = new Set(["FileSystem.lstat", "FileSystem.readDirectory", "Posix.lookAt", "Posix.realPath"])
      assert.deepStrictEqual(
        namesOf(log).filter((name) => !looks.has(name)),
        [
          "Transport.directories",
          "Transport.listen",
          "FileSystem.makeDirectory",
          "FileSystem.makeDirectory",
          "Net.bind",
          "FileSystem.chmod",
          "FileSystem.link",
          "FileSystem.remove",
          "FileSystem.remove",
          "FileSystem.makeDirectory",
          "FileSystem.makeDirectory",
          "FileSystem.open",
          "File.writeAll",
          "File.sync",
          "FileSystem.rename"
        ]
      )
      const link = log.find(({ name }) => name === "FileSystem.link")
      assert.isTrue(link?.path.endsWith(` ${socketPath}`))
      const write = log.find(({ name }) => name === "File.writeAll")
      assert.match(path.basename(write?.path ?? ""), /^[0-9a-f]{64}\.json\.[0-9a-f-]+\.tmp$/)
    }))

  check("notes what a send does on a socket", (faults) =>
    Effect.gen(function*() {
      const { inbox, messaging, socketPath } = yield* endpoint()
      yield* faults.reset
      yield* messaging.send(socketPath, Message.text("note"))
      yield* inbox.drain
      const names = new Set(namesOf(yield* faults.log))
      for (const name of ["Transport.dial", "Net.connect", "Socket.read", "Socket.write", "Posix.openUntrusted"]) {
        assert.isTrue(names.has(name), name)
      }
    }))

  check("makes the chosen operation fail, once, with the code that was chosen", (faults) =>
    Effect.gen(function*() {
      yield* faults.failAt(1, "ENOSPC", "Net.bind")
      const error = yield* Effect.flip(Effect.scoped(endpoint()))
      assert.isTrue(error instanceof ListenError && error.reason instanceof ListenFailed)
      assert.match(error.message, /: ENOSPC$/)
      yield* endpoint()
      const binds = (yield* faults.log).filter(({ name }) => name === "Net.bind")
      assert.deepStrictEqual(binds.map(({ errno }) => errno), ["ENOSPC", undefined])
    }))

  check("counts every operation from where it was told to", (faults) =>
    Effect.gen(function*() {
      yield* endpoint()
      const { length } = yield* faults.log
      yield* faults.failAt(3, "EIO")
      yield* Effect.exit(Effect.scoped(endpoint()))
      const failed = (yield* faults.log).find(({ errno }) => errno === "EIO")
      assert.strictEqual(failed?.number, length + 3)
    }))

  check("tells how many failures are still to come, and forgets them", (faults) =>
    Effect.gen(function*() {
      yield* faults.failAt(1, "EIO", "Net.bind")
      yield* faults.failAt(9, "EIO", "Net.bind")
      assert.strictEqual(yield* faults.pending, 2)
      yield* Effect.exit(Effect.scoped(endpoint()))
      assert.strictEqual(yield* faults.pending, 1)
      yield* faults.reset
      assert.deepStrictEqual([yield* faults.pending, yield* faults.log], [0, []])
    }))

  it.live("runs an action at its moment", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const faults = yield* Faults.Faults
        let seen: ReadonlyArray<string> = []
        const look = Effect.sync(() => {
          seen = contents(host.tmpdir).map((file) => path.basename(file))
        })
        yield* faults.runAt(1, look, "FileSystem.link")
        yield* endpoint()
        // The socket has its private name and not yet its public one.
        assert.isTrue(seen.some((name) => /^\.[0-9a-f]{8}$/.test(name)))
        assert.notInclude(seen, "messaging.sock")
        assert.strictEqual(yield* faults.pending, 0)
      }).pipe(Effect.provide(Faults.layer))
    ))

  it.live("leaves alone what is built without it", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { socketPath } = yield* endpoint()
        const services = yield* Layer.build(Layer.provideMerge(Layers.layerClient(), Faults.layer))
        const faults = Context.get(services, Faults.Faults)
        yield* faults.failAt(1, "EIO", "Transport.listen")
        yield* Effect.scoped(endpoint())
        yield* Context.get(services, Messaging.Messaging).ping(socketPath)
        const names = namesOf(yield* faults.log)
        assert.include(names, "Transport.dial")
        assert.notInclude(names, "Transport.listen")
      })
    ))

  for (
    const [errno, reason] of [
      ["ECONNREFUSED", new PeerUnreachable({ socketPath: bob, code: "ECONNREFUSED" })],
      ["EACCES", new AccessDenied({ path: bob, code: "EACCES" })],
      ["EMFILE", new PeerUnreachable({ socketPath: bob, code: "EMFILE" })]
    ] as const
  ) {
    checkMemory(
      `fails a dial between in-memory endpoints with ${errno} as the system would`,
      (faults) =>
        Effect.gen(function*() {
          const alice = yield* memoryEndpoint()
          yield* memoryEndpoint({ socketPath: bob })
          yield* faults.failAt(1, errno, "Transport.dial")
          const error = yield* Effect.flip(alice.messaging.send(bob, Message.text("hello")))
          assert.deepStrictEqual(error, new MessagingError({ reason }))
        })
    )
  }

  for (const name of ["Socket.read", "Socket.write"]) {
    checkMemory(
      `closes a connection of which a ${name} fails; the message goes over the next one`,
      (faults) =>
        Effect.gen(function*() {
          const alice = yield* memoryEndpoint({ socketPath: "/memory/alice.sock" })
          const receiver = yield* memoryEndpoint({ socketPath: bob })
          yield* faults.failAt(2, "EPIPE", name)
          yield* Network.run(alice.messaging.send(bob, Message.text("hello")))
          assert.strictEqual(yield* faults.pending, 0)
          assert.deepStrictEqual((yield* receiver.inbox.drain).map(({ message }) => message.data), ["hello"])
          assert.strictEqual(namesOf(yield* faults.log).filter((name) => name === "Transport.dial").length, 2)
        })
    )
  }

  checkMemory("has what cannot fail find nothing out", (faults) =>
    Effect.gen(function*() {
      const services = yield* Layer.build(Layers.layerMemory({ name: "somebody" }))
      const peers = Context.get(services, Peers.Peers)
      yield* faults.failAt(1, "EMFILE", "Transport.probe")
      assert.deepStrictEqual(yield* peers.sweep, [])
    }))

  check("exhausts a run: once for each operation, and one more", (faults) =>
    Effect.gen(function*() {
      const failed: Array<Faults.Operation> = []
      let [ended, runs] = [0, 0]
      const operations = yield* Faults.exhaust("EIO", (faulty) =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(faulty(Effect.scoped(endpoint())))
          if (exit._tag === "Success") ended++
          runs++
          failed.push(...(yield* faults.log).filter(({ errno }) => errno === "EIO"))
          // Outside of the counted part nothing fails.
          yield* Effect.scoped(endpoint())
        }))
      assert.deepStrictEqual(failed.map(({ number }) => number), failed.map((_, index) => index + 1))
      assert.deepStrictEqual([failed.length, runs], [operations, operations + 1])
      assert.isAbove(ended, 0)
    }))
})

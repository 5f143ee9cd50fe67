import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, FileSystem, Scope } from "effect"
import type * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"
import * as path from "node:path"
import * as NodeTransport from "../src/NodeTransport.ts"
import type { Listener, Transport } from "../src/Transport.ts"
import { connectRaw, type RawPeer } from "./utils/rawPeer.ts"
import { settled, tick } from "./utils/resources.ts"
import { withTempHost } from "./utils/tempHost.ts"

interface Setup {
  readonly transport: Transport["Service"]
  readonly socketPath: string
}

const withTransport = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const transport = yield* NodeTransport.make
    return yield* use({ transport, socketPath: path.join(host.tmpdir, "messaging.sock") })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const serve = <A, E>(listener: Listener, handler: (socket: Socket.Socket) => Effect.Effect<A, E>) =>
  Effect.forkScoped(listener.run(handler), { startImmediately: true })

const countPipes = () => process.getActiveResourcesInfo().filter((name) => name.startsWith("Pipe")).length

/** How many there are once those are closed that earlier tests let go of: when the count stays for 100 rounds. */
const pipes = (last = countPipes(), rounds = 100): Effect.Effect<number> =>
  rounds === 0
    ? Effect.succeed(last)
    : Effect.flatMap(tick, () => countPipes() === last ? pipes(last, rounds - 1) : pipes())

/** The event loop closes handles a few rounds after it was told to. */
const pipesAre = (count: number) =>
  Effect.map(settled(countPipes, count), (found) => assert.strictEqual(found, count, "open pipes"))

describe("NodeTransport", () => {
  it.live("leaves no open handle for connections that end early", () =>
    withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
      const before = yield* pipes()
      yield* Effect.scoped(Effect.gen(function*() {
        const listener = yield* transport.listen({ socketPath })
        yield* Effect.scoped(transport.dial(socketPath))
        yield* serve(listener, () => Effect.never)
        yield* Effect.scoped(transport.dial(socketPath))
        const dialling = yield* Effect.forkChild(Effect.scoped(transport.dial(socketPath)), {
          startImmediately: true
        })
        yield* Fiber.interrupt(dialling)
        yield* transport.probe(socketPath)
      }))
      yield* Effect.ignore(transport.dial(socketPath))
      yield* pipesAre(before)
    })))

  it.live("leaves no open handle for connections that were never served", () =>
    withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
      const before = yield* pipes()
      yield* Effect.scoped(Effect.andThen(
        transport.listen({ socketPath }),
        Effect.replicateEffect(transport.dial(socketPath), 4)
      ))
      yield* pipesAre(before)
    })))

  it.live("serves a connection made as soon as the path is there", () =>
    withTempHost(Effect.fnUntraced(function*(host) {
      const socketPath = path.join(host.tmpdir, "messaging.sock")
      const real = yield* FileSystem.FileSystem
      const scope = yield* Effect.scope
      const early: Array<RawPeer> = []
      // The path is public once it is linked, and the start has more to do; whoever connects then is accepted.
      const link: FileSystem.FileSystem["link"] = Effect.fnUntraced(function*(from, to) {
        yield* real.link(from, to)
        const before = yield* pipes()
        early.push(yield* Effect.provideService(connectRaw(socketPath), Scope.Scope, scope))
        yield* pipesAre(before + 2)
      })
      const transport = yield* NodeTransport.make.pipe(
        Effect.provideService(FileSystem.FileSystem, { ...real, link })
      )
      const listener = yield* transport.listen({ socketPath })
      yield* serve(
        listener,
        (socket) => Effect.scoped(Effect.flatMap(socket.writer, ({ write }) => write(Buffer.from("served\n"))))
      )
      assert.deepStrictEqual(yield* Effect.forEach(early, ({ line }) => line), ["served"])
    })).pipe(Effect.provide(NodeFileSystem.layer)))
})

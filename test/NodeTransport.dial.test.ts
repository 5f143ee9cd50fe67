import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FileSystem } from "effect"
import { systemError } from "effect/PlatformError"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import * as net from "node:net"
import * as path from "node:path"
import { Interposer, type Interposition } from "../src/internal/interposer.ts"
import * as Limits from "../src/Limits.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { ConnectDenied, ConnectFailed, DialError, NotListening, type Transport } from "../src/Transport.ts"
import { connectRaw } from "./utils/rawPeer.ts"
import { tick } from "./utils/resources.ts"
import { withTempHost } from "./utils/tempHost.ts"

interface Setup {
  readonly transport: Transport["Service"]
  /** In a private directory that exists. */
  readonly socketPath: string
}

interface Given {
  readonly beforeCall?: Interposition["beforeCall"]
  readonly files?: (real: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>
  readonly limits?: Limits.Options
}

const withTransport = <A, E, R>(given: Given, use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const real = yield* FileSystem.FileSystem
    const none = yield* Interposer
    const transport = yield* NodeTransport.make.pipe(
      Effect.provideService(FileSystem.FileSystem, { ...real, ...given.files?.(real) }),
      Effect.provideService(Interposer, { ...none, beforeCall: given.beforeCall ?? none.beforeCall }),
      Effect.provideServiceEffect(Limits.Limits, Limits.make(given.limits))
    )
    return yield* use({ transport, socketPath: path.join(host.tmpdir, "messaging.sock") })
  }, Effect.scoped)).pipe(Effect.provide(NodeFileSystem.layer))

/** A server of plain `node:net`, closed with the scope; the connections that it accepts. */
const plainServer = (socketPath: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: net.Server; readonly accepted: Array<net.Socket> }>((resume) => {
      const accepted: Array<net.Socket> = []
      const server = net.createServer({ allowHalfOpen: true }, (conn) => {
        accepted.push(conn)
        conn.on("error", () => {})
      })
      server.listen(socketPath, () => resume(Effect.succeed({ server, accepted })))
    }),
    ({ accepted, server }) =>
      Effect.sync(() => {
        for (const conn of accepted) conn.destroy()
        server.close()
      })
  )

/** The connections that servers made by `node:net` accept from here on, of whatever library. */
const accepted = Effect.acquireRelease(
  Effect.sync(() => {
    const real = net.Server.prototype.emit
    const conns: Array<net.Socket> = []
    net.Server.prototype.emit = function(this: net.Server, event: string, ...given: ReadonlyArray<never>) {
      // What the event carries, which the type of `emit` does not tell.
      if (event === "connection") conns.push(given[0] as unknown as net.Socket)
      return Reflect.apply(real, this, [event, ...given]) as boolean
    } as typeof real
    return { conns, real }
  }),
  ({ real }) =>
    Effect.sync(() => {
      net.Server.prototype.emit = real
    })
)

describe("NodeTransport", () => {
  describe("a failed connect", () => {
    it.each([
      ["ENOENT", new NotListening({ path: "/a", code: "ENOENT" })],
      ["ECONNREFUSED", new NotListening({ path: "/a", code: "ECONNREFUSED" })],
      ["ENOTDIR", new NotListening({ path: "/a", code: "ENOTDIR" })],
      ["EACCES", new ConnectDenied({ path: "/a", code: "EACCES" })],
      ["EPERM", new ConnectDenied({ path: "/a", code: "EPERM" })],
      ["EMFILE", new ConnectFailed({ path: "/a", code: "EMFILE" })],
      [undefined, new ConnectFailed({ path: "/a", code: "UNKNOWN" })]
    ])("with %s tells whether anybody listens, whether it is permitted, or neither", (code, reason) => {
      assert.deepStrictEqual(NodeTransport.dialReason("/a", { code }), reason)
    })

    it.live("names its path and the system's code", () =>
      withTransport({}, ({ socketPath, transport }) =>
        Effect.gen(function*() {
          yield* plainServer(socketPath)
          const below = path.join(socketPath, "below.sock")
          assert.deepStrictEqual(
            yield* Effect.flip(transport.dial(below)),
            new DialError({ reason: new NotListening({ path: below, code: "ENOTDIR" }) })
          )
        })))

    it.live("of a look at the socket tells the same", () =>
      withTransport({
        files: () => ({
          lstat: () =>
            Effect.fail(systemError({
              _tag: "PermissionDenied",
              module: "FileSystem",
              method: "lstat",
              cause: Object.assign(new Error("EACCES"), { code: "EACCES" })
            }))
        })
      }, ({ socketPath, transport }) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(
            yield* Effect.flip(transport.verify(socketPath)),
            new DialError({ reason: new ConnectDenied({ path: socketPath, code: "EACCES" }) })
          )
          assert.strictEqual(yield* transport.discard(socketPath), "kept")
        })))
  })

  describe("a connection", () => {
    it.live("that was dialled can be written to after the other side has ended its own", () =>
      withTransport({}, ({ socketPath, transport }) =>
        Effect.gen(function*() {
          const { accepted } = yield* plainServer(socketPath)
          const socket = yield* transport.dial(socketPath)
          const { pull } = yield* socket.reader
          const { write } = yield* socket.writer
          yield* Effect.repeat(tick, { until: () => accepted.length === 1 })
          const [conn] = accepted
          const read = Effect.callback<string>((resume) => {
            conn?.once("data", (data) => resume(Effect.succeed(data.toString())))
            conn?.once("close", () => resume(Effect.succeed("closed")))
          })
          conn?.end()
          yield* Effect.flip(pull)
          yield* write("late")
          assert.strictEqual(yield* read, "late")
        })))

    it.live("that was accepted can be answered after the other side has ended its own", () =>
      withTransport({}, ({ socketPath, transport }) =>
        Effect.gen(function*() {
          const listener = yield* transport.listen({ socketPath })
          const ended = yield* Deferred.make<void>()
          yield* Effect.forkScoped(
            listener.run((socket) =>
              Effect.scoped(Effect.gen(function*() {
                const { pull } = yield* socket.reader
                yield* Effect.flip(pull)
                const { write } = yield* socket.writer
                yield* Deferred.await(ended)
                yield* write(Buffer.from("late\n"))
              }))
            ),
            { startImmediately: true }
          )
          const peer = yield* connectRaw(socketPath)
          yield* peer.end
          yield* Effect.replicateEffect(tick, 10)
          yield* Deferred.succeed(ended, undefined)
          assert.strictEqual(yield* peer.line, "late")
        })))

    it.live("that waits is not read from, and then in pieces of 16 KiB", () =>
      withTransport({}, ({ socketPath, transport }) =>
        Effect.gen(function*() {
          const { conns } = yield* accepted
          const listener = yield* transport.listen({ socketPath })
          const peer = yield* connectRaw(socketPath)
          yield* peer.write("x".repeat(100_000))
          yield* Effect.repeat(tick, { until: () => conns.length === 1 })
          yield* Effect.replicateEffect(tick, 10)
          assert.strictEqual(conns[0]?.bytesRead, 0)
          const sizes: Array<number> = []
          yield* Effect.raceFirst(
            Effect.scoped(listener.run((socket) =>
              Effect.scoped(Effect.gen(function*() {
                const { pull } = yield* socket.reader
                while (sizes.reduce((sum, size) => sum + size, 0) < 100_000) {
                  for (const chunk of yield* pull) sizes.push(Buffer.from(chunk).length)
                }
                yield* (yield* socket.writer).write("read\n")
              }))
            )),
            peer.line
          )
          assert.strictEqual(Math.max(...sizes), 16_384)
        })))
  })

  describe("probe", () => {
    it.effect("does not know about what has not answered for three seconds", () =>
      Effect.gen(function*() {
        const asked = yield* Deferred.make<void>()
        yield* withTransport({
          beforeCall: () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never)
        }, ({ socketPath, transport }) =>
          Effect.gen(function*() {
            const probing = yield* Effect.forkChild(transport.probe(socketPath), { startImmediately: true })
            yield* Deferred.await(asked)
            yield* TestClock.adjust("2999 millis")
            assert.isUndefined(probing.pollUnsafe())
            yield* TestClock.adjust("1 millis")
            assert.strictEqual(yield* Fiber.join(probing), "unknown")
          }))
      }))
  })
})

/** What happens between two steps of the listener, brought about where the step begins. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, FileSystem, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { HostFacts } from "../src/Host.ts"
import { Interposer, type Interposition } from "../src/internal/interposer.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { ConnectFailed, DialError, ListenError, ListenFailed, PathOccupied, type Transport } from "../src/Transport.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { exitListeners } from "./utils/exitListeners.ts"
import { connectRaw } from "./utils/rawPeer.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

interface Setup {
  readonly host: HostFacts
  readonly transport: Transport["Service"]
  /** In a private directory that exists. */
  readonly socketPath: string
}

type BeforeCall = (call: "bind" | "connect" | "lock", socketPath: string) => Effect.Effect<void, NodeJS.ErrnoException>

/** A transport that runs `before` ahead of each call of `node:net`. */
const withTransport = <A, E, R>(before: BeforeCall, use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const interposition: Interposition = { fileSystem: (real) => real, transport: (real) => real, beforeCall: before }
    const transport = yield* Effect.provideService(NodeTransport.make, Interposer, interposition)
    return yield* use({ host, transport, socketPath: path.join(host.tmpdir, "messaging.sock") })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const errno = (code: string) => Effect.fail(Object.assign(new Error(code), { code }))

/** Runs the first time that a call is made, and lets the others pass. */
const first = (call: string, run: (socketPath: string) => Effect.Effect<void>): BeforeCall => {
  let isFirst = true
  return (made, socketPath) => {
    if (made !== call || !isFirst) return Effect.void
    isFirst = false
    return run(socketPath)
  }
}

const isLive = (transport: Transport["Service"], socketPath: string) =>
  Effect.map(transport.probe(socketPath), (liveness) => liveness === "live")

describe("NodeTransport", () => {
  describe("a dead socket that changes while its lock is taken", () => {
    it.live("is removed if another dead one has its place", () =>
      withTransport(
        first("lock", (socketPath) =>
          Effect.andThen(Effect.sync(() => fs.unlinkSync(socketPath)), deadSocket(socketPath))),
        Effect.fnUntraced(function*({ socketPath, transport }) {
          yield* deadSocket(socketPath)
          yield* transport.listen({ socketPath })
          assert.isTrue(yield* isLive(transport, socketPath))
        }, Effect.scoped)
      ))

    it.live("is no hindrance if it is gone", () =>
      withTransport(
        first("lock", (socketPath) => Effect.sync(() => fs.unlinkSync(socketPath))),
        Effect.fnUntraced(function*({ socketPath, transport }) {
          yield* deadSocket(socketPath)
          yield* transport.listen({ socketPath })
          assert.isTrue(yield* isLive(transport, socketPath))
        }, Effect.scoped)
      ))

    it.live("is no hindrance if it has gone before anybody looks", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        const real = yield* FileSystem.FileSystem
        let links = 0
        const link: FileSystem.FileSystem["link"] = (from, to) =>
          Effect.tapError(real.link(from, to), () =>
            Effect.sync(() => {
              links++
              fs.unlinkSync(to)
            }))
        const transport = yield* Effect.provideService(NodeTransport.make, FileSystem.FileSystem, { ...real, link })
        const socketPath = path.join(host.tmpdir, "messaging.sock")
        yield* deadSocket(socketPath)
        yield* transport.listen({ socketPath })
        assert.strictEqual(links, 1)
        assert.isTrue(yield* isLive(transport, socketPath))
      }, Effect.scoped)).pipe(Effect.provide(NodeFileSystem.layer)))

    it.live("is kept by discard if another one has its place", () =>
      withTransport(
        first("lock", (socketPath) =>
          Effect.andThen(
            Effect.sync(() => fs.renameSync(socketPath, `${socketPath}.old`)),
            deadSocket(socketPath)
          )),
        Effect.fnUntraced(function*({ host, socketPath, transport }) {
          yield* deadSocket(socketPath)
          assert.strictEqual(yield* transport.discard(socketPath), "kept")
          assert.deepStrictEqual(contents(host.tmpdir), ["messaging.sock", "messaging.sock.old"])
          assert.strictEqual(yield* transport.discard(socketPath), "removed")
        })
      ))
  })

  it.live("leaves alone a socket that neither answers nor refuses", () =>
    withTransport(
      (call) => call === "connect" ? errno("EIO") : Effect.void,
      Effect.fnUntraced(function*({ host, socketPath, transport }) {
        yield* deadSocket(socketPath)
        const error = yield* Effect.flip(Effect.scoped(transport.listen({ socketPath })))
        const occupant = "a socket that neither answers nor refuses"
        assert.deepStrictEqual(error, new ListenError({ reason: new PathOccupied({ path: socketPath, occupant }) }))
        assert.strictEqual(yield* transport.discard(socketPath), "kept")
        assert.deepStrictEqual(contents(host.tmpdir), ["messaging.sock"])
      })
    ))

  describe("a listener whose backlog is full", () => {
    it.live("counts as live", () =>
      withTransport(
        (call) => call === "connect" ? errno("EAGAIN") : Effect.void,
        Effect.fnUntraced(function*({ socketPath, transport }) {
          assert.strictEqual(yield* transport.probe(socketPath), "live")
        })
      ))

    it.effect("is asked again until there is room", () => {
      let refusals = 3
      return withTransport(
        (call) => call === "connect" && refusals-- > 0 ? errno("EAGAIN") : Effect.void,
        Effect.fnUntraced(function*({ socketPath, transport }) {
          yield* transport.listen({ socketPath })
          refusals = 3
          const dialling = yield* Effect.forkChild(Effect.scoped(transport.dial(socketPath)), {
            startImmediately: true
          })
          assert.strictEqual(refusals, 2)
          // Each wait is 10 ms, give or take a fifth.
          yield* TestClock.adjust("7 millis")
          assert.strictEqual(refusals, 2)
          for (let i = 0; i < 4; i++) yield* TestClock.adjust("13 millis")
          yield* Fiber.join(dialling)
          assert.strictEqual(refusals, -1)
        }, Effect.scoped)
      )
    })

    it.live("is not asked again after any other failure", () => {
      let calls = 0
      return withTransport(
        (call) => call === "connect" ? Effect.andThen(Effect.sync(() => calls++), errno("EMFILE")) : Effect.void,
        Effect.fnUntraced(function*({ socketPath, transport }) {
          const error = yield* Effect.flip(Effect.scoped(transport.dial(socketPath)))
          assert.deepStrictEqual(
            error,
            new DialError({ reason: new ConnectFailed({ path: socketPath, code: "EMFILE" }) })
          )
          assert.strictEqual(calls, 1)
        })
      )
    })
  })

  it.live.each([3, 4, 5, 6, 7, 8, 9])(
    "dials and is refused alike when the fiber yields after every %d steps",
    (steps) =>
      withTransport(
        () => Effect.void,
        Effect.fnUntraced(
          function*({ socketPath, transport }) {
            const failure = yield* Effect.flip(Effect.scoped(transport.dial(socketPath)))
            assert.strictEqual(failure.reason._tag, "NotListening")
            const listener = yield* transport.listen({ socketPath })
            yield* Effect.forkScoped(listener.run(() => Effect.never), { startImmediately: true })
            yield* transport.dial(socketPath)
          },
          Effect.scoped,
          Effect.provideService(References.MaxOpsBeforeYield, steps)
        )
      )
  )

  describe("a Windows pipe", () => {
    const pipe = "\\\\.\\pipe\\effect-messaging-test"

    it.live("has no file that could be verified, found or removed", () =>
      withTransport(
        () => errno("EIO"),
        Effect.fnUntraced(function*({ transport }) {
          yield* transport.verify(pipe)
          assert.strictEqual(yield* transport.discard(pipe), "absent")
        })
      ))

    it.live("is bound by its own name, and nothing else is touched", () => {
      const bound: Array<string> = []
      return withTransport(
        (call, name) => Effect.andThen(Effect.sync(() => bound.push(`${call} ${name}`)), errno("EACCES")),
        Effect.fnUntraced(function*({ host, transport }) {
          const error = yield* Effect.flip(Effect.scoped(transport.listen({ socketPath: pipe })))
          assert.deepStrictEqual(error, new ListenError({ reason: new ListenFailed({ path: pipe, code: "EACCES" }) }))
          assert.deepStrictEqual(bound, [`bind ${pipe}`])
          assert.deepStrictEqual(contents(host.tmpdir), [])
        })
      )
    })
  })

  describe("a process that ends", () => {
    it.live("while it listens leaves no socket and no directory of its own", () =>
      withTransport(
        () => Effect.void,
        Effect.fnUntraced(function*({ host, transport }) {
          const registered = exitListeners()
          yield* transport.listen({ socketPath: path.join(host.tmpdir, "a", "b", "messaging.sock") })
          assert.deepStrictEqual(contents(host.tmpdir), ["a", "a/b", "a/b/messaging.sock"])
          for (const listener of registered()) listener(0)
          assert.deepStrictEqual(contents(host.tmpdir), [])
        }, Effect.scoped)
      ))

    it.live("keeps what somebody else has put in the place of its socket", () =>
      withTransport(
        () => Effect.void,
        Effect.fnUntraced(function*({ host, socketPath, transport }) {
          const registered = exitListeners()
          yield* transport.listen({ socketPath })
          fs.unlinkSync(socketPath)
          fs.writeFileSync(socketPath, "theirs")
          for (const listener of registered()) listener(0)
          assert.deepStrictEqual(contents(host.tmpdir), ["messaging.sock"])
        }, Effect.scoped)
      ))

    it.live("while it binds leaves no directory", () => {
      const registered = exitListeners()
      return withTransport(
        first("bind", () =>
          Effect.sync(() => {
            for (const listener of registered()) listener(0)
          })),
        Effect.fnUntraced(function*({ host, transport }) {
          const socketPath = path.join(host.tmpdir, "a", "messaging.sock")
          const error = yield* Effect.flip(Effect.scoped(transport.listen({ socketPath })))
          assert.strictEqual(error.reason._tag, "ListenFailed")
          assert.deepStrictEqual(contents(host.tmpdir), [])
        })
      )
    })

    it.live("before its socket has its name leaves no private name", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        const real = yield* FileSystem.FileSystem
        const registered = exitListeners()
        const seen: Array<ReadonlyArray<string>> = []
        const link: FileSystem.FileSystem["link"] = (from, to) =>
          Effect.suspend(() => {
            seen.push(contents(host.tmpdir))
            for (const listener of registered()) listener(0)
            seen.push(contents(host.tmpdir))
            return real.link(from, to)
          })
        const transport = yield* Effect.provideService(NodeTransport.make, FileSystem.FileSystem, { ...real, link })
        const socketPath = path.join(host.tmpdir, "messaging.sock")
        yield* Effect.flip(Effect.scoped(transport.listen({ socketPath })))
        assert.strictEqual(seen[0]?.length, 1)
        assert.match(seen[0]?.[0] ?? "", /^\.[0-9a-f]{8}$/)
        assert.deepStrictEqual(seen[1], [])
      })).pipe(Effect.provide(NodeFileSystem.layer)))
  })

  it.live("goes on accepting after the server has told of an error, such as too many open files", () => {
    const servers: Array<net.Server> = []
    const emitted = net.Server.prototype.listen
    return withTransport(
      () => Effect.void,
      Effect.fnUntraced(function*({ socketPath, transport }) {
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            net.Server.prototype.listen = function(this: net.Server, ...given: ReadonlyArray<never>) {
              servers.push(this)
              return Reflect.apply(emitted, this, given) as net.Server
            } as typeof emitted
          }),
          () =>
            Effect.sync(() => {
              net.Server.prototype.listen = emitted
            })
        )
        const scope = yield* Scope.make()
        const listener = yield* Scope.provide(transport.listen({ socketPath }), scope)
        const served = yield* Deferred.make<void>()
        yield* Effect.forkScoped(listener.run(() => Deferred.succeed(served, undefined)), { startImmediately: true })
        const server = servers.find(({ listening }) => listening)
        server?.emit("error", Object.assign(new Error("EMFILE"), { code: "EMFILE" }))
        assert.isDefined(server)
        yield* connectRaw(socketPath)
        yield* Deferred.await(served)
        yield* Scope.close(scope, Exit.void)
      }, Effect.scoped)
    )
  })
})

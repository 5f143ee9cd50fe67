import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Option, Scope } from "effect"
import type * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"
import * as fs from "node:fs"
import * as path from "node:path"
import { maxPathBytes, PathTooLong } from "../src/Address.ts"
import type { HostFacts } from "../src/Host.ts"
import * as Limits from "../src/Limits.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { ConnectDenied, DialError, type Listener, ListenError, NotListening, type Transport } from "../src/Transport.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { connectRaw } from "./utils/rawPeer.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

interface Setup {
  readonly host: HostFacts
  readonly transport: Transport["Service"]
  /** In a private directory that exists. */
  readonly socketPath: string
}

const withTransport = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>, limits?: Limits.Options) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const transport = yield* NodeTransport.make.pipe(
      Effect.provideServiceEffect(Limits.Limits, Limits.make(limits))
    )
    return yield* use({ host, transport, socketPath: path.join(host.tmpdir, "messaging.sock") })
  })).pipe(Effect.provide(NodeFileSystem.layer))

/** Runs `effect` as a user who may not pass the temporary directory; back again with the scope. */
const asStranger = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => process.seteuid?.(1001)),
    () => effect,
    () => Effect.sync(() => process.seteuid?.(0))
  )
const itAsRoot = it.live.skipIf(process.getuid?.() !== 0)

/** A path of exactly that many bytes, mostly of characters of two bytes. */
const pathOfBytes = (directory: string, bytes: number) => {
  const room = bytes - Buffer.byteLength(directory) - 1
  return `${directory}/${"é".repeat(Math.floor(room / 2))}${"x".repeat(room % 2)}`
}

const serve = <A, E>(listener: Listener, handler: (socket: Socket.Socket) => Effect.Effect<A, E>) =>
  Effect.forkScoped(listener.run(handler), { startImmediately: true })

/** What becomes of an XDG_RUNTIME_DIR with that mode. */
const runtimeDirectory = (mode: number) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const XDG_RUNTIME_DIR = path.join(host.tmpdir, "run")
    fs.mkdirSync(XDG_RUNTIME_DIR)
    fs.chmodSync(XDG_RUNTIME_DIR, mode)
    host.environment["XDG_RUNTIME_DIR"] = XDG_RUNTIME_DIR
    const transport = yield* NodeTransport.make
    const { runtimeDirectory } = yield* transport.directories
    return Option.map(runtimeDirectory, (directory) => directory === XDG_RUNTIME_DIR)
  })).pipe(Effect.provide(NodeFileSystem.layer))

describe("NodeTransport", () => {
  describe("listen", () => {
    it.live("makes the socket 0600 and leaves nothing else in its directory", () =>
      withTransport(Effect.fnUntraced(function*({ host, socketPath, transport }) {
        yield* transport.listen({ socketPath })
        assert.strictEqual(fs.lstatSync(socketPath).mode & 0o7777, 0o600)
        assert.isTrue(fs.lstatSync(socketPath).isSocket())
        assert.deepStrictEqual(contents(host.tmpdir), ["messaging.sock"])
      })))

    it.live("makes the missing directories 0700", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        const base = path.join(host.tmpdir, "base")
        yield* transport.listen({ socketPath: path.join(base, "own", "messaging.sock"), base })
        assert.deepStrictEqual(contents(host.tmpdir), ["base", "base/own", "base/own/messaging.sock"])
        assert.strictEqual(fs.lstatSync(base).mode & 0o7777, 0o700)
        assert.strictEqual(fs.lstatSync(path.join(base, "own")).mode & 0o7777, 0o700)
      })))

    it.live("takes a path of exactly the platform's limit", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        const socketPath = pathOfBytes(host.tmpdir, maxPathBytes(host.platform))
        yield* transport.listen({ socketPath })
        assert.strictEqual(yield* transport.probe(socketPath), "live")
      })))

    it.live("takes a path of exactly the platform's limit whose last name is short", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        const name = "sock"
        const directory = pathOfBytes(host.tmpdir, maxPathBytes(host.platform) - name.length - 1)
        yield* transport.listen({ socketPath: path.join(directory, name) })
        assert.strictEqual(yield* transport.probe(path.join(directory, name)), "live")
      })))

    it.live("refuses a path one byte over the limit and makes no directory for it", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        const maxBytes = maxPathBytes(host.platform)
        const socketPath = pathOfBytes(path.join(host.tmpdir, "own"), maxBytes + 1)
        const error = yield* Effect.flip(transport.listen({ socketPath }))
        const reason = new PathTooLong({ path: socketPath, bytes: maxBytes + 1, maxBytes })
        assert.deepStrictEqual(error, new ListenError({ reason }))
        assert.deepStrictEqual(contents(host.tmpdir), [])
      })))
  })

  describe("dial", () => {
    it.live("connects to a listener", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        const reached = yield* Deferred.make<void>()
        const listener = yield* transport.listen({ socketPath })
        yield* serve(listener, () => Deferred.succeed(reached, undefined))
        yield* transport.dial(socketPath)
        yield* Deferred.await(reached)
      })))

    it.live("tells that there is no socket", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        const error = yield* Effect.flip(transport.dial(socketPath))
        assert.deepStrictEqual(
          error,
          new DialError({ reason: new NotListening({ path: socketPath, code: "ENOENT" }) })
        )
      })))

    it.live("tells that a socket is dead", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        yield* deadSocket(socketPath)
        const error = yield* Effect.flip(transport.dial(socketPath))
        assert.deepStrictEqual(
          error,
          new DialError({ reason: new NotListening({ path: socketPath, code: "ECONNREFUSED" }) })
        )
      })))

    itAsRoot(
      "tells that the system does not permit it (only root can become another user)",
      () =>
        withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
          yield* transport.listen({ socketPath })
          const error = yield* Effect.flip(asStranger(transport.dial(socketPath)))
          assert.deepStrictEqual(
            error,
            new DialError({ reason: new ConnectDenied({ path: socketPath, code: "EACCES" }) })
          )
        }))
    )

    it.live("refuses a path one byte over the limit", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        const maxBytes = maxPathBytes(host.platform)
        const socketPath = pathOfBytes(host.tmpdir, maxBytes + 1)
        const error = yield* Effect.flip(transport.dial(socketPath))
        const reason = new PathTooLong({ path: socketPath, bytes: maxBytes + 1, maxBytes })
        assert.deepStrictEqual(error, new DialError({ reason }))
      })))
  })

  describe("probe", () => {
    it.live("finds a listener live, before and after it runs", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        const listener = yield* transport.listen({ socketPath })
        assert.strictEqual(yield* transport.probe(socketPath), "live")
        yield* serve(listener, () => Effect.never)
        assert.strictEqual(yield* transport.probe(socketPath), "live")
      })))

    it.live("finds a missing socket dead", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        assert.strictEqual(yield* transport.probe(socketPath), "dead")
      })))

    it.live("finds a socket without a server dead", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        yield* deadSocket(socketPath)
        assert.strictEqual(yield* transport.probe(socketPath), "dead")
      })))

    itAsRoot(
      "does not know about what it may not reach (only root can become another user)",
      () =>
        withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
          yield* deadSocket(socketPath)
          assert.strictEqual(yield* asStranger(transport.probe(socketPath)), "unknown")
        }))
    )

    it.live("does not know about a path that is too long", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        const socketPath = pathOfBytes(host.tmpdir, maxPathBytes(host.platform) + 1)
        assert.strictEqual(yield* transport.probe(socketPath), "unknown")
      })))
  })

  describe("connections", () => {
    it.live("made before run are served by it", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        const listener = yield* transport.listen({ socketPath })
        const peer = yield* connectRaw(socketPath)
        yield* peer.write("early\n")
        yield* serve(listener, (socket) =>
          Effect.scoped(Effect.gen(function*() {
            const { pull } = yield* socket.reader
            const { write } = yield* socket.writer
            yield* write(Buffer.concat((yield* pull).map((chunk) => Buffer.from(chunk))))
          })))
        assert.strictEqual(yield* peer.line, "early")
      })))

    it.live("made before run beyond maxPeers are closed", () =>
      withTransport(
        Effect.fnUntraced(function*({ socketPath, transport }) {
          const listener = yield* transport.listen({ socketPath })
          const waiting = yield* Effect.replicateEffect(connectRaw(socketPath), 2)
          yield* (yield* connectRaw(socketPath)).closed
          yield* serve(listener, (socket) =>
            Effect.scoped(Effect.flatMap(socket.writer, ({ write }) => write(Buffer.from("served\n")))))
          assert.deepStrictEqual(
            yield* Effect.forEach(waiting, ({ line }) =>
              line),
            ["served", "served"]
          )
        }),
        { maxPeers: 2 }
      ))

    it.live("are closed when their handler returns without reading", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        const listener = yield* transport.listen({ socketPath })
        yield* serve(listener, () => Effect.void)
        const peer = yield* connectRaw(socketPath)
        yield* peer.write("x".repeat(100_000))
        assert.deepStrictEqual(yield* peer.rest, [])
      })))

    it.live("are closed when their handler fails, and others are still served", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        const listener = yield* transport.listen({ socketPath })
        yield* serve(listener, () => Effect.fail("no"))
        yield* (yield* connectRaw(socketPath)).closed
        yield* (yield* connectRaw(socketPath)).closed
      })))

    it.live.each([
      { name: "handlers still write", end: Effect.never },
      { name: "handlers have returned", end: Effect.void }
    ])(
      "of 32 peers that never read do not hold up the release while $name",
      ({ end }) =>
        withTransport(Effect.fnUntraced(function*({ host, socketPath, transport }) {
          const peers = 32
          const scope = yield* Scope.make()
          let written = 0
          const allWritten = yield* Deferred.make<void>()
          const listener = yield* Scope.provide(transport.listen({ socketPath }), scope)
          yield* Scope.provide(
            serve(listener, (socket) =>
              Effect.gen(function*() {
                const { write } = yield* socket.writer
                // More than the kernel buffers, so that it waits for the peer.
                yield* Effect.forkScoped(write(Buffer.alloc(4_000_000)), { startImmediately: true })
                if (++written === peers) yield* Deferred.succeed(allWritten, undefined)
                yield* end
              }).pipe(Effect.scoped)),
            scope
          )
          yield* Effect.replicateEffect(connectRaw(socketPath, { paused: true }), peers)
          yield* Deferred.await(allWritten)
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(contents(host.tmpdir), [])
        }))
    )
  })

  describe("directories", () => {
    it.live("have XDG_RUNTIME_DIR when that is private", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* runtimeDirectory(0o700), Option.some(true))
      }))

    it.live("leave out an XDG_RUNTIME_DIR that is open to others", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* runtimeDirectory(0o755), Option.none())
      }))
  })
})

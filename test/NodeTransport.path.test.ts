import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Result, Scope } from "effect"
import { Buffer } from "node:buffer"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { HostFacts } from "../src/Host.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { AddressInUse, ListenError, PathOccupied, type Transport } from "../src/Transport.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { connectRaw } from "./utils/rawPeer.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

interface Setup {
  readonly host: HostFacts
  readonly transport: Transport["Service"]
  /** In a private directory that exists. */
  readonly socketPath: string
}

const withTransport = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const transport = yield* NodeTransport.make
    return yield* use({ host, transport, socketPath: path.join(host.tmpdir, "messaging.sock") })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const itAsRoot = it.live.skipIf(process.getuid?.() !== 0)

/** A server of plain `node:net`, closed with the scope. */
const liveSocket = (socketPath: string) =>
  Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer((conn) => {
        // A probe hangs up before it has read anything.
        conn.on("error", () => {})
        conn.end("plain\n")
      })
      server.listen(socketPath, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

/** Every entry below `directory`, with all that a change of it would change. */
const snapshot = (directory: string) =>
  contents(directory).map((name) => {
    const entry = path.join(directory, name)
    const stat = fs.lstatSync(entry)
    const { ctimeMs, ino, mode, mtimeMs, nlink, size, uid } = stat
    const content = stat.isFile() ? fs.readFileSync(entry, "utf8") : stat.isSymbolicLink() ? fs.readlinkSync(entry) : ""
    return { name, ctimeMs, ino, mode, mtimeMs, nlink, size, uid, content }
  })

/** `listen` fails for that reason, and everything on disk is as it was. */
const assertRefused = Effect.fnUntraced(function*({ host, socketPath, transport }: Setup, occupant: string) {
  const before = snapshot(host.tmpdir)
  const error = yield* Effect.flip(Effect.scoped(transport.listen({ socketPath })))
  assert.deepStrictEqual(error, new ListenError({ reason: new PathOccupied({ path: socketPath, occupant }) }))
  assert.deepStrictEqual(snapshot(host.tmpdir), before)
})

const assertInUse = Effect.fnUntraced(function*({ host, socketPath, transport }: Setup) {
  const before = snapshot(host.tmpdir)
  const error = yield* Effect.flip(Effect.scoped(transport.listen({ socketPath })))
  assert.deepStrictEqual(error, new ListenError({ reason: new AddressInUse({ path: socketPath }) }))
  assert.deepStrictEqual(snapshot(host.tmpdir), before)
})

/** Listens at `socketPath` while `during` runs. */
const listening = <A, E, R>({ socketPath, transport }: Setup, during: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.andThen(transport.listen({ socketPath }), during))

describe("NodeTransport", () => {
  describe("a path taken", () => {
    it.live("by a file is refused", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.writeFileSync(setup.socketPath, "mine")
        yield* assertRefused(setup, "a File")
      })))

    it.live("by a directory is refused", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.mkdirSync(setup.socketPath)
        yield* assertRefused(setup, "a Directory")
      })))

    it.live("by a link to nothing is refused", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.symlinkSync("nothing", setup.socketPath)
        yield* assertRefused(setup, "a link")
      })))

    it.live("by a link to a dead socket is refused", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        yield* deadSocket(path.join(setup.host.tmpdir, "dead.sock"))
        fs.symlinkSync("dead.sock", setup.socketPath)
        yield* assertRefused(setup, "a link")
      })))

    it.live("by a live server is refused", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        yield* liveSocket(setup.socketPath)
        yield* assertInUse(setup)
        assert.strictEqual(yield* (yield* connectRaw(setup.socketPath)).line, "plain")
      })))

    it.live("by another listener is refused", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        yield* setup.transport.listen({ socketPath: setup.socketPath })
        yield* assertInUse(setup)
        assert.strictEqual(yield* setup.transport.probe(setup.socketPath), "live")
      })))

    itAsRoot(
      "by another user's dead socket is refused (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*(setup) {
          yield* deadSocket(setup.socketPath)
          fs.chownSync(setup.socketPath, 1001, 1001)
          yield* assertRefused(setup, "another user's socket")
        }))
    )

    itAsRoot(
      "by another user's live socket is refused (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*(setup) {
          yield* liveSocket(setup.socketPath)
          fs.chownSync(setup.socketPath, 1001, 1001)
          yield* assertRefused(setup, "another user's socket")
        }))
    )

    it.live("by a dead socket of one's own is taken over", () =>
      withTransport(Effect.fnUntraced(function*({ host, socketPath, transport }) {
        yield* deadSocket(socketPath)
        const dead = fs.lstatSync(socketPath).ino
        yield* transport.listen({ socketPath })
        assert.notStrictEqual(fs.lstatSync(socketPath).ino, dead)
        assert.strictEqual(yield* transport.probe(socketPath), "live")
        assert.deepStrictEqual(contents(host.tmpdir), ["messaging.sock"])
      })))
  })

  describe("eight listeners racing on one path", () => {
    /** The one that wins answers with its number. */
    const race = Effect.fnUntraced(function*({ host, socketPath, transport }: Setup) {
      const attempts = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, number) => number),
        Effect.fnUntraced(function*(number: number) {
          const scope = yield* Scope.make()
          const result = yield* Effect.result(Scope.provide(transport.listen({ socketPath }), scope))
          if (Result.isFailure(result)) yield* Scope.close(scope, Exit.void)
          return { number, scope, result }
        }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        attempts.flatMap(({ result }) => Result.isFailure(result) ? [result.failure] : []),
        Array.from({ length: 7 }, () => new ListenError({ reason: new AddressInUse({ path: socketPath }) }))
      )
      assert.deepStrictEqual(contents(host.tmpdir), ["messaging.sock"])
      for (const { number, result, scope } of attempts) {
        if (Result.isFailure(result)) continue
        yield* Effect.forkIn(
          result.success.run((socket) =>
            // The others' probes have hung up by now.
            Effect.ignore(
              Effect.scoped(Effect.flatMap(socket.writer, ({ write }) => write(Buffer.from(`${number}\n`))))
            )
          ),
          scope
        )
        assert.strictEqual(
          yield* Effect.scoped(Effect.flatMap(connectRaw(socketPath), ({ line }) => line)),
          `${number}`
        )
        yield* Scope.close(scope, Exit.void)
      }
      assert.deepStrictEqual(contents(host.tmpdir), [])
    })

    it.live("leave exactly one, which answers", () =>
      withTransport((setup) => Effect.repeat(race(setup), { times: 24 })))

    it.live("over a dead socket leave exactly one, which answers", () =>
      withTransport((setup) => Effect.repeat(Effect.andThen(deadSocket(setup.socketPath), race(setup)), { times: 24 })))
  })

  describe("release", () => {
    it.live("removes the socket and keeps a directory that was there before", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        yield* listening(setup, Effect.void)
        assert.deepStrictEqual(contents(setup.host.tmpdir), [])
        assert.isTrue(fs.existsSync(setup.host.tmpdir))
      })))

    it.live("removes the directory it made", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const { host } = setup
        yield* listening({ ...setup, socketPath: path.join(host.tmpdir, "own", "messaging.sock") }, Effect.void)
        assert.deepStrictEqual(contents(host.tmpdir), [])
      })))

    it.live("keeps a directory it made once something else is in it", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const own = path.join(setup.host.tmpdir, "own")
        yield* listening(
          { ...setup, socketPath: path.join(own, "messaging.sock") },
          Effect.sync(() => fs.writeFileSync(path.join(own, "notes"), "mine"))
        )
        assert.deepStrictEqual(contents(setup.host.tmpdir), ["own", "own/notes"])
      })))

    it.live("keeps a file that has replaced the socket", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const { socketPath } = setup
        yield* listening(
          setup,
          Effect.sync(() => {
            fs.unlinkSync(socketPath)
            fs.writeFileSync(socketPath, "mine")
          })
        )
        assert.strictEqual(fs.readFileSync(socketPath, "utf8"), "mine")
      })))

    it.live("keeps another live socket that has replaced its own", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const { socketPath } = setup
        yield* listening(
          setup,
          Effect.gen(function*() {
            fs.unlinkSync(socketPath)
            return yield* liveSocket(`${socketPath}-`)
          }).pipe(
            Effect.tap(() => Effect.sync(() => fs.renameSync(`${socketPath}-`, socketPath))),
            Scope.provide(yield* Effect.scope)
          )
        )
        assert.strictEqual(yield* (yield* connectRaw(socketPath)).line, "plain")
      })))

    it.live("keeps its own socket under a name that somebody gave it", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const { host, socketPath } = setup
        yield* listening(setup, Effect.sync(() => fs.renameSync(socketPath, path.join(host.tmpdir, "kept"))))
        assert.deepStrictEqual(contents(host.tmpdir), ["kept"])
      })))

    it.live("succeeds twice", () =>
      withTransport(Effect.fnUntraced(function*({ host, socketPath, transport }) {
        const scope = yield* Scope.make()
        yield* Scope.provide(transport.listen({ socketPath }), scope)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* Effect.exit(Scope.close(scope, Exit.void)), Exit.void)
        assert.deepStrictEqual(contents(host.tmpdir), [])
      })))

    it.live("succeeds after the socket and its directory have vanished", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const own = path.join(setup.host.tmpdir, "own")
        const exit = yield* Effect.exit(listening(
          { ...setup, socketPath: path.join(own, "messaging.sock") },
          Effect.sync(() => fs.rmSync(own, { recursive: true }))
        ))
        assert.deepStrictEqual(exit, Exit.void)
      })))

    it.live("lets the path be taken again", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        yield* listening(setup, Effect.void)
        assert.strictEqual(yield* listening(setup, setup.transport.probe(setup.socketPath)), "live")
      })))
  })
})

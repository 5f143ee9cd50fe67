import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FileSystem, Logger, Queue, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { Host } from "../../src/Host.ts"
import { FileFailed } from "../../src/internal/fileFailed.ts"
import { Interposer, type Interposition } from "../../src/internal/interposer.ts"
import { lockName } from "../../src/internal/pathLock.ts"
import * as socketPaths from "../../src/internal/socketPath.ts"
import { ListenFailed, type Transport } from "../../src/Transport.ts"
import { deadSocket } from "../utils/deadSocket.ts"
import { fileFails } from "../utils/fileFails.ts"
import { makeHeldCall } from "../utils/heldCall.ts"
import { tick } from "../utils/resources.ts"
import { contents, withTempHost } from "../utils/tempHost.ts"

interface Setup {
  readonly directory: string
  readonly socketPath: string
  readonly paths: socketPaths.SocketPaths
}

interface Faults {
  readonly files?: (real: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>
  readonly beforeCall?: Interposition["beforeCall"]
  readonly probe?: Transport["Service"]["probe"]
}

/** Paths in a private directory, where every socket is found dead. */
const withPaths = <A, E, R>({ beforeCall, files, probe }: Faults, use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const real = yield* FileSystem.FileSystem
    const none = yield* Interposer
    const paths = yield* socketPaths.make(probe ?? (() => Effect.succeed("dead"))).pipe(
      Effect.provideService(FileSystem.FileSystem, { ...real, ...files?.(real) }),
      Effect.provideService(Interposer, { ...none, beforeCall: beforeCall ?? none.beforeCall })
    )
    return yield* use({ directory: host.tmpdir, socketPath: path.join(host.tmpdir, "messaging.sock"), paths })
  }, Effect.scoped)).pipe(Effect.provide(NodeFileSystem.layer))

const errno = (code: string) => Effect.fail(Object.assign(new Error(code), { code }))

/** Runs the first time that the lock is asked for. */
const atFirstLock = (run: (socketPath: string) => Effect.Effect<void, NodeJS.ErrnoException>) => {
  let isFirst = true
  const beforeCall: Interposition["beforeCall"] = (call, socketPath) => {
    if (call !== "lock" || !isFirst) return Effect.void
    isFirst = false
    return run(socketPath)
  }
  return { beforeCall }
}

/** A server of plain `node:net` that closes what it accepts. It is closed with the scope, if it listens. */
const makeServer = Effect.acquireRelease(
  Effect.sync(() => net.createServer((conn) => conn.destroy())),
  (server) => Effect.sync(() => server.close())
)

/** Listens at the path; each later server is closed when the next has its place. */
const take = Effect.fnUntraced(function*({ paths, socketPath }: Setup) {
  const server = yield* makeServer
  yield* paths.take(server, { socketPath }, (listening) => Effect.flatMap(makeServer, listening).pipe(Effect.scoped))
  return server
})

describe("socketPath", () => {
  describe("removeDead", () => {
    it.live("answers whether it has removed a socket", () =>
      withPaths({}, ({ directory, paths, socketPath }) =>
        Effect.gen(function*() {
          assert.isFalse(yield* paths.removeDead(socketPath))
          yield* deadSocket(socketPath)
          assert.isTrue(yield* paths.removeDead(socketPath))
          assert.deepStrictEqual(contents(directory), [])
        })))

    it.live.each([
      { name: "it has gone", successor: () => Effect.void, left: [] },
      { name: "another dead socket stands there", successor: deadSocket, left: ["messaging.sock"] }
    ])("answers false when $name by the time that it has the lock", ({ left, successor }) =>
      withPaths(
        // Moved away rather than removed, since the number of its inode could be given to the other one.
        atFirstLock((socketPath) =>
          Effect.andThen(Effect.sync(() => fs.renameSync(socketPath, `${socketPath}.old`)), successor(socketPath))
        ),
        ({ directory, paths, socketPath }) =>
          Effect.gen(function*() {
            yield* deadSocket(socketPath)
            assert.isFalse(yield* paths.removeDead(socketPath))
            assert.deepStrictEqual(contents(directory), [...left, "messaging.sock.old"])
          })
      ))

    it.live("tells why it could not take the lock", () =>
      withPaths(atFirstLock(() => errno("EMFILE")), ({ paths, socketPath }) =>
        Effect.gen(function*() {
          yield* deadSocket(socketPath)
          const error = yield* Effect.flip(paths.removeDead(socketPath))
          assert.deepStrictEqual(error, new ListenFailed({ path: socketPath, code: "EMFILE" }))
        })))

    it.live("tells why it could not remove the socket", () =>
      withPaths(
        { files: () => ({ remove: () => fileFails("remove", "EIO") }) },
        ({ paths, socketPath }) =>
          Effect.gen(function*() {
            yield* deadSocket(socketPath)
            const error = yield* Effect.flip(paths.removeDead(socketPath))
            assert.deepStrictEqual(error, new FileFailed({ operation: "remove", path: socketPath, code: "EIO" }))
          })
      ))

    // The kernel tells only on Linux which names are bound.
    it.live.skipIf(process.platform !== "linux")(
      "holds the lock that every process names alike: by the path, and the device, inode and time of the socket",
      () => {
        const bound: Array<string> = []
        return withPaths({
          files: (real) => ({
            remove: (file) =>
              Effect.andThen(
                Effect.sync(() => bound.push(...fs.readFileSync("/proc/net/unix", "utf8").split(/\s+/))),
                real.remove(file)
              )
          })
        }, ({ paths, socketPath }) =>
          Effect.gen(function*() {
            yield* deadSocket(socketPath)
            const { dev, ino, mtime } = fs.lstatSync(socketPath, { bigint: true })
            assert.isTrue(yield* paths.removeDead(socketPath))
            const name = lockName(socketPath, `${dev}-${ino}-${mtime.getTime()}`, yield* Host)
            assert.include(bound, name.replace("\0", "@"))
          }))
      }
    )
  })

  describe("sweepStaging", () => {
    const names = [".00112233", ".44556677"]
    const plant = (directory: string) =>
      Effect.forEach(names, (name) => deadSocket(path.join(directory, name)), { discard: true })

    it.effect("looks again after 100 ms, and removes only then", () => {
      let looks = 0
      return withPaths({
        probe: () =>
          Effect.sync(() => {
            looks++
            return "dead" as const
          })
      }, ({ directory, paths }) =>
        Effect.gen(function*() {
          yield* plant(directory)
          const sweeping = yield* Effect.forkChild(paths.sweepStaging(directory), { startImmediately: true })
          // From here on it waits for nothing but the clock.
          yield* Effect.repeat(tick, { until: () => looks === names.length })
          const left = Effect.map(Effect.replicateEffect(tick, 50), () => contents(directory))
          assert.deepStrictEqual(yield* left, names)
          yield* TestClock.adjust("99 millis")
          assert.deepStrictEqual(yield* left, names)
          yield* TestClock.adjust("1 millis")
          yield* Fiber.join(sweeping)
          assert.deepStrictEqual(contents(directory), [])
        }))
    })

    it.effect("takes no time where nothing was left", () =>
      withPaths({}, ({ directory, paths }) =>
        Effect.gen(function*() {
          fs.writeFileSync(path.join(directory, ".00112233"), "mine")
          // The clock stands still.
          yield* paths.sweepStaging(directory)
          assert.deepStrictEqual(contents(directory), [".00112233"])
        })))

    it.live("removes the others where one cannot be removed", () =>
      withPaths(atFirstLock(() => errno("EMFILE")), ({ directory, paths }) =>
        Effect.gen(function*() {
          yield* plant(directory)
          yield* paths.sweepStaging(directory)
          assert.lengthOf(contents(directory), 1)
          yield* paths.sweepStaging(directory)
          assert.deepStrictEqual(contents(directory), [])
        })))

    it.live("is done where the directory cannot be read", () =>
      withPaths(
        { files: () => ({ readDirectory: () => fileFails("readDirectory", "EIO") }) },
        ({ directory, paths }) =>
          Effect.gen(function*() {
            yield* plant(directory)
            yield* paths.sweepStaging(directory)
            assert.deepStrictEqual(contents(directory), names)
          })
      ))
  })

  describe("take", () => {
    const crowd = 600
    const most = "/proc/sys/net/core/somaxconn"
    const canHold = fs.existsSync(most) && Number(fs.readFileSync(most, "utf8")) > crowd

    it.live.skipIf(!canHold)(
      "has room for 600 that come in one turn (the system must have as much)",
      () =>
        withPaths({}, (setup) =>
          Effect.gen(function*() {
            yield* take(setup)
            const conns = Array.from({ length: crowd }, () => net.createConnection(setup.socketPath))
            const ends = yield* Effect.forEach(
              conns,
              (conn) =>
                Effect.callback<string>((resume) => {
                  conn.once("connect", () => resume(Effect.succeed("connected")))
                  conn.once("error", ({ message }) => resume(Effect.succeed(message)))
                }),
              { concurrency: "unbounded" }
            )
            for (const conn of conns) conn.destroy()
            assert.deepStrictEqual([...new Set(ends)], ["connected"])
          }))
    )

    it.live("asks twice for its private name to be removed: where it tells of a failure, and at the end", () => {
      const removed: Array<string> = []
      return withPaths({
        files: (real) => ({
          remove: (file, options) => Effect.andThen(Effect.sync(() => removed.push(file)), real.remove(file, options))
        })
      }, (setup) =>
        Effect.gen(function*() {
          yield* take(setup)
          assert.lengthOf(removed, 2)
          assert.strictEqual(removed[0], removed[1])
          assert.match(path.basename(removed[0] ?? ""), /^\.[0-9a-f]{8}$/)
        }))
    })

    it.live("that is interrupted while it publishes waits for that, and leaves no socket", () =>
      Effect.gen(function*() {
        const { begun, call, hold } = yield* makeHeldCall
        yield* withPaths(
          { files: () => ({ link: (from, to) => hold(() => fs.linkSync(from, to)) }) },
          (setup) =>
            Effect.gen(function*() {
              const taking = yield* Effect.forkChild(Effect.scoped(take(setup)), { startImmediately: true })
              yield* begun
              const ending = yield* Effect.forkChild(Fiber.interrupt(taking), { startImmediately: true })
              yield* Effect.replicateEffect(tick, 50)
              assert.isFalse(call.isAbandoned)
              call.finish()
              yield* Fiber.join(ending)
              assert.deepStrictEqual(contents(setup.directory), [])
            })
        )
      }))

    it.live("that binds another socket when it ends waits for that, and leaves none", () =>
      Effect.gen(function*() {
        const { begun, call, hold } = yield* makeHeldCall
        const scope = yield* Scope.make()
        let calls = 0
        yield* withPaths({
          files: (real) => ({
            chmod: (file, mode) => ++calls === 1 ? real.chmod(file, mode) : hold(() => fs.chmodSync(file, mode))
          })
        }, (setup) =>
          Effect.gen(function*() {
            yield* Scope.provide(take(setup), scope)
            fs.unlinkSync(setup.socketPath)
            yield* begun
            const ending = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
            yield* Effect.replicateEffect(tick, 50)
            assert.isFalse(call.isAbandoned)
            call.finish()
            yield* Fiber.join(ending)
            assert.deepStrictEqual(contents(setup.directory), [])
          }))
      }))

    it.live("knows its socket when it comes back after another could not be published", () =>
      Effect.gen(function*() {
        const warnings = yield* Queue.unbounded<string>()
        let links = 0
        yield* withPaths({
          files: (real) => ({ link: (from, to) => ++links === 1 ? real.link(from, to) : fileFails("link", "EIO") })
        }, (setup) =>
          Effect.gen(function*() {
            const { directory, socketPath } = setup
            yield* Effect.scoped(Effect.gen(function*() {
              yield* take(setup)
              fs.renameSync(socketPath, `${socketPath}.old`)
              assert.match(yield* Queue.take(warnings), /cannot be published again: cannot publish .*: EIO;/)
              fs.renameSync(`${socketPath}.old`, socketPath)
            }))
            assert.deepStrictEqual(contents(directory), [])
          })).pipe(
            Effect.provide(Logger.layer([Logger.make(({ message }) => {
              Queue.offerUnsafe(warnings, String(message))
            })]))
          )
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
import * as net from "node:net"
import * as path from "node:path"
import { lockName, withPathLock } from "../../src/internal/pathLock.ts"
import { ListenFailed } from "../../src/Transport.ts"
import { tick } from "../utils/resources.ts"
import { contents, tempDirectory } from "../utils/tempHost.ts"

const here = { platform: process.platform, uid: Option.some(0) }
const darwin = { platform: "darwin", uid: Option.some(0) } as const

/** Of the dead socket; only those know it who can look into its directory. */
const inode = "1-2-3"

/** Lets the event loop and the virtual clock go on until the fiber has ended. */
const drive = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() =>
    fiber.pollUnsafe() === undefined
      ? Effect.callback<void>((resume) => {
        setImmediate(() => resume(Effect.void))
      }).pipe(Effect.andThen(TestClock.adjust(5)), Effect.andThen(drive(fiber)))
      : Fiber.join(fiber)
  )

describe("pathLock", () => {
  it.live.each([here, darwin])("lets one at a time in, on $platform", (host) =>
    Effect.gen(function*() {
      const lock = withPathLock(path.join(yield* tempDirectory, "sock"), inode, host)
      let inside = 0
      const visit = lock(Effect.gen(function*() {
        inside++
        yield* Effect.yieldNow
        assert.strictEqual(inside, 1)
        inside--
      }))
      yield* Effect.all(Array.from({ length: 8 }, () => visit), { concurrency: "unbounded", discard: true })
    }))

  it("has a name on Linux that the path alone does not give away", () => {
    const linux = { platform: "linux" } as const
    assert.notStrictEqual(lockName("/run/s", "1-2-3", linux), lockName("/run/s", "1-2-4", linux))
  })

  it.live.each([here, darwin])("leaves no file, on $platform", (host) =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      yield* withPathLock(path.join(directory, "sock"), inode, host)(Effect.void)
      assert.deepStrictEqual(contents(directory), [])
    }))

  it.live("is let go of when what it guards fails", () =>
    Effect.gen(function*() {
      const lock = withPathLock(path.join(yield* tempDirectory, "sock"), inode, here)
      assert.strictEqual(yield* Effect.flip(lock(Effect.fail("no"))), "no")
      assert.strictEqual(yield* lock(Effect.succeed("yes")), "yes")
    }))

  it.live("does not keep others from another path", () =>
    Effect.gen(function*() {
      const directory = yield* tempDirectory
      const inner = withPathLock(path.join(directory, "b"), inode, here)(Effect.succeed("both"))
      assert.strictEqual(yield* withPathLock(path.join(directory, "a"), inode, here)(inner), "both")
    }))

  it.effect("names itself when it is held for longer than a second", () =>
    Effect.gen(function*() {
      const socketPath = path.join(yield* tempDirectory, "sock")
      const held = yield* Deferred.make<void>()
      yield* Effect.forkScoped(
        withPathLock(socketPath, inode, darwin)(Effect.andThen(Deferred.succeed(held, undefined), Effect.never))
      )
      yield* Deferred.await(held)
      const waiting = yield* Effect.forkChild(Effect.flip(withPathLock(socketPath, inode, darwin)(Effect.void)))
      assert.deepStrictEqual(
        yield* drive(waiting),
        new ListenFailed({ path: `${socketPath}.lock`, code: "EADDRINUSE" })
      )
    }))

  it.effect("is held by whoever has bound its name", () =>
    Effect.gen(function*() {
      const socketPath = path.join(yield* tempDirectory, "sock")
      yield* Effect.acquireRelease(
        Effect.callback<net.Server>((resume) => {
          const server = net.createServer()
          server.listen(lockName(socketPath, inode, here), () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const waiting = yield* Effect.forkChild(Effect.flip(withPathLock(socketPath, inode, here)(Effect.void)))
      const shown = lockName(socketPath, inode, here).replace("\0", "@")
      assert.deepStrictEqual(yield* drive(waiting), new ListenFailed({ path: shown, code: "EADDRINUSE" }))
    }))

  it.effect("is asked for again after 5 ms, not before and not much later", () =>
    Effect.gen(function*() {
      const lock = withPathLock(path.join(yield* tempDirectory, "sock"), inode, here)
      const [held, letGo] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const holder = yield* Effect.forkScoped(
        lock(Effect.andThen(Deferred.succeed(held, undefined), Deferred.await(letGo)))
      )
      yield* Deferred.await(held)
      const waiting = yield* Effect.forkChild(lock(Effect.succeed("mine")))
      const turns = Effect.replicateEffect(tick, 10)
      yield* turns
      yield* Deferred.succeed(letGo, undefined)
      yield* Fiber.join(holder)
      yield* TestClock.adjust(4)
      yield* turns
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(waiting), "mine")
    }))

  it.effect("is not asked for again where it cannot be had", () =>
    Effect.gen(function*() {
      const socketPath = path.join(yield* tempDirectory, "missing", "sock")
      // The clock stands still, so whoever waits for it never ends.
      const error = yield* Effect.flip(withPathLock(socketPath, inode, darwin)(Effect.void))
      assert.strictEqual(error.path, `${socketPath}.lock`)
      assert.notStrictEqual(error.code, "EADDRINUSE")
    }))

  it.live("keeps nobody who connects to it", () =>
    Effect.gen(function*() {
      const socketPath = path.join(yield* tempDirectory, "sock")
      yield* withPathLock(socketPath, inode, here)(Effect.callback<void>((resume) => {
        const conn = net.createConnection(lockName(socketPath, inode, here))
        conn.on("error", () => {})
        conn.once("close", () => resume(Effect.void))
        conn.resume()
      }))
    }))
})

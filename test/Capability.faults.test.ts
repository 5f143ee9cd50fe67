import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, FileSystem, Queue, Redacted, Scope, Stream } from "effect"
import type { PlatformError } from "effect/PlatformError"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import type { HostFacts } from "../src/Host.ts"
import { exitListeners } from "./utils/exitListeners.ts"
import { fileFails } from "./utils/fileFails.ts"
import { makeHeldCall } from "./utils/heldCall.ts"
import { descriptors, tick } from "./utils/resources.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

const socketPath = "/run/peer.sock"
const directory = (host: HostFacts) => path.join(host.homedir, ".claude", "messaging-capabilities")
const file = (host: HostFacts) => path.join(directory(host), Capability.fileName(socketPath))

/** An operation that fails as often as is said, and then does what the real one does. */
const failing = <A extends ReadonlyArray<unknown>, B>(
  times: number,
  method: string,
  real: (...given: A) => Effect.Effect<B, PlatformError>
) => {
  let left = times
  return (...given: A) => Effect.suspend(() => left-- > 0 ? fileFails(method, "EMFILE") : real(...given))
}

type Faults = (real: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>

const withFaults = <A, E, R>(
  faults: Faults,
  use: (capability: Capability.Capability["Service"], host: HostFacts) => Effect.Effect<A, E, R>
) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const real = yield* FileSystem.FileSystem
    const capability = yield* Effect.provideService(Capability.make, FileSystem.FileSystem, {
      ...real,
      ...faults(real)
    })
    return yield* use(capability, host)
  })).pipe(Effect.provide(NodeFileSystem.layer))

/** Files whose writing, or making sure of it, fails. */
const brokenFile = (method: "writeAll" | "sync"): Faults => (real) => ({
  open: (path, options) =>
    Effect.map(real.open(path, options), (opened) =>
      new Proxy(opened, {
        get: (target, key) =>
          key !== method
            ? Reflect.get(target, key) as unknown
            : method === "sync"
            ? fileFails(method, "ENOSPC")
            : () => fileFails(method, "ENOSPC")
      }))
})

/** A pid that no process has: that of a child that has ended. */
const endedPid = spawnSync(process.execPath, ["--eval", ""]).pid

/** The files below a directory that this process has open; none where the system does not tell. */
const openBelow = (directory: string) => Object.keys(descriptors()).filter((file) => file.startsWith(directory))

const writeFailed = (host: HostFacts, code: string) =>
  new Capability.CapabilityError({
    reason: new Capability.FileFailed({ operation: "write", path: file(host), code })
  })

describe("Capability", () => {
  describe("a publication that fails", () => {
    it.effect.each(["writeAll", "sync"] as const)("in %s leaves no file", (method) =>
      withFaults(
        brokenFile(method),
        Effect.fnUntraced(function*(capability, host) {
          const error = yield* Effect.flip(Effect.scoped(capability.publish(socketPath)))
          assert.deepStrictEqual(error, writeFailed(host, "ENOSPC"))
          assert.deepStrictEqual(contents(directory(host)), [])
        })
      ))

    it.effect.each([0, 1, 2])("leaves no file when its removal fails as well, %d times", (times) =>
      withFaults(
        (real) => ({ ...brokenFile("writeAll")(real), remove: failing(times, "remove", real.remove) }),
        Effect.fnUntraced(function*(capability, host) {
          yield* Effect.flip(Effect.scoped(capability.publish(socketPath)))
          assert.deepStrictEqual(contents(directory(host)), [])
        })
      ))

    it.effect("at the last step leaves no file when its removal fails as well", () =>
      withFaults(
        (real) => ({ rename: () => fileFails("rename", "EIO"), remove: failing(2, "remove", real.remove) }),
        Effect.fnUntraced(function*(capability, host) {
          const error = yield* Effect.flip(Effect.scoped(capability.publish(socketPath)))
          assert.deepStrictEqual(error, writeFailed(host, "EIO"))
          assert.deepStrictEqual(contents(directory(host)), [])
        })
      ))

    it.effect("gives up after three tries to remove what it has left", () =>
      withFaults(
        (real) => ({ ...brokenFile("sync")(real), remove: failing(3, "remove", real.remove) }),
        Effect.fnUntraced(function*(capability, host) {
          yield* Effect.flip(Effect.scoped(capability.publish(socketPath)))
          assert.lengthOf(contents(directory(host)), 1)
        })
      ))
  })

  it.effect("is withdrawn although the removal fails twice", () =>
    withFaults(
      (real) => ({ remove: failing(2, "remove", real.remove) }),
      Effect.fnUntraced(function*(capability, host) {
        yield* Effect.scoped(capability.publish(socketPath))
        assert.deepStrictEqual(contents(directory(host)), [])
      })
    ))

  it.effect("is published although what others have left cannot be listed", () =>
    withFaults(
      () => ({ readDirectory: () => fileFails("readDirectory", "EIO") }),
      Effect.fnUntraced(function*(capability, host) {
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(contents(directory(host)), [Capability.fileName(socketPath)])
        yield* capability.sweep
        const error = yield* Effect.flip(capability.list)
        assert.deepStrictEqual(
          error,
          new Capability.CapabilityError({
            reason: new Capability.FileFailed({ operation: "list", path: directory(host), code: "EIO" })
          })
        )
      }, Effect.scoped)
    ))

  it.effect("tells that its file could not be removed", () =>
    withFaults(
      (real) => ({ remove: failing(1, "remove", real.remove) }),
      Effect.fnUntraced(function*(capability, host) {
        const record = yield* capability.publish(socketPath)
        const error = yield* Effect.flip(capability.remove(record))
        assert.strictEqual(error.message, `cannot remove ${file(host)}: EMFILE`)
        assert.isTrue(yield* capability.remove(record))
      }, Effect.scoped)
    ))

  it.effect("is removed without complaint when another removes it at the same moment", () =>
    withFaults(
      (real) => ({
        remove: (path, options) =>
          Effect.suspend(() => {
            fs.unlinkSync(path)
            return real.remove(path, options)
          })
      }),
      Effect.fnUntraced(function*(capability, host) {
        const record = yield* capability.publish(socketPath)
        assert.isTrue(yield* capability.remove(record))
        assert.deepStrictEqual(contents(directory(host)), [])
      }, Effect.scoped)
    ))

  it.live("that is being published again when its endpoint ends is waited for, and leaves no file", () =>
    Effect.gen(function*() {
      const { begun, call, hold } = yield* makeHeldCall
      yield* withFaults(
        () => ({ link: (from, to) => hold(() => fs.linkSync(from, to)) }),
        Effect.fnUntraced(function*(capability, host) {
          const scope = yield* Scope.make()
          yield* Scope.provide(capability.publish(socketPath), scope)
          fs.unlinkSync(file(host))
          yield* begun
          const ending = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
          yield* Effect.replicateEffect(tick, 50)
          assert.isFalse(call.isAbandoned)
          call.finish()
          yield* Fiber.join(ending)
          assert.deepStrictEqual(contents(directory(host)), [])
        })
      )
    }))

  it.effect("keeps no descriptor of its file", () =>
    withFaults(
      () => ({}),
      Effect.fnUntraced(function*(capability, host) {
        const open = () => openBelow(host.homedir)
        assert.deepStrictEqual(open(), [])
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(open(), [])
      }, Effect.scoped)
    ))

  describe("a process that ends", () => {
    it.effect("leaves no file", () =>
      withFaults(
        () => ({}),
        Effect.fnUntraced(function*(capability, host) {
          const registered = exitListeners()
          yield* capability.publish(socketPath)
          assert.deepStrictEqual(contents(directory(host)), [Capability.fileName(socketPath)])
          for (const listener of registered()) listener(0)
          assert.deepStrictEqual(contents(directory(host)), [])
        }, Effect.scoped)
      ))

    it.effect("leaves the file of whoever has published at the same path since", () =>
      withFaults(
        () => ({}),
        Effect.fnUntraced(function*(capability, host) {
          const registered = exitListeners()
          yield* capability.publish(socketPath)
          const listeners = registered()
          yield* capability.publish(socketPath)
          for (const listener of listeners) listener(0)
          assert.deepStrictEqual(contents(directory(host)), [Capability.fileName(socketPath)])
        }, Effect.scoped)
      ))
  })

  describe("a sweep", () => {
    it.effect("where no directory is makes none", () =>
      withFaults(
        () => ({}),
        (capability, host) => Effect.map(capability.sweep, () => assert.deepStrictEqual(contents(host.homedir), []))
      ))

    it.effect("changes nothing in a directory that is open to others", () =>
      withFaults(
        () => ({}),
        Effect.fnUntraced(function*(capability, host) {
          const left = `${Capability.fileName(socketPath)}.${endedPid}-0011223344556677.tmp`
          fs.mkdirSync(directory(host), { recursive: true, mode: 0o700 })
          fs.writeFileSync(path.join(directory(host), left), "")
          fs.chmodSync(directory(host), 0o755)
          yield* capability.sweep
          assert.deepStrictEqual(contents(directory(host)), [left])
          fs.chmodSync(directory(host), 0o700)
          yield* capability.sweep
          assert.deepStrictEqual(contents(directory(host)), [])
        })
      ))
  })

  it.effect("follows no link that stands at the name of its temporary file", () =>
    withTempHost(Effect.fnUntraced(function*(host) {
      const real = yield* FileSystem.FileSystem
      const victim = path.join(host.homedir, "victim")
      fs.writeFileSync(victim, "theirs")
      const open: FileSystem.FileSystem["open"] = (path, options) =>
        Effect.suspend(() => {
          fs.symlinkSync(victim, path)
          return real.open(path, options)
        })
      const capability = yield* Effect.provideService(Capability.make, FileSystem.FileSystem, { ...real, open })
      const error = yield* Effect.flip(Effect.scoped(capability.publish(socketPath)))
      assert.deepStrictEqual(error, writeFailed(host, "EEXIST"))
      assert.strictEqual(fs.readFileSync(victim, "utf8"), "theirs")
    })).pipe(Effect.provide(NodeFileSystem.layer)))

  describe("hints", () => {
    it.live("tell that a file has come", () =>
      withFaults(() => ({}), (capability) =>
        Effect.scoped(Effect.gen(function*() {
          yield* capability.publish("/run/first.sock")
          const heard = yield* Queue.unbounded<void>()
          yield* Effect.forkScoped(
            Stream.runForEach(capability.hints, (hint) => Queue.offer(heard, hint)),
            { startImmediately: true }
          )
          // A watch begins some turns after it was asked for.
          const hint = yield* Effect.raceFirst(
            Queue.take(heard),
            Effect.forever(Effect.andThen(Effect.scoped(capability.publish(socketPath)), Effect.sleep(10)))
          )
          assert.isUndefined(hint)
        }))))

    it.live("end where the directory cannot be watched", () =>
      withFaults(() => ({}), (capability) => Stream.runDrain(capability.hints)))
  })

  describe("in memory", () => {
    it.effect("is found while its scope is open, listed by path, and removed by its own record only", () =>
      Effect.gen(function*() {
        const capability = yield* Capability.makeMemory
        const b = yield* capability.publish("/run/b.sock", { name: "b" })
        const a = yield* capability.publish("/run/a.sock")
        assert.strictEqual(yield* capability.lookup("/run/b.sock"), b)
        assert.deepStrictEqual((yield* capability.list).map((record) => record === a || record === b), [true, true])
        assert.deepStrictEqual((yield* capability.list).map(({ socketPath }) => socketPath), [
          "/run/a.sock",
          "/run/b.sock"
        ])
        const later = yield* capability.publish("/run/a.sock")
        assert.notStrictEqual(Redacted.value(later.token), Redacted.value(a.token))
        assert.isFalse(yield* capability.remove(a))
        assert.strictEqual(yield* capability.lookup("/run/a.sock"), later)
        assert.isTrue(yield* capability.remove(later))
        const missing = yield* Effect.flip(capability.lookup("/run/a.sock"))
        assert.strictEqual(missing.reason._tag, "CapabilityNotFound")
        yield* Effect.scoped(capability.publish("/run/c.sock"))
        yield* Effect.flip(capability.lookup("/run/c.sock"))
        yield* capability.sweep
      }))

    it.effect("tells once of all that has come and gone meanwhile", () =>
      Effect.gen(function*() {
        const capability = yield* Capability.makeMemory
        const heard = yield* Queue.unbounded<void>()
        const goOn = yield* Deferred.make<void>()
        yield* Effect.forkScoped(
          Stream.runForEach(
            capability.hints,
            () => Effect.andThen(Queue.offer(heard, undefined), Deferred.await(goOn))
          ),
          { startImmediately: true }
        )
        yield* capability.publish(socketPath)
        yield* Queue.take(heard)
        for (let n = 0; n < 3; n++) yield* Effect.scoped(capability.publish("/run/other.sock"))
        yield* Deferred.succeed(goOn, undefined)
        yield* Effect.replicateEffect(tick, 50)
        assert.strictEqual(yield* Queue.size(heard), 1)
      }))

    it.effect("tells by hints that one has come or gone", () =>
      Effect.gen(function*() {
        const capability = yield* Capability.makeMemory
        const hint = Effect.forkChild(Stream.runCollect(Stream.take(capability.hints, 1)), { startImmediately: true })
        const coming = yield* hint
        const record = yield* capability.publish(socketPath)
        assert.deepStrictEqual(yield* Fiber.join(coming), [undefined])
        const going = yield* hint
        yield* capability.remove(record)
        assert.deepStrictEqual(yield* Fiber.join(going), [undefined])
      }))
  })
})

import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, FileSystem, Option, Redacted, Schema, Scope } from "effect"
import { systemError } from "effect/PlatformError"
import { TestClock } from "effect/testing"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import { Host, type HostFacts } from "../src/Host.ts"
import { Posix } from "../src/internal/posix.ts"
import * as Namespace from "../src/Namespace.ts"
import { contents, makeTempHost, tempDirectory, withTempHost } from "./utils/tempHost.ts"

const socketPath = "/run/peer.sock"
const file = (host: HostFacts, of = socketPath) => path.join(directory(host), Capability.fileName(of))
const directory = (host: HostFacts) => path.join(host.homedir, ".claude", "messaging-capabilities")

interface Setup {
  readonly host: HostFacts
  readonly capability: Capability.Capability["Service"]
}

const withCapability = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    return yield* use({ host, capability: yield* Capability.make })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const Stored = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Json))
const stored = (path: string) => Schema.decodeSync(Stored)(fs.readFileSync(path, "utf8"))

/** A file system whose `operation` fails with the errno. */
const failing = (operation: "rename" | "open", code: string) =>
  Effect.provideServiceEffect(
    FileSystem.FileSystem,
    Effect.map(FileSystem.FileSystem, (fs) => ({
      ...fs,
      [operation]: () =>
        Effect.fail(systemError({
          _tag: "Unknown",
          module: "FileSystem",
          method: operation,
          cause: Object.assign(new Error(code), { code })
        }))
    }))
  )

/** The capability of a process that was killed: there is nobody to publish it again. */
const leave = Effect.fnUntraced(function*({ capability, host }: Setup) {
  const left = yield* Effect.scoped(Effect.map(
    capability.publish(socketPath),
    (record) => ({ record, text: fs.readFileSync(file(host)) })
  ))
  fs.writeFileSync(file(host), left.text, { mode: 0o600 })
  return left.record
})

/** With the token itself, since `Redacted` values all look alike. */
const open = ({ token, ...rest }: Capability.CapabilityRecord) => ({ ...rest, token: Redacted.value(token) })

const failed = (operation: string, path: string, code: string) =>
  new Capability.CapabilityError({ reason: new Capability.FileFailed({ operation, path, code }) })
const notFound = (socketPath: string) =>
  new Capability.CapabilityError({ reason: new Capability.CapabilityNotFound({ socketPath }) })

describe("Capability", () => {
  it("is a service by the name of its module", () => {
    assert.strictEqual(Capability.Capability.key, "effect-messaging/Capability")
  })

  describe("publish", () => {
    it.effect("names the file by the sha256 of the socket path", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(fs.readdirSync(directory(host)), [
          // printf /run/peer.sock | sha256sum
          "bbb1d743ddd8266dd1c36767016d8abb91ebdeb9b7613d496c1500639865f93c.json"
        ])
      })))

    it.effect("makes the file 0600 and its directory 0700", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        yield* capability.publish(socketPath)
        assert.strictEqual(fs.lstatSync(file(host)).mode & 0o7777, 0o600)
        assert.strictEqual(fs.lstatSync(directory(host)).mode & 0o7777, 0o700)
      })))

    it.effect("writes the record in the order of the protocol", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        yield* TestClock.setTime(1_700_000_000_000)
        const { token } = yield* capability.publish(socketPath, { name: "build" })
        assert.deepStrictEqual(Object.entries(stored(file(host))), [
          ["socketPath", socketPath],
          ["authToken", Redacted.value(token)],
          ["protocol", 2],
          ["pid", host.pid],
          ["startedAt", "2023-11-14T22:13:20.000Z"],
          ["name", "build"],
          ["cwd", host.cwd]
        ])
      })))

    it.effect("leaves out a working directory that is not there any more", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        const capability = yield* Effect.provideService(Capability.make, Host, { ...host, cwd: "" })
        assert.isTrue(Option.isNone((yield* capability.publish(socketPath)).cwd))
        assert.notProperty(stored(file(host)), "cwd")
      })).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer)))

    it.effect("leaves out a name that was not given", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        const { name } = yield* capability.publish(socketPath)
        assert.deepStrictEqual(name, Option.none())
        assert.deepStrictEqual(Object.keys(stored(file(host))), [
          "socketPath",
          "authToken",
          "protocol",
          "pid",
          "startedAt",
          "cwd"
        ])
      })))

    it.effect("makes a token of 64 lower-case hex digits, a new one each time", () =>
      withCapability(Effect.fnUntraced(function*({ capability }) {
        const first = Redacted.value((yield* capability.publish(socketPath)).token)
        const second = Redacted.value((yield* capability.publish(socketPath)).token)
        assert.match(first, /^[0-9a-f]{64}$/)
        assert.match(second, /^[0-9a-f]{64}$/)
        assert.notStrictEqual(first, second)
      })))

    it.effect("keeps no temporary file after success", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        yield* capability.publish(socketPath)
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(fs.readdirSync(directory(host)), [Capability.fileName(socketPath)])
      })))

    it.effect("keeps no temporary file when a directory stands in the way", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        fs.mkdirSync(file(host), { recursive: true, mode: 0o700 })
        const error = yield* Effect.flip(capability.publish(socketPath))
        assert.deepStrictEqual(error, failed("write", file(host), "EISDIR"))
        assert.deepStrictEqual(fs.readdirSync(directory(host)), [Capability.fileName(socketPath)])
      })))

    it.effect.each(["rename", "open"] as const)(
      "keeps no file when %s fails",
      (operation) =>
        withCapability(Effect.fnUntraced(function*({ host }) {
          const capability = yield* Capability.make.pipe(failing(operation, "ENOSPC"))
          const error = yield* Effect.flip(capability.publish(socketPath))
          assert.deepStrictEqual(error, failed("write", file(host), "ENOSPC"))
          assert.deepStrictEqual(fs.readdirSync(directory(host)), [])
        }))
    )

    it.effect("refuses to write what would be too large to read", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        const error = yield* Effect.flip(capability.publish(socketPath, { name: "x".repeat(4096) }))
        assert.strictEqual(error.reason._tag, "CapabilityTooLarge")
        assert.match(
          error.message,
          /^a capability file of 4\d{3} bytes exceeds the limit of 4096: choose a shorter name$/
        )
        assert.isFalse(fs.existsSync(directory(host)))
      })))

    it.effect("can be tried again after a failure", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        fs.mkdirSync(file(host), { recursive: true, mode: 0o700 })
        yield* Effect.flip(capability.publish(socketPath))
        fs.rmdirSync(file(host))
        const published = yield* capability.publish(socketPath)
        assert.deepStrictEqual(open(yield* capability.lookup(socketPath)), open(published))
      })))
  })

  describe("release", () => {
    it.effect("removes the file with the scope", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        yield* Effect.scoped(capability.publish(socketPath))
        assert.deepStrictEqual(fs.readdirSync(directory(host)), [])
      })))

    it.effect("keeps a file whose token has changed meanwhile", () =>
      withCapability(Effect.fnUntraced(function*({ capability }) {
        const scope = yield* Scope.make()
        yield* Scope.provide(capability.publish(socketPath), scope)
        const successor = yield* capability.publish(socketPath)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(open(yield* capability.lookup(socketPath)), open(successor))
      })))

    it.effect("succeeds when the directory has vanished", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        const exit = yield* Effect.exit(Effect.scoped(Effect.andThen(
          capability.publish(socketPath),
          Effect.sync(() => fs.rmSync(directory(host), { recursive: true }))
        )))
        assert.deepStrictEqual(exit, Exit.void)
        assert.deepStrictEqual(contents(host.homedir), [".claude"])
      })))
  })

  describe("lookup", () => {
    it.effect("reads back what was published", () =>
      withCapability(Effect.fnUntraced(function*({ capability }) {
        const published = yield* capability.publish(socketPath, { name: "build" })
        assert.deepStrictEqual(open(yield* capability.lookup(socketPath)), open(published))
      })))

    it.effect("reads a protocol 1 file, which has two keys only", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        fs.mkdirSync(directory(host), { recursive: true, mode: 0o700 })
        const authToken = "0123456789abcdef".repeat(4)
        fs.writeFileSync(file(host), JSON.stringify({ socketPath, authToken }), { mode: 0o600 })
        const { token, ...rest } = yield* capability.lookup(socketPath)
        assert.strictEqual(Redacted.value(token), authToken)
        assert.deepStrictEqual(rest, {
          socketPath,
          protocol: 1,
          pid: Option.none(),
          startedAt: Option.none(),
          name: Option.none(),
          cwd: Option.none()
        })
      })))

    it.effect("ignores keys that a later version added", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        const published = yield* capability.publish(socketPath)
        fs.writeFileSync(file(host), JSON.stringify({ ...stored(file(host)), later: { version: 9 } }))
        assert.deepStrictEqual(open(yield* capability.lookup(socketPath)), open(published))
      })))

    it.effect("finds nothing where no directory is", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        const error = yield* Effect.flip(capability.lookup(socketPath))
        assert.deepStrictEqual(error, notFound(socketPath))
        assert.strictEqual(error.message, `no capability for ${socketPath}`)
        assert.deepStrictEqual(contents(host.homedir), [])
      })))

    it.effect.each(["EIO", "EACCES", "EMFILE"])(
      "tells that it could not look: %s",
      (code) =>
        withCapability(Effect.fnUntraced(function*({ capability, host }) {
          yield* capability.publish(socketPath)
          const path = file(host)
          const broken = yield* Effect.provideService(Capability.make, Posix, {
            ...(yield* Posix),
            openUntrusted: () => Effect.fail(new Capability.FileFailed({ operation: "open", path, code }))
          })
          assert.deepStrictEqual(
            yield* Effect.flip(broken.lookup(socketPath)),
            new Capability.CapabilityError({
              reason: new Capability.FileFailed({ operation: "open", path, code })
            })
          )
          assert.deepStrictEqual(yield* broken.list, [])
        }))
    )

    it.effect("finds nothing for a path that was not published", () =>
      withCapability(Effect.fnUntraced(function*({ capability }) {
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(yield* Effect.flip(capability.lookup("/run/other.sock")), notFound("/run/other.sock"))
      })))
  })

  describe("list", () => {
    it.effect("gives every capability by socket path", () =>
      withCapability(Effect.fnUntraced(function*({ capability }) {
        const c = yield* capability.publish("/run/c.sock")
        const a = yield* capability.publish("/run/a.sock", { name: "a" })
        const b = yield* capability.publish("/run/b.sock")
        assert.deepStrictEqual((yield* capability.list).map(open), [a, b, c].map(open))
      })))

    it.effect("is empty where no directory is", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        assert.deepStrictEqual(yield* capability.list, [])
        assert.deepStrictEqual(contents(host.homedir), [])
      })))
  })

  describe("remove", () => {
    it.effect("removes the file that holds the record's token", () =>
      withCapability(Effect.fnUntraced(function*(setup) {
        const record = yield* leave(setup)
        assert.isTrue(yield* setup.capability.remove(record))
        assert.deepStrictEqual(fs.readdirSync(directory(setup.host)), [])
      })))

    it.effect("keeps a file with another token", () =>
      withCapability(Effect.fnUntraced(function*({ capability }) {
        const former = yield* capability.publish(socketPath)
        const current = yield* capability.publish(socketPath)
        assert.isFalse(yield* capability.remove(former))
        assert.deepStrictEqual(open(yield* capability.lookup(socketPath)), open(current))
      })))

    it.effect("answers false when the file is gone already", () =>
      withCapability(Effect.fnUntraced(function*(setup) {
        const { capability } = setup
        const record = yield* leave(setup)
        yield* capability.remove(record)
        assert.isFalse(yield* capability.remove(record))
      })))
  })

  describe("config home", () => {
    it.effect("is taken from CLAUDE_CONFIG_DIR", () =>
      Effect.gen(function*() {
        const host = yield* makeTempHost
        const elsewhere = path.join(yield* tempDirectory, "config")
        const capability = yield* Capability.make.pipe(
          Effect.provideService(Host, { ...host, environment: { CLAUDE_CONFIG_DIR: elsewhere } })
        )
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(contents(host.homedir), [])
        assert.deepStrictEqual(fs.readdirSync(path.join(elsewhere, "messaging-capabilities")), [
          Capability.fileName(socketPath)
        ])
      }).pipe(Effect.provide(NodeFileSystem.layer)))

    it.effect("is found by its real name when it is a link", () =>
      withCapability(Effect.fnUntraced(function*({ capability, host }) {
        const real = path.join(host.homedir, "dotfiles")
        fs.mkdirSync(real, { mode: 0o700 })
        fs.symlinkSync(real, path.join(host.homedir, ".claude"))
        const published = yield* capability.publish(socketPath)
        assert.deepStrictEqual(fs.readdirSync(path.join(real, "messaging-capabilities")), [
          Capability.fileName(socketPath)
        ])
        assert.deepStrictEqual((yield* capability.list).map(open), [open(published)])
      })))

    it.effect("has another name in another namespace", () =>
      Effect.gen(function*() {
        const host = yield* makeTempHost
        const capability = yield* Capability.make.pipe(
          Effect.provideServiceEffect(Namespace.Namespace, Namespace.make("my-app")),
          Effect.provideService(Host, host)
        )
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(contents(host.homedir), [
          ".my-app",
          ".my-app/messaging-capabilities",
          `.my-app/messaging-capabilities/${Capability.fileName(socketPath)}`
        ])
      }).pipe(Effect.provide(NodeFileSystem.layer)))

    it.effect("is moved by the variable of its own namespace only", () =>
      Effect.gen(function*() {
        const host = yield* makeTempHost
        const environment = {
          CLAUDE_CONFIG_DIR: path.join(host.homedir, "not-here"),
          MY_APP_CONFIG_DIR: path.join(host.homedir, "here")
        }
        const capability = yield* Capability.make.pipe(
          Effect.provideServiceEffect(Namespace.Namespace, Namespace.make("my-app")),
          Effect.provideService(Host, { ...host, environment })
        )
        yield* capability.publish(socketPath)
        assert.deepStrictEqual(fs.readdirSync(host.homedir), ["here"])
      }).pipe(Effect.provide(NodeFileSystem.layer)))
  })
})

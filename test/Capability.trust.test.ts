import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import { Host, type HostFacts } from "../src/Host.ts"
import { Posix } from "../src/internal/posix.ts"
import { withTempHost } from "./utils/tempHost.ts"

const socketPath = "/run/peer.sock"
const authToken = "0123456789abcdef".repeat(4)
const text = JSON.stringify({ socketPath, authToken })

/** Only root can give a file to another user. */
const itAsRoot = it.effect.skipIf(process.getuid?.() !== 0)
const otherUser = 1001

/** Every entry below `directory`, with all that a change of it would change. */
const snapshot = (directory: string) =>
  [directory, ...(fs.readdirSync(directory, { recursive: true }) as Array<string>).sort()].map((name) => {
    const entry = path.resolve(directory, name)
    const { ctimeMs, gid, ino, mode, mtimeMs, size, uid } = fs.lstatSync(entry)
    const kind = fs.lstatSync(entry)
    return {
      entry,
      stat: { ctimeMs, gid, ino, mode, mtimeMs, size, uid },
      content: kind.isFile() ? fs.readFileSync(entry, "utf8") : kind.isSymbolicLink() ? fs.readlinkSync(entry) : ""
    }
  })

interface Setup {
  readonly host: HostFacts
  readonly capability: Capability.Capability["Service"]
  readonly config: string
  readonly directory: string
  readonly file: string
}

/** A private capability directory, and nothing in it. */
const withDirectory = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const config = path.join(host.homedir, ".claude")
    const directory = path.join(config, "messaging-capabilities")
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
    const file = path.join(directory, Capability.fileName(socketPath))
    return yield* use({ host, capability: yield* Capability.make, config, directory, file })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const write = (file: string, content: string, mode = 0o600) => {
  fs.writeFileSync(file, content)
  fs.chmodSync(file, mode)
}

type Problem = Capability.CapabilityRefused["problem"]

/** `lookup` tells the problem, `list` leaves the file out, and the disk stays as it was. */
const assertFileRefused = Effect.fnUntraced(function*({ capability, file, host }: Setup, problem: Problem) {
  const before = snapshot(host.homedir)
  assert.deepStrictEqual(
    yield* Effect.flip(capability.lookup(socketPath)),
    new Capability.CapabilityError({ reason: new Capability.CapabilityRefused({ path: file, problem }) })
  )
  assert.deepStrictEqual(yield* capability.list, [])
  assert.deepStrictEqual(snapshot(host.homedir), before)
})

const assertDirectoryRefused = Effect.fnUntraced(function*(
  { capability, host }: Setup,
  reason: Capability.DirectoryNotPrivate
) {
  const before = snapshot(host.homedir)
  const expected = new Capability.CapabilityError({ reason })
  assert.deepStrictEqual(yield* Effect.flip(Effect.scoped(capability.publish(socketPath))), expected)
  assert.deepStrictEqual(yield* Effect.flip(capability.lookup(socketPath)), expected)
  assert.deepStrictEqual(yield* Effect.flip(capability.list), expected)
  assert.deepStrictEqual(snapshot(host.homedir), before)
})

const notPrivate = (path: string, problem: Capability.DirectoryNotPrivate["problem"], remedy: string) =>
  new Capability.DirectoryNotPrivate({ path, problem, remedy })

describe("Capability", () => {
  describe("a file", () => {
    it.effect("is refused when it is a link to a good one", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        const good = path.join(setup.host.homedir, "good.json")
        write(good, text)
        fs.symlinkSync(good, setup.file)
        yield* assertFileRefused(setup, "a link")
      })))

    it.effect("is refused when it is a link to nothing", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        fs.symlinkSync(path.join(setup.host.homedir, "nothing"), setup.file)
        yield* assertFileRefused(setup, "a link")
      })))

    it.effect("is refused, without waiting for a writer, when it is a FIFO", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        execFileSync("mkfifo", ["-m", "600", setup.file])
        yield* assertFileRefused(setup, "not a regular file")
      })))

    it.effect("is refused when it is a directory", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        fs.mkdirSync(setup.file, { mode: 0o700 })
        yield* assertFileRefused(setup, "not a regular file")
      })))

    it.effect.each(["640", "644", "666", "601", "604", "620"])(
      "is refused with mode 0%s",
      (mode) =>
        withDirectory(Effect.fnUntraced(function*(setup) {
          write(setup.file, text, Number.parseInt(mode, 8))
          yield* assertFileRefused(setup, "open to others")
        }))
    )

    itAsRoot(
      "is refused when it belongs to another user (only root can set this up)",
      () =>
        withDirectory(Effect.fnUntraced(function*(setup) {
          write(setup.file, text)
          fs.chownSync(setup.file, otherUser, otherUser)
          yield* assertFileRefused(setup, "foreign owner")
        }))
    )

    it.effect.each([
      { name: "5 MB", content: text.padEnd(5_000_000) },
      { name: "one byte more than the limit", content: text.padEnd(4097) }
    ])("is refused with $name", ({ content }) =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        write(setup.file, content)
        yield* assertFileRefused(setup, "too large")
      })))

    it.effect("is read with exactly as many bytes as the limit", () =>
      withDirectory(Effect.fnUntraced(function*({ capability, file }) {
        write(file, text.padEnd(4096))
        assert.strictEqual(Redacted.value((yield* capability.lookup(socketPath)).token), authToken)
      })))

    it.effect.each([
      { name: "is empty", content: "" },
      { name: "is not JSON", content: text.slice(0, -1) },
      { name: "is followed by other text", content: `${text}{}` },
      { name: "is an array", content: `[${text}]` },
      { name: "is null", content: "null" },
      { name: "has no token", content: JSON.stringify({ socketPath }) },
      { name: "has no socket path", content: JSON.stringify({ authToken }) },
      { name: "has its token in a prototype", content: `{"socketPath":"${socketPath}","__proto__":${text}}` },
      { name: "has a token of 63 digits", content: text.replace(authToken, authToken.slice(1)) },
      { name: "has a token of 65 digits", content: text.replace(authToken, `0${authToken}`) },
      { name: "has a token in upper case", content: text.replace(authToken, authToken.toUpperCase()) },
      { name: "has a token with a line end", content: text.replace(authToken, `${authToken}\\n`) },
      { name: "has a token that is a number", content: text.replace(`"${authToken}"`, "1") },
      { name: "has a protocol that is a text", content: text.replace("}", ",\"protocol\":\"2\"}") }
    ])("is refused when it $name", ({ content }) =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        write(setup.file, content)
        yield* assertFileRefused(setup, "not a capability")
      })))

    it.effect("is refused when it is for another socket path", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        write(setup.file, text.replace("peer", "other"))
        yield* assertFileRefused(setup, "for another socket path")
      })))

    it.effect("that is refused does not hide the good ones from a list", () =>
      withDirectory(Effect.fnUntraced(function*({ capability, directory, file }) {
        write(file, text, 0o644)
        execFileSync("mkfifo", ["-m", "600", path.join(directory, Capability.fileName("/run/fifo.sock"))])
        yield* capability.publish("/run/good.sock")
        assert.deepStrictEqual((yield* capability.list).map(({ socketPath }) => socketPath), ["/run/good.sock"])
      })))

    it.effect("with another name is no capability, whatever is in it", () =>
      withDirectory(Effect.fnUntraced(function*({ capability, directory }) {
        write(path.join(directory, "notes.json"), text)
        write(path.join(directory, `${Capability.fileName(socketPath)}.0011223344556677.tmp`), text)
        assert.deepStrictEqual(yield* capability.list, [])
      })))

    it.effect("with another name is not even opened", () =>
      withDirectory(Effect.fnUntraced(function*({ directory, file }) {
        const name = path.basename(file)
        for (const other of [`0${name}`, `${name}.tmp`, name.replace(".json", ""), name]) {
          write(path.join(directory, other), text)
        }
        const real = yield* Posix
        const opened: Array<string> = []
        const capability = yield* Effect.provideService(Capability.make, Posix, {
          ...real,
          openUntrusted: (file) => Effect.andThen(Effect.sync(() => opened.push(file)), real.openUntrusted(file))
        })
        assert.deepStrictEqual((yield* capability.list).map(({ socketPath }) => socketPath), [socketPath])
        assert.deepStrictEqual(opened, [file])
      })))

    it.effect("is open with at most fifteen others while they are listed", () =>
      withDirectory(Effect.fnUntraced(function*({ directory }) {
        const real = yield* Posix
        let open = 0
        let most = 0
        const paths = Array.from({ length: 40 }, (_, i) => `/run/${i}.sock`)
        for (const of of paths) {
          write(path.join(directory, Capability.fileName(of)), JSON.stringify({ socketPath: of, authToken }))
        }
        const capability = yield* Effect.provideService(Capability.make, Posix, {
          ...real,
          openUntrusted: (file) =>
            Effect.andThen(
              Effect.acquireRelease(
                Effect.sync(() => {
                  most = Math.max(most, ++open)
                }),
                () => Effect.sync(() => open--)
              ),
              // A system that takes its time.
              Effect.andThen(Effect.yieldNow, real.openUntrusted(file))
            )
        })
        assert.deepStrictEqual((yield* capability.list).map(({ socketPath }) => socketPath), [...paths].sort())
        assert.deepStrictEqual([open, most], [0, 16])
      })))

    it.effect("that has become a link is not removed", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        const { capability, file, host } = setup
        const record = yield* capability.publish(socketPath)
        fs.renameSync(file, path.join(host.homedir, "moved.json"))
        fs.symlinkSync(path.join(host.homedir, "moved.json"), file)
        const before = snapshot(host.homedir)
        assert.isFalse(yield* capability.remove(record))
        assert.deepStrictEqual(snapshot(host.homedir), before)
      })))
  })

  describe("its directory", () => {
    it.effect("is refused when it is a link", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        const { directory, host } = setup
        fs.renameSync(directory, path.join(host.homedir, "moved"))
        fs.symlinkSync(path.join(host.homedir, "moved"), directory)
        yield* assertDirectoryRefused(setup, notPrivate(directory, "a link", "name the directory it points at instead"))
      })))

    it.effect("is refused when it is a file", () =>
      withDirectory(Effect.fnUntraced(function*(setup) {
        fs.rmdirSync(setup.directory)
        write(setup.directory, "mine")
        yield* assertDirectoryRefused(setup, notPrivate(setup.directory, "not a directory", "move the file away"))
      })))

    it.effect.each(["755", "750", "701", "777"])(
      "is refused with mode 0%s",
      (mode) =>
        withDirectory(Effect.fnUntraced(function*(setup) {
          fs.chmodSync(setup.directory, Number.parseInt(mode, 8))
          yield* assertDirectoryRefused(
            setup,
            notPrivate(setup.directory, "open to others", `chmod 700 ${setup.directory}`)
          )
        }))
    )

    itAsRoot(
      "is refused when it belongs to another user (only root can set this up)",
      () =>
        withDirectory(Effect.fnUntraced(function*(setup) {
          fs.chownSync(setup.directory, otherUser, otherUser)
          yield* assertDirectoryRefused(
            setup,
            notPrivate(setup.directory, "foreign owner", "use a directory of your own")
          )
        }))
    )
  })

  describe("an ancestor", () => {
    it.effect.each(["777", "770", "702"])(
      "is refused with mode 0%s",
      (mode) =>
        withDirectory(Effect.fnUntraced(function*(setup) {
          fs.chmodSync(setup.config, Number.parseInt(mode, 8))
          yield* assertDirectoryRefused(
            setup,
            notPrivate(setup.config, "writable by others", `chmod go-w ${setup.config}`)
          )
        }))
    )

    it.effect("is accepted with mode 01777, as /tmp has", () =>
      withDirectory(Effect.fnUntraced(function*({ capability, config }) {
        fs.chmodSync(config, 0o1777)
        const { token } = yield* capability.publish(socketPath)
        const found = yield* capability.lookup(socketPath)
        assert.strictEqual(Redacted.value(found.token), Redacted.value(token))
      })))

    itAsRoot(
      "is refused when it belongs to another user (only root can set this up)",
      () =>
        withDirectory(Effect.fnUntraced(function*(setup) {
          fs.chownSync(setup.config, otherUser, otherUser)
          yield* assertDirectoryRefused(
            setup,
            notPrivate(setup.config, "foreign owner", "use a directory below one of your own or root's")
          )
        }))
    )

    it.effect("that is writable by others gets no new directory", () =>
      withDirectory(Effect.fnUntraced(function*({ capability, config, directory, host }) {
        fs.rmdirSync(directory)
        fs.chmodSync(config, 0o777)
        const before = snapshot(host.homedir)
        assert.deepStrictEqual(
          yield* Effect.flip(capability.publish(socketPath)),
          new Capability.CapabilityError({
            reason: notPrivate(config, "writable by others", `chmod go-w ${config}`)
          })
        )
        assert.deepStrictEqual(snapshot(host.homedir), before)
      })))

    it.effect("that is a link gets no new directory behind it", () =>
      withDirectory(Effect.fnUntraced(function*({ config, host }) {
        // The configuration home itself is missing, so it has no real name yet.
        const link = path.join(host.homedir, "link")
        fs.rmSync(config, { recursive: true })
        fs.mkdirSync(path.join(host.homedir, "target"), { mode: 0o700 })
        fs.symlinkSync(path.join(host.homedir, "target"), link)
        const environment = { CLAUDE_CONFIG_DIR: path.join(link, "config") }
        const capability = yield* Capability.make.pipe(Effect.provideService(Host, { ...host, environment }))
        const before = snapshot(host.homedir)
        assert.deepStrictEqual(
          yield* Effect.flip(capability.publish(socketPath)),
          new Capability.CapabilityError({
            reason: notPrivate(link, "a link", "name the directory it points at instead")
          })
        )
        assert.deepStrictEqual(snapshot(host.homedir), before)
      })))
  })
})

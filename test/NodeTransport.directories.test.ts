import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Layer, Option } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { Host, type HostFacts } from "../src/Host.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { Transport } from "../src/Transport.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { fileFails } from "./utils/fileFails.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

/** The directories that the host offers, after `change`. */
const directories = (change: (host: HostFacts) => Partial<HostFacts>) =>
  withTempHost((host) =>
    NodeTransport.make.pipe(
      Effect.flatMap((transport) => transport.directories),
      Effect.provideService(Host, { ...host, ...change(host) }),
      Effect.map((found) => ({ found, root: host.tmpdir }))
    )
  ).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))

/** A private directory of the name, made. */
const makePrivate = ({ tmpdir }: HostFacts, name: string) => {
  const directory = path.join(tmpdir, name)
  fs.mkdirSync(directory, { mode: 0o700 })
  return directory
}

type Faults = (real: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>

const withFaults = <A, E, R>(
  faults: Faults,
  use: (transport: Transport["Service"], root: string) => Effect.Effect<A, E, R>
) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const real = yield* FileSystem.FileSystem
    const transport = yield* Effect.provideService(NodeTransport.make, FileSystem.FileSystem, {
      ...real,
      ...faults(real)
    })
    return yield* use(transport, host.tmpdir)
  }, Effect.scoped)).pipe(Effect.provide(NodeFileSystem.layer))

describe("NodeTransport", () => {
  describe("directories", () => {
    it.live("have no runtime directory where none is named, or nothing stands there", () =>
      Effect.gen(function*() {
        for (const named of [undefined, "", "/nowhere/at/all"]) {
          const { found } = yield* directories(() => ({ environment: { XDG_RUNTIME_DIR: named } }))
          assert.deepStrictEqual(found.runtimeDirectory, Option.none())
        }
      }))

    it.live("have the runtime directory by its real name", () =>
      Effect.gen(function*() {
        const { found, root } = yield* directories((host) => {
          const link = path.join(host.tmpdir, "link")
          fs.symlinkSync(makePrivate(host, "run"), link)
          return { environment: { XDG_RUNTIME_DIR: link } }
        })
        assert.deepStrictEqual(found.runtimeDirectory, Option.some(path.join(root, "run")))
      }))

    it.live("have no runtime directory where the platform knows no users", () =>
      Effect.gen(function*() {
        const { found } = yield* directories((host) => ({
          uid: Option.none(),
          environment: { XDG_RUNTIME_DIR: makePrivate(host, "run") }
        }))
        assert.deepStrictEqual(found.runtimeDirectory, Option.none())
      }))

    it.live("have the temporary directory by its real name, or whole by the name it is given", () =>
      Effect.gen(function*() {
        const linked = yield* directories((host) => {
          const link = path.join(host.tmpdir, "link")
          fs.symlinkSync(makePrivate(host, "real"), link)
          return { tmpdir: link }
        })
        assert.strictEqual(linked.found.tmpdir, path.join(linked.root, "real"))
        const missing = yield* directories(() => ({ cwd: "/somewhere", tmpdir: "missing/tmp" }))
        assert.strictEqual(missing.found.tmpdir, "/somewhere/missing/tmp")
      }))
  })

  describe("scan", () => {
    const endpoint = "17-0123456789abcdef"

    it.live("leaves out what has no name of an endpoint's directory", () =>
      withFaults(() => ({}), (transport, root) =>
        Effect.gen(function*() {
          for (
            const name of [
              "mine",
              `x${endpoint}`,
              `${endpoint}x`,
              "17-0123456789abcde",
              "17-0123456789abcdef0123456789abcdef0"
            ]
          ) {
            fs.mkdirSync(path.join(root, name), { mode: 0o700 })
          }
          const before = contents(root)
          assert.deepStrictEqual(yield* transport.scan(root), [])
          assert.deepStrictEqual(contents(root), before)
        })))

    it.live("finds the others where one directory cannot be read", () =>
      withFaults(
        (real) => ({
          readDirectory: (directory, options) =>
            path.basename(directory) === endpoint
              ? fileFails("readDirectory", "EIO")
              : real.readDirectory(directory, options)
        }),
        (transport, root) =>
          Effect.gen(function*() {
            const other = endpoint.replace("17", "18")
            for (const name of [endpoint, other]) {
              fs.mkdirSync(path.join(root, name), { mode: 0o700 })
              yield* deadSocket(path.join(root, name, "messaging.sock"))
            }
            assert.deepStrictEqual(yield* transport.scan(root), [path.join(root, other, "messaging.sock")])
          })
      ))

    it.live("finds nothing where the base cannot be read", () =>
      withFaults(
        () => ({ readDirectory: () => fileFails("readDirectory", "EIO") }),
        (transport, root) => Effect.map(transport.scan(root), (found) => assert.deepStrictEqual(found, []))
      ))
  })

  describe("discard", () => {
    it.live("finds nothing of a Windows pipe, and does not look for it", () =>
      withFaults(() => ({ lstat: () => fileFails("lstat", "EIO") }), (transport) =>
        Effect.map(
          transport.discard("\\\\.\\pipe\\effect-messaging-test"),
          (found) => assert.strictEqual(found, "absent")
        )))

    it.live("keeps an endpoint's directory that is not empty", () =>
      withFaults(() => ({}), (transport, root) =>
        Effect.gen(function*() {
          const directory = path.join(root, "17-0123456789abcdef")
          fs.mkdirSync(directory, { mode: 0o700 })
          yield* deadSocket(path.join(directory, "messaging.sock"))
          fs.writeFileSync(path.join(directory, "notes"), "mine")
          assert.strictEqual(yield* transport.discard(path.join(directory, "messaging.sock")), "removed")
          assert.deepStrictEqual(contents(root), ["17-0123456789abcdef", "17-0123456789abcdef/notes"])
        })))

    it.live("keeps an empty directory of its own name that only resembles an endpoint's", () =>
      withFaults(() => ({}), (transport, root) =>
        Effect.gen(function*() {
          const directory = path.join(root, "my-17-0123456789abcdef")
          fs.mkdirSync(directory, { mode: 0o700 })
          yield* deadSocket(path.join(directory, "messaging.sock"))
          assert.strictEqual(yield* transport.discard(path.join(directory, "messaging.sock")), "removed")
          assert.deepStrictEqual(contents(root), ["my-17-0123456789abcdef"])
        })))
  })

  it.effect("is a service by the name of its module", () =>
    Effect.gen(function*() {
      assert.strictEqual(Transport.key, "effect-messaging/Transport")
      assert.isDefined(yield* Transport)
    }).pipe(Effect.provide(Layer.provide(NodeTransport.layer, NodeFileSystem.layer))))
})

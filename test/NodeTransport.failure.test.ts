import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FileSystem } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as NodeTransport from "../src/NodeTransport.ts"
import { fileFails } from "./utils/fileFails.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

type Faults = (real: FileSystem.FileSystem) => Partial<FileSystem.FileSystem>

/** A transport over a file system with faults, and a path in a directory that is missing. */
const withFaults = <A, E, R>(
  faults: Faults,
  use: (setup: { readonly root: string; readonly listen: ReturnType<typeof listenAt> }) => Effect.Effect<A, E, R>
) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const listen = listenAt(faults, path.join(host.tmpdir, "own", "messaging.sock"))
    return yield* use({ root: host.tmpdir, listen })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const listenAt = (faults: Faults, socketPath: string) =>
  Effect.flatMap(NodeTransport.make, (transport) => transport.listen({ socketPath })).pipe(
    Effect.scoped,
    Effect.provideServiceEffect(
      FileSystem.FileSystem,
      Effect.map(FileSystem.FileSystem, (real) => ({ ...real, ...faults(real) }))
    )
  )

const isStaging = (file: string) => path.basename(file).startsWith(".")

describe("NodeTransport", () => {
  describe("a start that fails", () => {
    const cases: ReadonlyArray<{ readonly step: string; readonly told: string; readonly faults: Faults }> = [
      {
        step: "when it makes the directory",
        told: "cannot create",
        faults: () => ({ makeDirectory: () => fileFails("makeDirectory", "EIO") })
      },
      {
        step: "when it looks at the path",
        told: "cannot inspect",
        faults: (real) => ({
          lstat: (file) => path.basename(file) === "messaging.sock" ? fileFails("lstat", "EIO") : real.lstat(file)
        })
      },
      {
        step: "when it makes the socket private",
        told: "cannot make private",
        faults: () => ({ chmod: () => fileFails("chmod", "EIO") })
      },
      {
        step: "when it looks at the socket",
        told: "cannot inspect",
        faults: (real) => ({ lstat: (file) => isStaging(file) ? fileFails("lstat", "EIO") : real.lstat(file) })
      },
      {
        step: "when it publishes the socket",
        told: "cannot publish",
        faults: () => ({ link: () => fileFails("link", "EIO") })
      },
      {
        step: "when it removes the private name",
        told: "cannot remove",
        faults: (real) => {
          let failures = 1
          return {
            remove: (file, options) =>
              isStaging(file) && failures-- > 0 ? fileFails("remove", "EIO") : real.remove(file, options)
          }
        }
      }
    ]
    it.live.each(cases)(
      "$step leaves nothing and tells what failed",
      ({ faults, told }) =>
        withFaults(
          faults,
          Effect.fnUntraced(function*({ listen, root }) {
            const { reason } = yield* Effect.flip(listen)
            assert.match(reason.message, new RegExp(`^${told} /.*: EIO$`))
            assert.strictEqual(reason._tag, "FileFailed")
            assert.deepStrictEqual(contents(root), [])
          })
        )
    )

    it.live("when its directory is removed meanwhile leaves nothing and tells the system's code", () =>
      withFaults(
        (real) => ({
          lstat: (file) => {
            if (path.basename(file) === "messaging.sock") fs.rmdirSync(path.dirname(file))
            return real.lstat(file)
          }
        }),
        Effect.fnUntraced(function*({ listen, root }) {
          const { reason } = yield* Effect.flip(listen)
          assert.strictEqual(reason._tag, "ListenFailed")
          assert.include(["EACCES", "ENOENT"], reason._tag === "ListenFailed" ? reason.code : "")
          assert.deepStrictEqual(contents(root), [])
        })
      ))

    it.live("when something takes the path at the last moment leaves that and nothing else", () =>
      withFaults(
        (real) => ({
          link: (from, to) => {
            fs.writeFileSync(to, "mine")
            return real.link(from, to)
          }
        }),
        Effect.fnUntraced(function*({ listen, root }) {
          const { reason } = yield* Effect.flip(listen)
          assert.strictEqual(reason._tag, "PathOccupied")
          assert.deepStrictEqual(contents(root), ["own", "own/messaging.sock"])
          assert.strictEqual(fs.readFileSync(path.join(root, "own", "messaging.sock"), "utf8"), "mine")
        })
      ))

    it.live("by interruption leaves nothing", () =>
      Effect.gen(function*() {
        const reached = yield* Deferred.make<void>()
        yield* withFaults(
          () => ({ chmod: () => Effect.andThen(Deferred.succeed(reached, undefined), Effect.never) }),
          Effect.fnUntraced(function*({ listen, root }) {
            const starting = yield* Effect.forkChild(listen)
            yield* Deferred.await(reached)
            yield* Fiber.interrupt(starting)
            assert.deepStrictEqual(contents(root), [])
          })
        )
      }))

    it.live("leaves none of the directories it made", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        const socketPath = path.join(host.tmpdir, "one", "two", "messaging.sock")
        yield* Effect.flip(listenAt(() => ({ chmod: () => fileFails("chmod", "EIO") }), socketPath))
        assert.deepStrictEqual(contents(host.tmpdir), [])
      })).pipe(Effect.provide(NodeFileSystem.layer)))

    it.live("can be tried again", () => {
      let failures = 1
      return withFaults(
        (real) => ({ link: (from, to) => failures-- > 0 ? fileFails("link", "EIO") : real.link(from, to) }),
        Effect.fnUntraced(function*({ listen, root }) {
          yield* Effect.flip(listen)
          yield* listen
          assert.deepStrictEqual(contents(root), [])
        })
      )
    })
  })
})

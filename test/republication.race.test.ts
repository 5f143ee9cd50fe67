import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Logger, Queue } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

/** Somebody puts a file at the name, in the moment between the look and the taking. */
const beaten = Effect.map(FileSystem.FileSystem, (real) => ({
  ...real,
  link: (from: string, to: string) => {
    if (beatenFiles.has(to)) fs.writeFileSync(to, "mine", { flag: "wx" })
    return real.link(from, to)
  }
}))
const beatenFiles = new Set<string>()

const withWarnings = <A, E, R>(use: (warning: Effect.Effect<string>) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(Queue.unbounded<string>(), (warnings) =>
    Effect.provide(
      use(Queue.take(warnings)),
      Logger.layer([Logger.make(({ message }) => {
        Queue.offerUnsafe(warnings, String(message))
      })])
    ))

/** Deletes the file, has somebody else be faster, and expects that this is reported and left as it is. */
const isLeftAlone = Effect.fnUntraced(function*(file: string, warning: Effect.Effect<string>) {
  beatenFiles.add(file)
  fs.unlinkSync(file)
  assert.match(yield* warning, /has disappeared, and cannot be published again: cannot \w+ .*: EEXIST/)
  beatenFiles.delete(file)
  assert.strictEqual(fs.readFileSync(file, "utf8"), "mine")
  assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), [path.basename(file)])
})

describe("publishing again", () => {
  it.live("takes no socket path that somebody else was faster to take, and leaves no private name", () =>
    withTempHost((host) =>
      withWarnings(Effect.fnUntraced(function*(warning) {
        const socketPath = path.join(host.tmpdir, "own", "messaging.sock")
        const transport = yield* NodeTransport.make
        yield* Effect.scoped(Effect.andThen(
          transport.listen({ socketPath }),
          Effect.gen(function*() {
            const descriptors = () => fs.readdirSync("/dev/fd").length
            const before = descriptors()
            yield* isLeftAlone(socketPath, warning)
            assert.strictEqual(descriptors(), before)
          })
        ))
        assert.deepStrictEqual(contents(host.tmpdir), ["own", "own/messaging.sock"])
      }))
    ).pipe(
      Effect.provideServiceEffect(FileSystem.FileSystem, beaten),
      Effect.provide(NodeFileSystem.layer)
    ))

  it.live("takes no capability file that somebody else was faster to write, and leaves no temporary file", () =>
    withTempHost((host) =>
      withWarnings(Effect.fnUntraced(function*(warning) {
        const socketPath = path.join(host.tmpdir, "messaging.sock")
        const directory = path.join(host.homedir, ".claude", "messaging-capabilities")
        const capability = yield* Capability.make
        yield* Effect.scoped(Effect.andThen(
          capability.publish(socketPath),
          Effect.suspend(() => isLeftAlone(path.join(directory, Capability.fileName(socketPath)), warning))
        ))
      }))
    ).pipe(
      Effect.provideServiceEffect(FileSystem.FileSystem, beaten),
      Effect.provide(NodeFileSystem.layer)
    ))
})

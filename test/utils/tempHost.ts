/**
 * A host of its own for a test: home, temporary directory and environment are fresh, so that tests neither see each
 * other's endpoints nor the user's. Removed with the scope, whatever is left in it.
 */
import { Effect } from "effect"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Host, type HostFacts } from "../../src/Host.ts"

/** A fresh directory with mode 0700, removed with the scope. Its path is short enough for sockets below it. */
export const tempDirectory = Effect.acquireRelease(
  Effect.sync(() => fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "em-")))),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
)

export const makeTempHost = Effect.gen(function*() {
  const directory = yield* tempDirectory
  const host = yield* Host
  return { ...host, homedir: directory, tmpdir: directory, environment: {} } satisfies HostFacts
})

/** Runs a test that gets its own host, which every layer built inside it sees. */
export const withTempHost = <A, E, R>(use: (host: HostFacts) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(makeTempHost, (host) => Effect.provideService(use(host), Host, host))

/** Every file, socket and directory below `directory`, relative, sorted. */
export const contents = (directory: string): ReadonlyArray<string> =>
  (fs.readdirSync(directory, { recursive: true }) as Array<string>).sort()

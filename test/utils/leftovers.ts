/** What an endpoint that has ended may leave: its user's directories, and nothing in them. */
import { Effect } from "effect"
import * as fs from "node:fs"
import type { HostFacts } from "../../src/Host.ts"
import { contents } from "./tempHost.ts"

/** The directories of PROTOCOL.md that stay, below a home that is the temporary directory too. */
const stays = /^(\.claude|\.claude\/messaging-capabilities|claude-code-socks-\d+)$/

/** What there is below the home that does not belong there. */
export const leftovers = (host: HostFacts): ReadonlyArray<string> =>
  contents(host.tmpdir).filter((entry) => !stays.test(entry))

/** The sockets this process holds, and on Linux also the files below `directory`. */
const descriptors = (directory: string): ReadonlyArray<string> => {
  if (process.platform !== "linux") {
    return process.getActiveResourcesInfo().filter((name) => name.startsWith("Pipe")).map((name, n) => `${name} ${n}`)
  }
  return fs.readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = fs.readlinkSync(`/proc/self/fd/${fd}`)
      return target.startsWith("socket:") || target.startsWith(directory) ? [target] : []
    } catch {
      // The one that lists the directory is closed by now.
      return []
    }
  })
}

const tick = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** The event loop closes a descriptor a few rounds after it was told to; one that leaks is still there after a thousand. */
const rounds = 1_000

/** Remembers what is open now; the result tells what is open later and was not then. */
export const openSince = (host: HostFacts) => {
  const before = new Set(descriptors(host.tmpdir))
  const opened = Effect.sync(() => descriptors(host.tmpdir).filter((target) => !before.has(target)))
  return Effect.gen(function*() {
    let targets = yield* opened
    for (let left = rounds; targets.length > 0 && left > 0; left--) {
      yield* tick
      targets = yield* opened
    }
    return targets
  })
}

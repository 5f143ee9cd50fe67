/** What this process holds, so that a test can see that it is given back. */
import { Effect } from "effect"
import * as fs from "node:fs"

export type Counts = Readonly<Record<string, number>>

const count = (names: Iterable<string>): Counts => {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

/** Open descriptors by kind: `socket`, `pipe`, `anon_inode`, or the path of a file. Empty where the system has no /proc. */
export const descriptors = (): Counts => {
  const kinds: Array<string> = []
  for (const name of fs.existsSync("/proc/self/fd") ? fs.readdirSync("/proc/self/fd") : []) {
    try {
      kinds.push(fs.readlinkSync(`/proc/self/fd/${name}`).replace(/:.*/, ""))
    } catch {
      // The descriptor that read the directory.
    }
  }
  return count(kinds)
}

/** What keeps the event loop alive, by kind. */
export const handles = (): Counts => count(process.getActiveResourcesInfo())

/** One turn of the event loop, in which what has arrived is read. */
export const tick = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/**
 * Waits until `measure` tells `expected`: the event loop closes what was given back a few rounds later. What leaks is
 * waited for in vain, so after 10,000 rounds the last count is the answer, for the test to compare.
 */
export const settled = (measure: () => number, expected: number): Effect.Effect<number> => {
  const wait = (rounds: number): Effect.Effect<number> =>
    Effect.suspend(() => {
      const now = measure()
      return now === expected || rounds === 0 ? Effect.succeed(now) : Effect.andThen(tick, wait(rounds - 1))
    })
  return wait(10_000)
}

/**
 * How long the command line takes to start, against Node alone: each as a process from spawn to exit, in turn, so that
 * what else the machine does falls on all of them. The bundle is compared with one that loads `effect` from node_modules,
 * and with the sources. Prints the best and the median of `RUNS` (default 20), in milliseconds, and the median of the
 * ratios to Node in the same turn.
 */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { bundle } from "../scripts/bundle.ts"

const root = join(import.meta.dirname, "..")
const runs = Number(process.env["RUNS"] ?? 20)
// Inside the checkout, so that it finds node_modules.
const external = join(root, "dist", "cli-external")

// What Node keeps of the command line between starts is filled here, and not in the user's own cache.
const home = mkdtempSync(join(tmpdir(), "start-"))
const environment: NodeJS.ProcessEnv = { ...process.env, HOME: home, XDG_CACHE_HOME: "" }

const median = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0

const measure = (args: ReadonlyArray<string>, env = environment) => {
  const startedAt = performance.now()
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "ignore", env })
  if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}`)
  return performance.now() - startedAt
}

await bundle(external, [/^effect/, /^@effect/])
try {
  const subjects: Record<string, [ReadonlyArray<string>, NodeJS.ProcessEnv?]> = {
    "node -e 0": [["-e", "0"]],
    "dist --version": [["dist/cli/bin.js", "--version"]],
    "dist --version, nothing kept": [
      ["dist/cli/bin.js", "--version"],
      { ...environment, NODE_DISABLE_COMPILE_CACHE: "1" }
    ],
    "dist peers": [["dist/cli/bin.js", "peers"]],
    "dist without effect inside --version": [[join(external, "bin.js"), "--version"]],
    "src --version": [["src/cli/bin.ts", "--version"]]
  }
  const taken = Object.entries(subjects).map(([name, subject]) => ({ name, subject, times: [] as Array<number> }))
  // One that is not counted fills what Node keeps.
  for (const { subject } of taken) measure(...subject)
  for (let run = 0; run < runs; run++) {
    for (const { subject, times } of taken) times.push(measure(...subject))
  }
  const node = taken[0]?.times ?? []
  for (const { name, times } of taken) {
    const ratio = median(times.map((time, run) => time / (node[run] ?? 0)))
    const [best, middle] = [Math.min(...times), median(times)].map((time) => time.toFixed(0).padStart(5))
    process.stdout.write(`${name.padEnd(40)} best ${best}  median ${middle}  ratio ${ratio.toFixed(2)}\n`)
  }
} finally {
  rmSync(external, { recursive: true, force: true })
  rmSync(home, { recursive: true, force: true })
}

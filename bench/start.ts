/**
 * How long the command line takes to start, against Node alone: each as a process from spawn to exit, in turn, so that
 * what else the machine does falls on all of them. The bundle is compared with one that loads `effect` from node_modules,
 * and with the sources. Prints the best and the median of `RUNS` (default 20), in milliseconds.
 */
import { spawnSync } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { bundle } from "../scripts/bundle.ts"

const root = join(import.meta.dirname, "..")
const runs = Number(process.env["RUNS"] ?? 20)
// Inside the checkout, so that it finds node_modules.
const external = join(root, "dist", "cli-external")

const measure = (args: ReadonlyArray<string>) => {
  const startedAt = performance.now()
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "ignore" })
  if (status !== 0) throw new Error(`node ${args.join(" ")} ended with ${status}`)
  return performance.now() - startedAt
}

await bundle(external, [/^effect/, /^@effect/])
try {
  const subjects = {
    "node -e 0": ["-e", "0"],
    "dist --version": ["dist/cli/bin.js", "--version"],
    "dist peers": ["dist/cli/bin.js", "peers"],
    "dist without effect inside --version": [join(external, "bin.js"), "--version"],
    "src --version": ["src/cli/bin.ts", "--version"]
  }
  const taken = new Map(Object.keys(subjects).map((name) => [name, [] as Array<number>]))
  for (let run = 0; run < runs; run++) {
    for (const [name, args] of Object.entries(subjects)) taken.get(name)?.push(measure(args))
  }
  for (const [name, times] of taken) {
    times.sort((a, b) => a - b)
    const [best = 0] = times
    const median = times[Math.floor(times.length / 2)] ?? 0
    process.stdout.write(
      `${name.padEnd(40)} best ${best.toFixed(0).padStart(5)}  median ${median.toFixed(0).padStart(5)}\n`
    )
  }
} finally {
  rmSync(external, { recursive: true, force: true })
}

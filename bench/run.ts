/**
 * The benchmark. `npm run bench` runs all of it against `dist` and writes `results.json` and `results.svg`;
 * `npm run bench -- --quick` only shows that it works. While optimising:
 * `node bench/run.ts --only throughput-100 [--systems REGEXP] [--rounds N] [--millis N] [--library source|dist|PATH]
 * [--against PATH] [--profiles DIRECTORY]`, where PATH is the index of another checkout's library, and `--against` lets it take turns
 * with the first in the same run. Absolute figures mean little on a shared machine; read the ratios and their range.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { chart } from "./harness/chart.ts"
import { describe } from "./harness/machine.ts"
import { compileAll } from "./harness/native.ts"
import type { Settings } from "./harness/pairs.ts"
import * as peers from "./harness/peers.ts"
import { table } from "./harness/report.ts"
import type { Result } from "./harness/turns.ts"
import { rows } from "./rows/all.ts"

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    rounds: { type: "string" },
    millis: { type: "string" },
    quick: { type: "boolean", default: false },
    library: { type: "string", default: "source" },
    systems: { type: "string", default: "" },
    against: { type: "string" },
    profiles: { type: "string" },
    // Installs the peers, and writes the results.
    save: { type: "boolean", default: false }
  }
})

/** Only a whole run is worth publishing. */
const saves = flags.save && !flags.quick && flags.only === undefined && flags.systems === ""

const print = (text: string) => process.stdout.write(`${text}\n`)
const here = (file: string) => new URL(file, import.meta.url)

const libraries: Record<string, URL> = { source: here("../src/index.ts"), dist: here("../dist/index.js") }
const libraryUrl = (name: string) => (libraries[name] ?? pathToFileURL(path.resolve(name))).href

const only = flags.only?.flatMap((names) => names.split(","))
const unknown = only?.filter((name) => rows.every((row) => row.name !== name)) ?? []
if (unknown.length > 0) {
  process.stderr.write(`no row ${unknown.join(", ")}; the rows are ${rows.map(({ name }) => name).join(", ")}\n`)
  process.exit(2)
}

const directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "emb-")))
process.once("exit", () => fs.rmSync(directory, { recursive: true, force: true }))
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130))

/** Why each thing that only some contenders need is not there. Says so, once. */
const findMissing = async (): Promise<ReadonlyMap<string, string>> => {
  const missing = new Map(await peers.missing())
  if (missing.size > 0 && saves) {
    print("installing what the library is compared with: npm ci in bench/")
    const problem = peers.install()
    const left = await peers.missing()
    missing.clear()
    for (const [name, reason] of left) missing.set(name, problem ?? reason)
  }
  const compiler = compileAll(directory)
  if (compiler !== undefined) missing.set("gcc", compiler)
  const { error } = spawnSync("taskset", ["--version"])
  if (error !== undefined) missing.set("taskset", `${error.message}; the processes of "latency" are not pinned`)
  for (const [name, reason] of missing) print(`not there: ${name} (${reason})`)
  if (missing.size > 0 && !saves) print("`npm ci --ignore-scripts` in bench/ installs the peers")
  return missing
}

const machine = describe()
print(
  `Node ${machine.node}, Effect ${machine.packages["effect"]}, ${machine.cpu}, ${machine.cores} cores, ` +
    `${machine.system}; load ${machine.load.join(" ")}; library: ${flags.library}, at ${machine.commit}` +
    `${machine.changed ? " with changes" : ""}`
)

const settings: Settings = {
  rounds: Number(flags.rounds ?? (flags.quick ? 1 : 7)),
  millis: Number(flags.millis ?? (flags.quick ? 100 : 1_000)),
  quick: flags.quick,
  library: libraryUrl(flags.library),
  against: flags.against === undefined ? undefined : libraryUrl(flags.against),
  systems: new RegExp(flags.systems),
  profiles: flags.profiles,
  directory,
  native: directory,
  missing: await findMissing(),
  progress: (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
  }
}
print(`${settings.rounds} rounds in turns, ${settings.millis} ms each, after one that is not counted; medians`)

const measured: Array<{ readonly name: string; readonly title: string; readonly results: ReadonlyArray<Result> }> = []
for (const row of rows) {
  if (only === undefined ? flags.quick && row.isLong === true : !only.includes(row.name)) continue
  const results = await row.run(settings)
  print(`\n${table(row, results)}`)
  const { better, name, title, unit } = row
  measured.push({ name, title, unit, better, results } as (typeof measured)[number])
  if (saves && name === "throughput-100") {
    const caption = `Node ${machine.node}, ${machine.cpu}, ${machine.cores} cores; ` +
      `medians of ${settings.rounds} rounds in turns; npm run bench`
    fs.writeFileSync(here("results.svg"), chart(row, results, caption))
  }
}

if (saves) {
  const { millis, rounds } = settings
  const file = { date: new Date().toISOString(), machine, library: flags.library, rounds, millis, rows: measured }
  fs.writeFileSync(here("results.json"), `${JSON.stringify(file, undefined, 2)}\n`)
  print("\nwritten: bench/results.json, bench/results.svg")
}

const failures = measured.flatMap(({ name, results }) =>
  results.flatMap((result) => result.failure === undefined ? [] : [`${name}, ${result.name}: ${result.failure}`])
)
for (const failure of failures) process.stderr.write(`failed: ${failure}\n`)
process.exit(failures.length === 0 ? 0 : 1)

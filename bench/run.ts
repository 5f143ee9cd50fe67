/**
 * The benchmark: `node bench/run.ts [--only ROW,…] [--rounds N] [--millis N] [--library source|dist|PATH]
 * [--against PATH] [--profiles DIRECTORY]`. PATH is the `index.ts` or `index.js` of another checkout; with `--against`
 * both libraries take turns in the same run. Absolute numbers mean little on a shared machine; read the ratios.
 */
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import { type Contender, type Settings, takeTurns } from "./harness/turns.ts"
import { contenders, inFlight } from "./rows/throughput.ts"

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "7" },
    millis: { type: "string", default: "1000" },
    library: { type: "string", default: "source" },
    against: { type: "string" },
    profiles: { type: "string" }
  }
})

const print = (text: string) => process.stdout.write(`${text}\n`)

const libraries: Record<string, URL> = {
  source: new URL("../src/index.ts", import.meta.url),
  dist: new URL("../dist/index.js", import.meta.url)
}
const libraryUrl = (name: string) => (libraries[name] ?? pathToFileURL(path.resolve(name))).href

const settings: Settings = {
  rounds: Number(flags.rounds),
  millis: Number(flags.millis),
  library: libraryUrl(flags.library),
  profiles: flags.profiles,
  progress: (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
  }
}

const both = (contenders: ReadonlyArray<Contender>) =>
  contenders.flatMap((contender) =>
    flags.against === undefined || !(contender.server === "ours" || contender.client === "ours")
      ? [contender]
      : [contender, { ...contender, name: `${contender.name} (against)`, library: libraryUrl(flags.against) }]
  )

print(
  `Node ${process.versions.node}, ${os.cpus()[0]?.model}, ${os.cpus().length} cores, ${os.type()} ${os.release()}; ` +
    `library: ${flags.library}`
)
const rows: Record<string, number> = { "throughput-100": 100, "throughput-4k": 4_096, "throughput-32k": 32_768 }
const only = flags.only?.split(",")
for (const [name, bytes] of Object.entries(rows)) {
  if (only !== undefined && !only.includes(name)) continue
  print(`\n${name}: ${inFlight} in flight, ${settings.rounds} rounds of ${settings.millis} ms in turns`)
  const results = await takeTurns(both(contenders), { connections: 1, inFlight, bytes }, settings)
  settings.progress("")
  print(
    `${"".padEnd(34)}${"per second".padStart(12)}${"ratio".padStart(8)}${"low..high".padStart(14)}` +
      `${"server µs".padStart(12)}${"client µs".padStart(12)}`
  )
  for (const { clientMicros, name, perSecond, ratio, serverMicros } of results) {
    print(
      `${name.padEnd(34)}${perSecond.median.toFixed(0).padStart(12)}${ratio.median.toFixed(2).padStart(8)}` +
        `${`${ratio.low.toFixed(2)}..${ratio.high.toFixed(2)}`.padStart(14)}` +
        `${serverMicros.toFixed(2).padStart(12)}${clientMicros.toFixed(2).padStart(12)}`
    )
  }
}

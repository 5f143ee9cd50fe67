/**
 * What spans, metrics, trace context and filtered logs cost: the library and a copy of it without them take turns in one
 * run. `node bench/observability.ts [--rounds N] [--millis N]`; further flags go to run.ts.
 *
 * The copy differs in two files of src/internal: metrics.ts counts nothing, trace.ts makes no span and sends none along.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

const root = path.resolve(import.meta.dirname, "..")

const silentMetrics = `
export const make = Effect.succeed({
  accepted: () => {}, duplicate: () => {}, refused: () => {}, connected: () => {}, inbox: () => {}, retried: () => {},
  answered: () => {}, republished: () => {}
})
`
const silentTrace = `
export const span = (_name, evaluate) => evaluate(undefined)
export const parse = () => Option.none()
`

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "effect-messaging-silent-"))
try {
  fs.cpSync(path.join(root, "src"), path.join(directory, "src"), { recursive: true })
  fs.symlinkSync(path.join(root, "node_modules"), path.join(directory, "node_modules"))
  fs.copyFileSync(path.join(root, "package.json"), path.join(directory, "package.json"))
  const replace = (name: string, text: string) => fs.writeFileSync(path.join(directory, "src/internal", name), text)
  replace("metrics.ts", `import * as Effect from "effect/Effect"\n${silentMetrics}`)
  replace("trace.ts", `import * as Option from "effect/Option"\n${silentTrace}`)
  const { status } = spawnSync(process.execPath, [
    path.join(root, "bench/run.ts"),
    "--only",
    "throughput-100",
    "--against",
    path.join(directory, "src/index.ts"),
    ...process.argv.slice(2)
  ], { stdio: "inherit" })
  process.exitCode = status ?? 1
} finally {
  fs.rmSync(directory, { recursive: true })
}

/**
 * The packed package on each runtime: what a user does first (scripts/compat/check.ts), the README's shell command, and on
 * Node the tests of the modules, or with `--suite` all tests. Prints a table, and the error of whatever fails. Fails only
 * where a supported Node does: Bun and Deno are not supported, and their columns tell how far they come.
 *
 *     npm run test:nodes
 *     npm run test:nodes -- node-22.19 --suite
 *
 * The runtimes come from `compat/`, about a gigabyte for Linux x64. Elsewhere only the Node that runs this is tried.
 */
import { spawnSync } from "node:child_process"
import { copyFileSync } from "node:fs"
import * as path from "node:path"
import { parseArgs } from "node:util"
import { installed, pack, type Packed, root, run } from "./compat/packed.ts"

interface Runtime {
  readonly name: string
  readonly binary: string
  /** Before the program's file. */
  readonly args: ReadonlyArray<string>
  readonly isSupported: boolean
}

interface Result {
  /** `ok`, what of how much has failed, or a dash where it is not tried. */
  readonly cell: string
  readonly failures: ReadonlyArray<string>
}

const nodes = ["node-22.19", "node-22", "node-24", "node-26"]

const at = (name: string, file: string) => path.join(installed(name, "runtime"), file)

const runtimes = (): ReadonlyArray<Runtime> => {
  if (process.platform !== "linux" || process.arch !== "x64") {
    return [{ name: "node", binary: process.execPath, args: [], isSupported: true }]
  }
  return [
    ...nodes.map((name) => ({ name, binary: at(name, "bin/node"), args: [], isSupported: true })),
    { name: "bun", binary: at("bun", "bin/bun"), args: ["run"], isSupported: false },
    { name: "deno", binary: at("deno", "deno"), args: ["run", "--allow-all", "--no-lock"], isSupported: false }
  ]
}

/** The tests of the modules over memory and over real sockets; what starts many processes is left to the whole suite. */
const moduleTests = [
  "test/Address.test.ts",
  "test/Capability.test.ts",
  "test/Connection.test.ts",
  "test/Framing.test.ts",
  "test/Handshake.test.ts",
  "test/Inbox.test.ts",
  "test/Layers.test.ts",
  "test/Limits.test.ts",
  "test/MemoryTransport.test.ts",
  "test/Message.test.ts",
  "test/Messaging.test.ts",
  "test/Namespace.test.ts",
  "test/NodeTransport.test.ts",
  "test/Peers.test.ts"
]

const minute = 60_000

const execute = (
  runtime: Runtime,
  args: ReadonlyArray<string>,
  cwd: string,
  env: NodeJS.ProcessEnv,
  timeout: number
) => {
  const { error, signal, status, stderr, stdout } = spawnSync(runtime.binary, [...runtime.args, ...args], {
    cwd,
    env,
    encoding: "utf8",
    timeout,
    killSignal: "SIGKILL",
    maxBuffer: 64 * 1_048_576
  })
  const ending = error?.message ?? (signal === null ? `exit code ${status}` : `killed by ${signal}`)
  return { ended: status === 0, ending, stdout, stderr }
}

const lastLines = (text: string) => text.trim().split("\n").slice(-6).join("\n      ")

const tryLibrary = (runtime: Runtime, { environment, project }: Packed): Result => {
  const { ended, ending, stderr, stdout } = execute(runtime, ["check.ts"], project, environment(runtime.binary), minute)
  const lines = stdout.split("\n")
  const failures = lines.filter((line) => line.startsWith("fails "))
  const passed = lines.filter((line) => line.startsWith("ok ")).length
  if (ended && failures.length === 0 && passed >= 7) return { cell: "ok", failures: [] }
  const unsaid = failures.length > 0 ? [] : [`the program ended with ${ending}\n      ${lastLines(stderr)}`]
  return { cell: `${passed} of 7`, failures: [...failures, ...unsaid] }
}

/** An endpoint, and its child that finds it through the variable; both by the same runtime. */
const tryCommand = (runtime: Runtime, { environment, library, project }: Packed): Result => {
  const command = [runtime.binary, ...runtime.args, path.join(library, "dist/cli/bin.js")]
  const child = `exec ${command.map((word) => `'${word}'`).join(" ")} send 'tests passed'`
  const args = [...command.slice(runtime.args.length + 1), "listen", "--", "/bin/sh", "-c", child]
  const { ended, ending, stderr, stdout } = execute(runtime, args, project, environment(runtime.binary), minute)
  return ended && / uds-1 text from unknown: tests passed$/m.test(stdout)
    ? { cell: "ok", failures: [] }
    : { cell: "fails", failures: [`the command line ended with ${ending}\n      ${lastLines(stdout + stderr)}`] }
}

const tryTests = (runtime: Runtime, suite: boolean): Result => {
  if (!runtime.isSupported) return { cell: "-", failures: [] }
  const env = { ...process.env, PATH: `${path.dirname(runtime.binary)}${path.delimiter}${process.env["PATH"]}` }
  const args = [path.join(root, "node_modules/vitest/vitest.mjs"), "run", "--no-color", ...(suite ? [] : moduleTests)]
  const { ended, ending, stderr, stdout } = execute(runtime, args, root, env, 30 * minute)
  const [, count = "none"] = /^ +Tests +(.+)$/m.exec(stdout) ?? []
  const failures = [...`${stdout}\n${stderr}`.matchAll(/^ *FAIL +(.+)$/gm)].map(([, name = ""]) => name)
  if (ended && /^\d+ passed/.test(count)) return { cell: count, failures: [] }
  return { cell: count, failures: failures.length > 0 ? [...new Set(failures)] : [`vitest ended with ${ending}`] }
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { suite: { type: "boolean", default: false } }
})
const chosen = runtimes().filter(({ name }) => positionals.length === 0 || positionals.includes(name))
if (chosen.length === 0) throw new Error(`there are ${runtimes().map(({ name }) => name).join(", ")}`)

run("npm", ["run", "-s", "build"])
const packed = pack()
const cells: Array<ReadonlyArray<string>> = [["runtime", "version", "library", "command line", "tests"]]
const failures: Array<string> = []
try {
  copyFileSync(path.join(root, "scripts/compat/check.ts"), path.join(packed.project, "check.ts"))
  for (const runtime of chosen) {
    const [version = ""] = /\d+\.\d+\.\d+/.exec(run(runtime.binary, ["--version"])) ?? []
    const results = [tryLibrary(runtime, packed), tryCommand(runtime, packed), tryTests(runtime, values.suite)]
    cells.push([runtime.name, version, ...results.map(({ cell }) => cell)])
    const found = results.flatMap(({ failures }) => failures)
    for (const failure of found) process.stdout.write(`${runtime.name} ${version}: ${failure}\n`)
    if (runtime.isSupported) failures.push(...found)
  }
} finally {
  packed.remove()
}
const widths = cells[0]?.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0))) ?? []
for (const row of cells) {
  process.stdout.write(`${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  ").trimEnd()}\n`)
}
process.exitCode = failures.length > 0 ? 1 : 0

/**
 * Effect's own diagnostics over every file of the project. The tool checks nothing, and succeeds, when tsconfig.json
 * lacks its plug-in entry; so the count of checked files is held against the compiler's own list.
 */
import { spawnSync } from "node:child_process"

const run = (command: string, args: ReadonlyArray<string>) => {
  const { status, stderr, stdout } = spawnSync(command, args, { encoding: "utf8", shell: process.platform === "win32" })
  return { status, output: `${stdout}${stderr}` }
}

const listed = run("tsc", ["-p", "tsconfig.json", "--listFilesOnly"])
const own = listed.output.split("\n").filter((file) => file.endsWith(".ts") && !file.includes("node_modules")).length
const { output, status } = run("effect-tsgo", ["diagnostics", "--project", "tsconfig.json"])
const summary = /Checked (\d+) files out of \d+ files\.\s+(\d+) errors, (\d+) warnings and (\d+) messages/.exec(output)
const [checked, errors, warnings, messages] = (summary ?? []).slice(1).map(Number)
const clean = errors === 0 && warnings === 0 && messages === 0
if (status !== 0 || own === 0 || checked !== own || !clean) {
  process.stdout.write(`${output}\n`)
  process.stderr.write(`effect diagnostics: ${checked ?? 0} of ${own} files checked, or findings above\n`)
  process.exitCode = 1
} else {
  process.stdout.write(`effect diagnostics: ${checked} of ${own} files checked, no findings\n`)
}

/**
 * Whether every row of SECURITY.md names tests that exist, ran and passed. One that this user cannot run, and whose name
 * says why, may be skipped where another test of its row has passed. With the name of a report that vitest has
 * written (`--reporter=json --outputFile.json=FILE`) it reads that; without one it runs the files that the rows name.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

interface Row {
  readonly id: string
  readonly module: string
  /** Each by its file and its name, or the beginning of that. */
  readonly tests: ReadonlyArray<readonly [file: string, name: string]>
}

interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly assertionResults: ReadonlyArray<{ readonly title: string; readonly status: string }>
  }>
}

const root = path.join(import.meta.dirname, "..")
const expected = Array.from({ length: 31 }, (_, i) => `S${i + 1}`)

const rows = fs.readFileSync(path.join(root, "SECURITY.md"), "utf8").split("\n")
  .filter((line) => /^\| S\d+ \|/.test(line))
  .map((line): Row => {
    const [id = "", , , module = "", tests = ""] = line.split("|").slice(1).map((cell) => cell.trim())
    return {
      id,
      module: module.replaceAll("`", ""),
      tests: [...tests.matchAll(/`(test\/[^`]+)` "([^"]+)"/g)].map(([, file = "", name = ""]) => [file, name])
    }
  })

/** The report of a run of the files that the rows name. */
const runNamed = (): string => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "em-security-"))
  const report = path.join(directory, "report.json")
  const files = [...new Set(rows.flatMap(({ tests }) => tests.map(([file]) => file)))]
  spawnSync("vitest", ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...files], {
    cwd: root,
    stdio: "inherit",
    shell: process.platform === "win32"
  })
  const text = fs.readFileSync(report, "utf8")
  fs.rmSync(directory, { recursive: true })
  return text
}

const written = process.argv[2]
const report = JSON.parse(written === undefined ? runNamed() : fs.readFileSync(written, "utf8")) as Report
const results = report.testResults.flatMap(({ assertionResults, name }) => {
  const file = path.relative(root, name).replaceAll(path.sep, "/")
  return assertionResults.map(({ status, title }) => ({ file, title, status }))
})

const named = ([file, name]: Row["tests"][number]) =>
  results.filter((result) => result.file === file && result.title.startsWith(name))

const isExcused = ({ status, title }: typeof results[number]) => status === "skipped" && / \(skipped: .+\)$/.test(title)

const problemsOf = ({ id, module, tests }: Row): ReadonlyArray<string> => [
  ...(fs.existsSync(path.join(root, module)) ? [] : [`${id}: there is no ${module}`]),
  ...(tests.length === 0 ? [`${id}: names no test`] : []),
  ...(tests.flatMap(named).every(isExcused) ? [`${id}: all its tests are skipped`] : []),
  ...tests.flatMap(([file, name]) => {
    const found = named([file, name])
    const bad = found.filter((result) => result.status !== "passed" && !isExcused(result))
    return found.length === 0
      ? [`${id}: ${file} has run no test whose name begins with "${name}"`]
      : bad.map(({ status, title }) => `${id}: ${file} "${title}" is ${status}`)
  })
]

const problems = [
  ...expected.filter((id) => rows.filter((row) => row.id === id).length !== 1).map((id) =>
    `${id}: not exactly one row`
  ),
  ...rows.flatMap(problemsOf)
]
if (problems.length > 0) {
  process.stderr.write(`${problems.join("\n")}\n`)
  process.exitCode = 1
} else {
  const count = rows.reduce((sum, { tests }) => sum + tests.length, 0)
  const skipped = new Set(rows.flatMap(({ tests }) => tests.flatMap(named)).filter(isExcused).map(({ title }) => title))
  for (const title of skipped) process.stdout.write(`security: not run: ${title}\n`)
  const but = skipped.size === 0 ? "" : `, but for ${skipped.size} that this user cannot run`
  process.stdout.write(`security: ${rows.length} rows of SECURITY.md name ${count} tests that ran and passed${but}\n`)
}

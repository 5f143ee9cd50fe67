/**
 * Branch coverage of the modules that scripts/mutation/modules.ts names. Every branch is taken by a test of this process
 * or named in scripts/coverage.json with the reason why none does; a name that is not needed any more fails as well.
 *
 *     npm run coverage
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { modules } from "./mutation/modules.ts"

interface Place {
  readonly start: { readonly line: number | undefined }
}

/** What istanbul's JSON tells of one file, as far as branches go. */
interface FileCoverage {
  readonly path: string
  readonly b: Record<string, ReadonlyArray<number>>
  readonly branchMap: Record<
    string,
    { readonly type: string; readonly loc: Place; readonly locations: ReadonlyArray<Place> }
  >
}

/** A branch by the line it stands on, so that it is found after a change elsewhere. */
interface Branch {
  readonly module: string
  readonly line: string
  readonly branch: string
}

interface Excused extends Branch {
  readonly reason: string
}

/** The tests that run these modules in their own process. */
const tests = [
  "test/Address",
  "test/Capability",
  "test/Connection",
  "test/Framing",
  "test/Inbox",
  "test/Layers",
  "test/NodeTransport",
  "test/Peers",
  "test/internal/",
  "test/leftovers",
  "test/observability",
  "test/republication",
  "test/integration/republication",
  "test/integration/stall"
]

const report = fs.mkdtempSync(path.join(os.tmpdir(), "coverage-"))
try {
  const { status } = spawnSync("vitest", [
    "run",
    ...tests,
    "--reporter=dot",
    "--coverage.enabled",
    "--coverage.provider=v8",
    "--coverage.reporter=json",
    "--coverage.reporter=text",
    `--coverage.reportsDirectory=${report}`,
    ...Object.values(modules).map(({ source }) => `--coverage.include=${source}`)
  ], { stdio: "inherit", shell: process.platform === "win32" })
  if (status !== 0) throw new Error("the tests fail")

  const files = Object.values(
    JSON.parse(fs.readFileSync(path.join(report, "coverage-final.json"), "utf8")) as Record<string, FileCoverage>
  )
  const missed: Array<Branch> = []
  let branches = 0
  for (const file of files) {
    const lines = fs.readFileSync(file.path, "utf8").split("\n")
    for (const [id, counts] of Object.entries(file.b)) {
      const { loc, locations, type } = file.branchMap[id] ?? { loc: { start: { line: 1 } }, locations: [], type: "?" }
      branches += counts.length
      for (const [index, count] of counts.entries()) {
        if (count > 0) continue
        const line = locations[index]?.start.line ?? loc.start.line ?? 1
        missed.push({
          module: path.relative(process.cwd(), file.path),
          line: (lines[line - 1] ?? "").trim(),
          branch: `${type} ${index + 1} of ${counts.length}`
        })
      }
    }
  }
  const excused = JSON.parse(fs.readFileSync("scripts/coverage.json", "utf8")) as ReadonlyArray<Excused>
  const key = ({ branch, line, module }: Branch) => [module, line, branch].join("\n")
  const names = new Set(excused.map(key))
  const found = new Set(missed.map(key))
  const unexcused = missed.filter((branch) => !names.has(key(branch)))
  const needless = excused.filter((branch) => !found.has(key(branch)))
  for (const branch of unexcused) process.stderr.write(`not taken: ${JSON.stringify(branch)}\n`)
  for (const branch of needless) process.stderr.write(`taken, or not there any more: ${JSON.stringify(branch)}\n`)
  const taken = branches - missed.length
  process.stdout.write(
    `branches: ${taken} of ${branches} taken (${(100 * taken / branches).toFixed(1)}%), ` +
      `${missed.length - unexcused.length} of the others named in scripts/coverage.json\n`
  )
  if (unexcused.length > 0 || needless.length > 0 || files.length < Object.keys(modules).length) process.exitCode = 1
} finally {
  fs.rmSync(report, { recursive: true, force: true })
}

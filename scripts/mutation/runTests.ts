/**
 * Runs tests of some files in order until one fails, in a process of its own that the caller ends. What happens is
 * written to descriptor 3, one JSON object a line and synchronously, so that a test that never yields is known by name.
 */
import * as fs from "node:fs"
import * as inspector from "node:inspector/promises"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { Skipped, type Test, tests } from "./vitest.ts"

export interface Job {
  readonly root: string
  readonly files: ReadonlyArray<{
    readonly file: string
    /** Ordinals within the file; all of them where it is missing. */
    readonly only?: ReadonlyArray<number> | undefined
  }>
  /** Modules, from the root, whose coverage is told for each test; then a failure does not end the run. */
  readonly cover: ReadonlyArray<string>
}

/** What of a script was run: V8's nested ranges, outer before inner. */
export type Ranges = ReadonlyArray<readonly [start: number, end: number, count: number]>

export type Event =
  | { readonly event: "imported"; readonly file: string; readonly covered: Record<string, Ranges> }
  | { readonly event: "started"; readonly file: string; readonly ordinal: number; readonly name: string }
  | {
    readonly event: "ended"
    readonly file: string
    readonly ordinal: number
    readonly millis: number
    readonly failure?: string | undefined
    readonly isSkipped: boolean
    readonly covered: Record<string, Ranges>
  }
  | { readonly event: "done" }

const tell = (event: Event) => void fs.writeSync(3, `${JSON.stringify(event)}\n`)

const job = JSON.parse(process.argv[2] ?? "") as Job
const session = new inspector.Session()

const startCoverage = async () => {
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true })
}

/** What was run since the last call. */
const covered = async (): Promise<Record<string, Ranges>> => {
  if (job.cover.length === 0) return {}
  const { result } = await session.post("Profiler.takePreciseCoverage")
  const found: Record<string, Ranges> = {}
  for (const { functions, url } of result) {
    const module = job.cover.find((module) => url === pathToFileURL(path.join(job.root, module)).href)
    if (module === undefined) continue
    found[module] = functions.flatMap(({ ranges }) =>
      ranges.map(({ count, endOffset, startOffset }) => [startOffset, endOffset, count] as const)
    )
  }
  return found
}

const describeError = (error: unknown) =>
  (error instanceof Error ? `${error.name}: ${error.message}` : String(error)).slice(0, 300)

const run = async ({ run }: Test): Promise<{ readonly failure?: string; readonly isSkipped: boolean }> => {
  const finished: Array<() => unknown> = []
  const controller = new AbortController()
  try {
    await run({
      signal: controller.signal,
      onTestFinished: (run) => void finished.push(run),
      skip: (reason) => {
        throw new Skipped(reason)
      }
    })
    return { isSkipped: false }
  } catch (error) {
    return error instanceof Skipped ? { isSkipped: true } : { failure: describeError(error), isSkipped: false }
  } finally {
    for (const run of finished.toReversed()) await run()
  }
}

let current: { readonly file: string; readonly ordinal: number } = { file: "", ordinal: -1 }
const fail = (error: unknown) => {
  tell({ event: "ended", ...current, millis: 0, failure: describeError(error), isSkipped: false, covered: {} })
  process.exit(1)
}
// The test runner fails a run on these as well.
process.on("uncaughtException", fail)
process.on("unhandledRejection", fail)

if (job.cover.length > 0) await startCoverage()
for (const { file, only } of job.files) {
  current = { file, ordinal: -1 }
  tests.length = 0
  await import(pathToFileURL(path.join(job.root, file)).href)
  const collected = [...tests]
  tell({ event: "imported", file, covered: await covered() })
  for (const ordinal of only ?? collected.keys()) {
    const test = collected[ordinal]
    current = { file, ordinal }
    if (test === undefined) {
      fail(new Error("the test is not there any more"))
      continue
    }
    tell({ event: "started", ...current, name: test.name })
    const since = performance.now()
    const { failure, isSkipped } = test.isSkipped ? { failure: undefined, isSkipped: true } : await run(test)
    const millis = performance.now() - since
    tell({ event: "ended", ...current, millis, failure, isSkipped, covered: await covered() })
    if (failure !== undefined && job.cover.length === 0) process.exit(1)
  }
}
tell({ event: "done" })
process.exit(0)

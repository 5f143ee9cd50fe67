/**
 * Mutation testing: changes one thing in a module, runs the tests that reach it, and expects one of them to fail. What
 * nothing notices is printed.
 *
 *     npm run mutate -- [--only Framing,Inbox] [--sample 100] [--seed 1] [--control 3] [--report file] [--again file]
 *
 * `--sample` takes so many mutants of each module at random; `--report` appends a line of JSON for each mutant, and
 * `--again` runs only what survived in such a report, wherever in the module the same change stands now. A mutant is not
 * type-checked: what the compiler would refuse counts like any other. Which tests reach which code is measured first,
 * test by test, without any mutant. Then the module as it is has to pass under the limits of its mutants, `--control`
 * times, so that a mutant whose tests do not end is told from a machine that is slow.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import { parseArgs } from "node:util"
import { modules } from "./mutation/modules.ts"
import { type Mutant, mutantsOf, placeOf } from "./mutation/mutants.ts"
import type { Event, Ranges } from "./mutation/runTests.ts"
import { makeSandbox, type Outcome, type Sandbox } from "./mutation/sandbox.ts"

interface MeasuredTest {
  readonly ordinal: number
  readonly name: string
  readonly millis: number
  readonly covered: Record<string, Ranges>
}

interface MeasuredFile {
  readonly atImport: Record<string, Ranges>
  readonly tests: ReadonlyArray<MeasuredTest>
}

interface Result {
  readonly module: string
  readonly line: number
  readonly column: number
  readonly kind: string
  readonly from: string
  readonly to: string
  readonly outcome: Outcome["kind"] | "not reached"
  readonly by?: string | undefined
}

/** What a process may take to begin, and what a test may take that is measured. */
const starting = { cpu: 20_000, wall: 60_000 }
const measuring = { cpu: 60_000, wall: 120_000 }

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    control: { type: "string", default: "1" },
    report: { type: "string" },
    again: { type: "string" }
  }
})
const say = (text: string) => void process.stdout.write(`${text}\n`)

/** mulberry32, as in test/utils/effort.ts. */
const makeRandom = (from: number) => {
  let state = from >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

const sampled = <A>(all: ReadonlyArray<A>, count: number, random: () => number): ReadonlyArray<A> =>
  all.map((value, index) => ({ value, index, key: random() }))
    .sort((a, b) => a.key - b.key).slice(0, count).sort((a, b) => a.index - b.index).map(({ value }) => value)

/** Whether the innermost range around the offset was run. */
const reaches = (ranges: Ranges | undefined, offset: number): boolean => {
  let innermost: Ranges[number] | undefined
  for (const range of ranges ?? []) {
    if (range[0] > offset || range[1] <= offset) continue
    if (innermost === undefined || range[1] - range[0] <= innermost[1] - innermost[0]) innermost = range
  }
  return innermost !== undefined && innermost[2] > 0
}

const measure = async (sandbox: Sandbox, file: string, cover: ReadonlyArray<string>): Promise<MeasuredFile> => {
  const names = new Map<number, string>()
  const tests: Array<MeasuredTest> = []
  const broken: Array<string> = []
  let atImport: Record<string, Ranges> = {}
  const outcome = await sandbox.run({ files: [{ file }], cover }, () => measuring, (event) => {
    if (event.event === "imported") atImport = event.covered
    if (event.event === "started") names.set(event.ordinal, event.name)
    if (event.event !== "ended" || event.isSkipped) return
    const name = names.get(event.ordinal) ?? ""
    if (event.failure !== undefined) broken.push(`${name}: ${event.failure}`)
    tests.push({ ordinal: event.ordinal, name, millis: event.millis, covered: event.covered })
  })
  if (outcome.kind !== "passed" || broken.length > 0) {
    throw new Error(`${file} fails without any mutant: ${[JSON.stringify(outcome), ...broken].join("\n")}`)
  }
  say(`  ${file}: ${tests.length} tests, ${Math.round(tests.reduce((sum, { millis }) => sum + millis, 0))} ms`)
  return { atImport, tests }
}

const only = values.only?.split(",") ?? Object.keys(modules)
const chosen = only.map((name) => {
  const module = modules[name]
  if (module === undefined) throw new Error(`no module ${name}; there are ${Object.keys(modules).join(", ")}`)
  return { name, ...module, text: fs.readFileSync(module.source, "utf8") }
})
const isSame = (a: Result, b: Result) => a.module === b.module && a.from === b.from && a.to === b.to
const again = values.again === undefined
  ? undefined
  : fs.readFileSync(values.again, "utf8").trim().split("\n").map((line) => JSON.parse(line) as Result)
    .filter(({ outcome }) => outcome === "passed" || outcome === "not reached")

const random = makeRandom(Number(values.seed))
// Never above what it was started with.
if (os.getPriority() < 10) os.setPriority(10)
const sandbox = makeSandbox()
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    sandbox.remove()
    process.exit(1)
  })
}

/** Runs the tests that reach the mutant; without one, all that reach the module. */
const judge = async (
  module: (typeof chosen)[number],
  mutant: Mutant | undefined,
  measured: ReadonlyMap<string, MeasuredFile>
): Promise<Outcome | undefined> => {
  const isReached = (ranges: Ranges | undefined) =>
    mutant === undefined ? ranges?.some(([, , count]) => count > 0) === true : reaches(ranges, mutant.site)
  // The module's own file first, and in each the quickest first, since one failure is enough.
  const files = module.tests.flatMap((file) => {
    const found = measured.get(file)
    const first = mutant !== undefined && isReached(found?.atImport[module.source])
    const tests = (found?.tests ?? []).filter(({ covered }) => first || isReached(covered[module.source]))
      .sort((a, b) => a.millis - b.millis)
    return tests.length === 0 ? [] : [{ file, tests }]
  })
  if (files.length === 0) return undefined
  const usual = (event: Event | undefined) =>
    event?.event === "started"
      ? files.find(({ file }) => file === event.file)?.tests.find(({ ordinal }) => ordinal === event.ordinal)?.millis
      : undefined
  if (mutant !== undefined) {
    const { end, replacement, start } = mutant
    sandbox.write(module.source, module.text.slice(0, start) + replacement + module.text.slice(end))
  }
  const only = files.map(({ file, tests }) => ({ file, only: tests.map(({ ordinal }) => ordinal) }))
  try {
    return await sandbox.run({ files: only, cover: [] }, (event) => {
      const millis = usual(event)
      return millis === undefined ? starting : { cpu: 700 + 5 * millis, wall: 5_000 + 10 * millis }
    })
  } finally {
    sandbox.write(module.source, module.text)
  }
}

const control = async (module: (typeof chosen)[number], measured: ReadonlyMap<string, MeasuredFile>) => {
  const seconds: Array<string> = []
  for (let round = 0; round < Number(values.control); round++) {
    const since = performance.now()
    const outcome = await judge(module, undefined, measured)
    if (outcome?.kind !== "passed") throw new Error(`${module.name} unchanged: ${JSON.stringify(outcome)}`)
    seconds.push(((performance.now() - since) / 1000).toFixed(1))
  }
  if (seconds.length > 0) say(`  ${module.name} unchanged passes in ${seconds.join(", ")} s`)
}

const inOneLine = (text: string) => text.replaceAll(/\s+/g, " ").slice(0, 100)

try {
  say(`seed ${values.seed}${values.sample === undefined ? "" : `, at most ${values.sample} mutants of each module`}`)
  const cover = chosen.map(({ source }) => source)
  const measured = new Map<string, MeasuredFile>()
  for (const file of new Set(chosen.flatMap(({ tests }) => tests))) {
    measured.set(file, await measure(sandbox, file, cover))
  }
  const results: Array<Result> = []
  for (const module of chosen) {
    await control(module, measured)
    const since = performance.now()
    const described = mutantsOf(module.text).map((mutant) => ({
      mutant,
      change: {
        module: module.name,
        ...placeOf(module.text, mutant.start),
        kind: mutant.kind,
        from: inOneLine(module.text.slice(mutant.start, mutant.end)),
        to: inOneLine(mutant.replacement),
        outcome: "passed"
      } satisfies Result
    })).filter(({ change }) => again === undefined || again.some((other) => isSame(change, other)))
    const taken = values.sample === undefined ? described : sampled(described, Number(values.sample), random)
    let survived = 0
    let hung = 0
    for (const { change, mutant } of taken) {
      const outcome = await judge(module, mutant, measured)
      const by = outcome === undefined || outcome.kind === "passed" ? undefined : outcome.test
      const result: Result = { ...change, outcome: outcome?.kind ?? "not reached", by }
      results.push(result)
      if (values.report !== undefined) fs.appendFileSync(values.report, `${JSON.stringify(result)}\n`)
      if (result.outcome === "hung") hung++
      if (by === undefined) {
        survived++
        say(
          `  ${module.source}:${change.line}:${change.column} ${change.kind}: ${change.from} -> ${
            change.to || "(nothing)"
          }${outcome === undefined ? " (no test reaches it)" : ""}`
        )
      }
    }
    const killed = taken.length - survived
    const percentage = taken.length === 0 ? 100 : 100 * killed / taken.length
    const of = taken.length === described.length ? "all" : `a sample of ${described.length}`
    say(
      `${module.name}: ${killed} of ${taken.length} killed (${
        percentage.toFixed(1)
      }%), ${hung} of them by never ending; ` +
        `${of}, ${Math.round((performance.now() - since) / 1000)} s`
    )
  }
  const killed = results.filter(({ outcome }) => outcome === "failed" || outcome === "hung").length
  say(`total: ${killed} of ${results.length} killed (${(100 * killed / Math.max(1, results.length)).toFixed(1)}%)`)
} finally {
  sandbox.remove()
}

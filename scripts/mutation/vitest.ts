/**
 * As much of vitest as the tests here use, for a process that runs some of them once and ends: registration, and no
 * reporter, no workers and no transforms. hooks.ts gives it to whoever imports "vitest", which makes a run of one test
 * cost a quarter of a second rather than two. scripts/mutate.ts holds its count of tests against the runner's own.
 */
import * as chai from "chai"
import { format } from "node:util"

export interface TestContext {
  readonly signal: AbortSignal
  readonly onTestFinished: (run: () => unknown) => void
  readonly skip: (reason?: string) => never
}

export type Body = (context: TestContext) => unknown

export interface Test {
  readonly name: string
  readonly isSkipped: boolean
  readonly run: Body
}

/** In order of registration. Written while test files are imported. */
export const tests: Array<Test> = []

/** Thrown by `context.skip`. */
export class Skipped extends Error {}

const suites: Array<string> = []

export const describe = (name: string, ...rest: ReadonlyArray<unknown>): void => {
  const body = rest.find((value) => typeof value === "function") as () => void
  suites.push(name)
  body()
  suites.pop()
}

type Register = (name: string, ...rest: ReadonlyArray<unknown>) => void

const register = (isSkipped: boolean): Register => (name, ...rest) => {
  const run = rest.find((value) => typeof value === "function") as Body
  tests.push({ name: [...suites, name].join(" > "), isSkipped, run })
}

/** `%s` and the like, and `$key`, stand for the case. */
const title = (name: string, value: unknown, values: ReadonlyArray<unknown>) => {
  const named = name.replaceAll(/\$(\w+)/g, (whole, key: string) => {
    const found = typeof value === "object" && value !== null ? Reflect.get(value, key) as unknown : undefined
    return found === undefined ? whole : String(found)
  })
  return named.includes("%") ? format(named, ...values) : named
}

const each = (spread: boolean) => (cases: ReadonlyArray<unknown>): Register => (name, ...rest) => {
  const run = rest.find((value) => typeof value === "function") as (...values: ReadonlyArray<unknown>) => unknown
  for (const value of cases) {
    const values = Array.isArray(value) ? value as Array<unknown> : [value]
    const body: Body = (context) => spread ? run(...values) : run(value, context)
    register(false)(title(name, value, values), body)
  }
}

export const it = Object.assign(register(false), {
  each: each(true),
  for: each(false),
  skip: register(true),
  skipIf: (condition: unknown) => register(Boolean(condition)),
  runIf: (condition: unknown) => register(!condition)
})

export const { assert } = chai

/** What `@effect/vitest` asks for when it is loaded, and only then. */
export const TestRunner = { getCurrentSuite: () => ({ tasks: [] }) }

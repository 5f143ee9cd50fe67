/**
 * A copy of the project in which one module at a time is wrong, and a process for each run of its tests: nothing that a
 * mutant breaks, keeps open or leaves on disk outlives its run.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"
import type { Event, Job } from "./runTests.ts"

export type Outcome =
  | { readonly kind: "passed" }
  /** A test failed, or its file could not be loaded. */
  | { readonly kind: "failed"; readonly test: string; readonly failure: string }
  /** A test took many times as long as without the mutant, or, idle, waits for what nothing is left to bring about. */
  | { readonly kind: "hung"; readonly test: string }

/**
 * The most milliseconds between two events: of work, which a busy machine does not change, and of waiting, for a test
 * that waits idly. While it waits for a processor it waits for neither.
 */
export interface Limit {
  readonly cpu: number
  readonly wall: number
}

export interface Sandbox {
  /** `limit` is the most milliseconds between two events. */
  readonly run: (
    job: Omit<Job, "root">,
    limit: (event: Event | undefined) => Limit,
    onEvent?: (event: Event) => void
  ) => Promise<Outcome>
  readonly write: (module: string, text: string) => void
  readonly remove: () => void
}

const script = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** Milliseconds of work of a process, where the system tells; a tick of Linux is 10 ms. */
const cpuOf = (pid: number | undefined): number => {
  try {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")
    return 10 * (Number(fields[11]) + Number(fields[12]))
  } catch {
    return 0
  }
}

/** Milliseconds that a process has waited for a processor, where the system tells. */
const queuedOf = (pid: number | undefined): number => {
  try {
    return Number(fs.readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6
  } catch {
    return 0
  }
}

export const makeSandbox = (): Sandbox => {
  // Short, since socket paths below it are.
  const home = fs.mkdtempSync("/tmp/mut-")
  fs.chmodSync(home, 0o755)
  const root = path.join(home, "w")
  const temporary = path.join(home, "t")
  fs.mkdirSync(root)
  for (const name of ["src", "test", "examples", "bench", "package.json", "tsconfig.json"]) {
    fs.cpSync(name, path.join(root, name), { recursive: true })
  }
  fs.symlinkSync(fs.realpathSync("node_modules"), path.join(root, "node_modules"))

  const run: Sandbox["run"] = async (job, limit, onEvent) => {
    fs.rmSync(temporary, { recursive: true, force: true })
    fs.mkdirSync(temporary)
    const child = spawn(process.execPath, [
      "--conditions=effect-messaging-source",
      "--import",
      script("./hooks.ts"),
      script("./runTests.ts"),
      JSON.stringify({ ...job, root } satisfies Job)
    ], {
      cwd: root,
      // A group of its own, so that what the tests have started ends with it.
      detached: true,
      stdio: ["ignore", "ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: temporary, HOME: temporary, NODE_COMPILE_CACHE: path.join(home, "cache") }
    })
    let test = "(loading)"
    let outcome: Outcome | undefined
    let said = ""
    child.stderr?.on("data", (data: Buffer) => {
      said = (said + data.toString()).slice(-2000)
    })
    const kill = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
      } catch {
        // It has ended.
      }
    }
    const hung = () => {
      outcome = { kind: "hung", test }
      kill()
    }
    let allowed = limit(undefined)
    let since = performance.now()
    let used = 0
    let queued = 0
    const timer = setInterval(() => {
      const cpu = cpuOf(child.pid) - used
      const idle = performance.now() - since - (queuedOf(child.pid) - queued)
      if (cpu > allowed.cpu || idle > allowed.wall) hung()
    }, 100)
    for await (const line of createInterface({ input: child.stdio[3] as Readable })) {
      const event = JSON.parse(line) as Event
      onEvent?.(event)
      allowed = limit(event)
      since = performance.now()
      used = cpuOf(child.pid)
      queued = queuedOf(child.pid)
      if (event.event === "done") {
        outcome = { kind: "passed" }
        break
      }
      if (event.event === "started") test = event.name
      if (event.event === "ended" && event.failure !== undefined && job.cover.length === 0) {
        outcome = { kind: "failed", test, failure: event.failure }
        break
      }
    }
    clearInterval(timer)
    // Nothing said that it is over: the module could not be loaded, or the process had nothing left to wait for.
    const isExpected = outcome !== undefined
    if (!isExpected && child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve))
    kill()
    return outcome ?? (child.exitCode === 13
      ? { kind: "hung", test }
      : { kind: "failed", test, failure: said.trim().split("\n").at(-1) ?? "the process ended" })
  }

  return {
    run,
    write: (module, text) => fs.writeFileSync(path.join(root, module), text),
    remove: () => fs.rmSync(home, { recursive: true, force: true })
  }
}

/**
 * How an application can come to an end while it is an endpoint, and what is then left on disk. What signals do to the
 * command line is in test/cli/cli.test.ts.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileName } from "../../src/Capability.ts"
import { fixture } from "../utils/programs.ts"
import { contents, tempDirectory } from "../utils/tempHost.ts"
import { sweptBelow, worker } from "../utils/worker.ts"

const application = await fixture("application")

const environment = (home: string) => ({
  PATH: "/usr/local/bin:/usr/bin:/bin",
  HOME: home,
  TMPDIR: home,
  CLAUDE_CONFIG_DIR: home,
  NO_COLOR: "1"
})

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** The application, once it has said at which path it listens. Killed with the scope. */
const start = Effect.fnUntraced(function*(home: string, ...args: ReadonlyArray<string>) {
  const child = yield* Effect.acquireRelease(
    // What it says of its own end is not of interest here.
    Effect.sync(() =>
      spawn(process.execPath, [application, ...args], { env: environment(home), stdio: ["pipe", "pipe", "ignore"] })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  child.stdin.on("error", () => {})
  const { done, value } = yield* Effect.promise(() =>
    createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()
  )
  if (done === true) return yield* Effect.die("ended before it listened")
  const socketPath: string = value
  assert.isTrue(fs.lstatSync(socketPath).isSocket())
  const file = path.join(home, "messaging-capabilities", fileName(socketPath))
  assert.isTrue(fs.existsSync(file))
  return {
    child,
    socketPath,
    file,
    go: Effect.sync(() => void child.stdin.write("go\n")),
    ended: Effect.callback<Ended>((resume) => {
      if (child.exitCode !== null || child.signalCode !== null) {
        resume(Effect.succeed({ code: child.exitCode, signal: child.signalCode }))
      } else child.once("exit", (code, signal) => resume(Effect.succeed({ code, signal })))
    })
  }
})

/** Everything but the directories that stay for the next endpoint. */
const leftovers = (home: string) =>
  contents(home).filter((name) => !/^(messaging-capabilities|claude-code-socks-\d+)$/.test(name))

const everything = { socket: true, capability: true }
const nothing = { socket: false, capability: false }

/** What of the endpoint is still there. */
const left = ({ file, socketPath }: { readonly file: string; readonly socketPath: string }) => ({
  socket: fs.existsSync(socketPath),
  capability: fs.existsSync(file)
})

describe("an application on NodeRuntime.runMain", () => {
  it.live.each([
    { how: "returns", code: 0 },
    { how: "fails", code: 1 },
    { how: "dies", code: 1 },
    { how: "calls process.exit", code: 3 },
    { how: "throws in an event handler", code: 1 },
    { how: "rejects a promise", code: 1 }
  ])("that $how ends with $code and leaves nothing", ({ code, how }) =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { ended, go } = yield* start(home, how)
      yield* go
      assert.deepStrictEqual(yield* ended, { code, signal: null })
      assert.deepStrictEqual(leftovers(home), [])
    }))

  it.live.each(["SIGINT", "SIGTERM"] as const)(
    "that gets %s ends with 130 and leaves nothing",
    (signal) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        const { child, ended } = yield* start(home)
        child.kill(signal)
        assert.deepStrictEqual(yield* ended, { code: 130, signal: null })
        assert.deepStrictEqual(leftovers(home), [])
      })
  )
})

describe("an application on Effect.runPromise", () => {
  it.live.each([
    { how: "returns", code: 0 },
    { how: "fails", code: 1 },
    { how: "calls process.exit", code: 3 },
    { how: "throws in an event handler", code: 1 }
  ])("that $how ends with $code and leaves nothing", ({ code, how }) =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { ended, go } = yield* start(home, how, "runPromise")
      yield* go
      assert.deepStrictEqual(yield* ended, { code, signal: null })
      assert.deepStrictEqual(leftovers(home), [])
    }))
})

describe("an application that a signal ends without asking", () => {
  it.live.each(
    [
      { run: "runMain", signal: "SIGHUP" },
      { run: "runMain", signal: "SIGKILL" },
      { run: "runPromise", signal: "SIGINT" },
      { run: "runPromise", signal: "SIGTERM" }
    ] as const
  )(
    "$signal on $run leaves socket and capability, which the next sweep removes",
    ({ run, signal }) =>
      Effect.gen(function*() {
        const home = yield* tempDirectory
        const endpoint = yield* start(home, "", run)
        endpoint.child.kill(signal)
        assert.deepStrictEqual(yield* endpoint.ended, { code: null, signal })
        assert.deepStrictEqual(left(endpoint), everything)
        const heir = yield* worker({ env: environment(home) })
        assert.deepStrictEqual(yield* sweptBelow(home, heir), [endpoint.socketPath])
        assert.deepStrictEqual(leftovers(home), [])
      })
  )
})

describe("process.exit", () => {
  /** An application whose socket or capability was replaced while it served, and which then ends. */
  const replaced = Effect.fnUntraced(function*(replace: (_: { file: string; socketPath: string }) => void) {
    const home = yield* tempDirectory
    const endpoint = yield* start(home, "calls process.exit")
    replace(endpoint)
    yield* endpoint.go
    assert.deepStrictEqual(yield* endpoint.ended, { code: 3, signal: null })
    return endpoint
  })

  it.live("keeps what has taken the place of the socket", () =>
    Effect.gen(function*() {
      const endpoint = yield* replaced(({ socketPath }) => {
        fs.renameSync(socketPath, `${socketPath}-`)
        fs.writeFileSync(socketPath, "mine")
      })
      assert.strictEqual(fs.readFileSync(endpoint.socketPath, "utf8"), "mine")
      assert.isTrue(fs.existsSync(`${endpoint.socketPath}-`))
      assert.isFalse(fs.existsSync(endpoint.file))
    }))

  it.live("keeps a capability file with another token", () =>
    Effect.gen(function*() {
      const endpoint = yield* replaced(({ file }) => {
        const text = fs.readFileSync(file, "utf8")
        fs.writeFileSync(file, text.replace(/"authToken":"[0-9a-f]{64}"/, `"authToken":"${"0".repeat(64)}"`))
      })
      assert.deepStrictEqual(left(endpoint), { ...nothing, capability: true })
    }))

  it.live("keeps a link in place of the capability file, and what it leads to", () =>
    Effect.gen(function*() {
      const endpoint = yield* replaced(({ file }) => {
        fs.renameSync(file, `${file}-`)
        fs.symlinkSync(`${file}-`, file)
      })
      assert.isTrue(fs.lstatSync(endpoint.file).isSymbolicLink())
      assert.isTrue(fs.existsSync(`${endpoint.file}-`))
    }))

  it.live("does not wait for the writer of a FIFO in place of the capability file", () =>
    Effect.gen(function*() {
      const endpoint = yield* replaced(({ file }) => {
        // In one step, or the endpoint publishes its own again.
        execFileSync("mkfifo", ["-m", "600", `${file}-`])
        fs.renameSync(`${file}-`, file)
      })
      assert.isTrue(fs.lstatSync(endpoint.file).isFIFO())
      assert.isFalse(fs.existsSync(endpoint.socketPath))
    }))
})

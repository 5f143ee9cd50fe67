/**
 * Real users for tests: processes under other uids, and a place on disk that they share as users share a machine. Only
 * root can set this up; elsewhere each test is skipped and its name says why.
 */
import { it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { commandLine } from "./programs.ts"
import { type Failed, type Worker, worker, workerFixture } from "./worker.ts"

export type { Failed } from "./worker.ts"

export interface User extends Worker {
  readonly uid: number
  readonly home: string
  readonly capabilities: string
  readonly fs: (name: keyof typeof fs, ...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, Failed>
  /** What its servers were sent, a text for each connection. */
  readonly heard: Effect.Effect<ReadonlyArray<string>>
}

/** Two users who have nothing to do with each other, nor with root. */
export const uids = { victim: 1001, stranger: 1002 } as const

const as = (uid: number, gid = uid) => [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups"]

/** Why tests with other users cannot run here; nothing when they can. */
const obstacle = (() => {
  if (process.getuid?.() !== 0) return "only root can switch uids"
  const trial = spawnSync("setpriv", [
    ...as(uids.stranger),
    process.execPath,
    "--eval",
    "fs.accessSync(process.argv[1])",
    workerFixture
  ], {
    cwd: os.tmpdir(),
    encoding: "utf8"
  })
  if (trial.error !== undefined) return `no setpriv: ${trial.error.message}`
  return trial.status === 0
    ? undefined
    : `uid ${uids.stranger} cannot run this checkout: ${trial.stderr.trim().split("\n")[0]}`
})()

// The default reporter does not name tests that are skipped.
if (obstacle !== undefined) process.stderr.write(`tests with other users are skipped: ${obstacle}\n`)

/** A test with several users, or its name with the reason why it is skipped. */
export const itWithUsers: {
  (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>): void
} = (name, test) => obstacle === undefined ? it.live(name, test) : it.live.skip(`${name} (skipped: ${obstacle})`, test)

/** As `itWithUsers`, for each case; `$key` in the name is that of the case. */
export const itWithUsersEach =
  <Case extends Readonly<Record<string, unknown>>>(cases: ReadonlyArray<Case>) =>
  (name: string, test: (_: Case) => Effect.Effect<unknown, unknown, Scope.Scope>) => {
    for (const each of cases) {
      itWithUsers(name.replaceAll(/\$(\w+)/g, (_, key) => String(each[key])), () => test(each))
    }
  }

export interface Arena {
  readonly root: string
  /** Root's, sticky and open to all, as /tmp is. */
  readonly tmp: string
  /** A new directory of `owner`'s in `tmp`, or anywhere else. */
  readonly directory: (name: string, mode: number, owner?: number) => string
}

/** A part of the machine for one test, removed with the scope. */
export const arena: Effect.Effect<Arena, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    const root = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "em-")))
    const tmp = path.join(root, "tmp")
    const directory: Arena["directory"] = (name, mode, owner = 0) => {
      const made = path.resolve(tmp, name)
      fs.mkdirSync(made)
      fs.chownSync(made, owner, owner)
      fs.chmodSync(made, mode)
      return made
    }
    fs.chmodSync(root, 0o755)
    directory(tmp, 0o1777)
    return { root, tmp, directory }
  }),
  ({ root }) => Effect.sync(() => fs.rmSync(root, { recursive: true, force: true }))
)

export interface UserOptions {
  readonly gid?: number | undefined
  readonly environment?: Readonly<Record<string, string>> | undefined
}

/** The environment of a user whose directories are all in the arena. */
export const environmentOf = ({ root, tmp }: Arena, uid: number, environment: UserOptions["environment"] = {}) => ({
  PATH: "/usr/local/bin:/usr/bin:/bin",
  HOME: path.join(root, `home-${uid}`),
  TMPDIR: tmp,
  NO_COLOR: "1",
  // What Node keeps of the command line is no trace of an attack.
  NODE_DISABLE_COMPILE_CACHE: "1",
  ...environment
})

/** The arguments of `spawn` that run Node as `uid`. */
export const nodeAs = (uid: number, args: ReadonlyArray<string>, gid = uid) =>
  ["setpriv", [...as(uid, gid), process.execPath, ...args]] as const

/** A process of `uid`, killed with the scope. */
export const user = Effect.fnUntraced(function*(arena: Arena, uid: number, { environment, gid }: UserOptions = {}) {
  const home = path.join(arena.root, `home-${uid}`)
  if (!fs.existsSync(home)) arena.directory(home, 0o700, uid)
  const [command, args] = nodeAs(uid, [], gid)
  const process = yield* worker({ command, args, cwd: arena.root, env: environmentOf(arena, uid, environment) })
  const { tell } = process
  return {
    ...process,
    uid,
    home,
    capabilities: path.join(home, ".claude", "messaging-capabilities"),
    fs: (name, ...args) => tell({ do: "fs", name, args }),
    heard: Effect.map(Effect.orDie(tell({ do: "heard" })), (texts) => texts as ReadonlyArray<string>)
  } satisfies User
})

const bin = await commandLine()

/** A command line of `uid`'s, from start to end. */
export const runCli = (
  arena: Arena,
  uid: number,
  args: ReadonlyArray<string>,
  environment?: UserOptions["environment"]
) =>
  Effect.callback<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>((resume) => {
    const [command, all] = nodeAs(uid, [bin, ...args])
    const child = spawn(command, all, { cwd: arena.root, env: environmentOf(arena, uid, environment) })
    const said = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => said[name] += text)
    }
    child.once("close", (code) => resume(Effect.succeed({ code, ...said })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Every token that is published anywhere in the arena. */
export const tokensOf = ({ root }: Arena): ReadonlyArray<string> =>
  (fs.readdirSync(root, { recursive: true }) as Array<string>)
    .map((name) => path.join(root, name))
    .filter((file) => file.endsWith(".json") && fs.lstatSync(file).isFile())
    .flatMap((file) => /"authToken":"([0-9a-f]{64})"/.exec(fs.readFileSync(file, "utf8"))?.[1] ?? [])

/** All that a change by anybody would change; the times of directories only tell of names that come and go. */
export const snapshot = ({ root }: Arena) =>
  (fs.readdirSync(root, { recursive: true }) as Array<string>).sort().map((name) => {
    const entry = path.join(root, name)
    const stat = fs.lstatSync(entry)
    const { ctimeMs, gid, ino, mode, mtimeMs, nlink, size, uid } = stat
    return stat.isDirectory() ? { name, gid, ino, mode, uid } : {
      name,
      stat: { ctimeMs, gid, ino, mode, mtimeMs, nlink, size, uid },
      content: stat.isFile() ? fs.readFileSync(entry, "latin1") : stat.isSymbolicLink() ? fs.readlinkSync(entry) : ""
    }
  })

const codeOf = (value: unknown) => (value as { readonly code?: unknown }).code

/** What came of each attempt: the errno, or that it succeeded. */
export const outcomes = (attempts: ReadonlyArray<Effect.Effect<unknown, Failed>>) =>
  Effect.forEach(attempts, (attempt) => Effect.match(attempt, { onFailure: codeOf, onSuccess: () => "succeeded" }))

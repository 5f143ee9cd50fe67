import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { directory } from "../../src/cli/compileCache.ts"
import { run } from "../utils/cli.ts"
import { contents, tempDirectory } from "../utils/tempHost.ts"

const uid = process.getuid?.() ?? 0
const own = (home: string) => path.join(home, ".cache", "effect-messaging")
const inHome = (home: string) => directory({ uid, environment: { HOME: home } })
const mode = (name: string) => fs.statSync(name).mode & 0o777

/** What is answered where a cache stands already, and `change` has been made to it. */
const changed = Effect.fnUntraced(function*(change: (home: string) => void) {
  const home = fs.realpathSync(yield* tempDirectory)
  fs.mkdirSync(own(home), { recursive: true, mode: 0o700 })
  change(home)
  return inHome(home)
})

describe.skipIf(process.platform === "win32")("compileCache (without owners on Windows)", () => {
  it.live("is below the home, made for the user alone", () =>
    Effect.gen(function*() {
      const home = fs.realpathSync(yield* tempDirectory)
      assert.strictEqual(inHome(home), own(home))
      assert.deepStrictEqual([mode(own(home)), mode(path.dirname(own(home)))], [0o700, 0o700])
      assert.strictEqual(inHome(home), own(home))
    }))

  it.live("is where XDG_CACHE_HOME says, and where the link of a home leads", () =>
    Effect.gen(function*() {
      const home = fs.realpathSync(yield* tempDirectory)
      const cache = path.join(home, "elsewhere")
      assert.strictEqual(
        directory({ uid, environment: { HOME: home, XDG_CACHE_HOME: cache } }),
        path.join(cache, "effect-messaging")
      )
      fs.mkdirSync(path.join(home, "real"))
      fs.symlinkSync("real", path.join(home, "link"))
      assert.strictEqual(inHome(path.join(home, "link")), own(path.join(home, "real")))
    }))

  it.live.each(
    [
      ["is open to others", (home: string) => fs.chmodSync(own(home), 0o750)],
      ["is below one that others can write to", (home: string) => fs.chmodSync(path.join(home, ".cache"), 0o777)],
      ["is below a home that others can write to", (home: string) => fs.chmodSync(home, 0o770)],
      ["is a link", (home: string) => {
        fs.renameSync(own(home), path.join(home, "moved"))
        fs.symlinkSync(path.join(home, "moved"), own(home))
      }],
      ["is no directory", (home: string) => {
        fs.rmdirSync(own(home))
        fs.writeFileSync(own(home), "")
      }]
    ] as const
  )("is not used where it %s", ([, change]) =>
    Effect.gen(function*() {
      assert.isUndefined(yield* changed(change))
    }))

  it.live("is nobody else's: not for another user than the one the home belongs to", () =>
    Effect.gen(function*() {
      const home = fs.realpathSync(yield* tempDirectory)
      fs.mkdirSync(own(home), { recursive: true, mode: 0o700 })
      assert.isUndefined(directory({ uid: uid + 1, environment: { HOME: home } }))
    }))

  it("needs a home, and a system that knows owners", () => {
    assert.isUndefined(directory({ uid, environment: {} }))
    assert.isUndefined(directory({ uid, environment: { HOME: "relative" } }))
    assert.isUndefined(directory({ uid: undefined, environment: { HOME: "/" } }))
  })

  it.live("fills with the first command, unless Node is told to keep nothing", () =>
    Effect.gen(function*() {
      const home = fs.realpathSync(yield* tempDirectory)
      const kept = Effect.fnUntraced(function*(set: string) {
        const script = `${set}; "$0" "$@"`
        const ended = yield* run(home, ["--version"], { environment: { HOME: home, XDG_CACHE_HOME: "" }, script })
        assert.deepStrictEqual([ended.code, ended.stderr], [0, ""])
        return fs.existsSync(own(home)) ? contents(own(home)) : []
      })
      assert.deepStrictEqual(yield* kept("export NODE_DISABLE_COMPILE_CACHE=1"), [])
      const first = yield* kept("unset NODE_DISABLE_COMPILE_CACHE")
      assert.isAbove(first.length, 1)
      assert.deepStrictEqual(yield* kept("unset NODE_DISABLE_COMPILE_CACHE"), first)
    }))
})

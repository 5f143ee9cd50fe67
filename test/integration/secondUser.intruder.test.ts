/** A live endpoint of one user, and what another user of the machine can do to it: nothing. */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileName } from "../../src/Capability.ts"
import {
  type Arena,
  arena,
  type Failed,
  itWithUsers,
  itWithUsersEach,
  outcomes,
  runCli,
  snapshot,
  tokensOf,
  uids,
  type User,
  user,
  type UserOptions
} from "../utils/otherUser.ts"
import { sweptBelow } from "../utils/worker.ts"

interface Setup {
  readonly place: Arena
  readonly victim: User
  readonly stranger: User
  readonly socketPath: string
  /** The socket's own, in the user's base. */
  readonly directory: string
  readonly base: string
  /** The capability file. */
  readonly file: string
}

const setup = Effect.fnUntraced(function*(options: { readonly stranger?: UserOptions; readonly victim?: number } = {}) {
  const place = yield* arena
  const victim = yield* user(place, options.victim ?? uids.victim)
  const stranger = yield* user(place, uids.stranger, options.stranger)
  yield* victim.tell({ do: "umask", mask: 0 })
  const socketPath = String(yield* victim.tell({ do: "start" }))
  const directory = path.dirname(socketPath)
  const file = path.join(victim.capabilities, fileName(socketPath))
  return { place, victim, stranger, socketPath, directory, base: path.dirname(directory), file } satisfies Setup
})

/** Each attempt ends with one of `codes`, tells no token, changes nothing, and the endpoint goes on serving. */
const assertInVain = Effect.fnUntraced(function*(
  { place, socketPath, victim }: Setup,
  codes: ReadonlyArray<string>,
  attempts: ReadonlyArray<Effect.Effect<unknown, Failed>>
) {
  const before = snapshot(place)
  const seen = yield* outcomes(attempts)
  assert.deepStrictEqual(seen.filter((outcome) => !codes.includes(String(outcome))), [])
  assert.strictEqual(seen.length, attempts.length)
  assert.deepStrictEqual(snapshot(place), before)
  assert.strictEqual(yield* victim.tell({ do: "send", to: socketPath, text: "still here" }), socketPath)
})

const reasonOf = (error: Failed) => error["reason"]

describe("another user", () => {
  itWithUsersEach([
    { whose: "an ordinary user's", victim: uids.victim },
    { whose: "root's", victim: 0 }
  ])("cannot connect to $whose endpoint", ({ victim }) =>
    Effect.gen(function*() {
      const given = yield* setup({ victim })
      yield* assertInVain(given, ["EACCES"], [
        given.stranger.tell({ do: "talk", path: given.socketPath, text: "{}\n" })
      ])
    }))

  itWithUsers(
    "cannot connect when the directories have been opened: the socket itself is closed",
    () =>
      Effect.gen(function*() {
        const given = yield* setup()
        fs.chmodSync(given.base, 0o755)
        fs.chmodSync(given.directory, 0o755)
        yield* given.stranger.fs("lstatSync", given.socketPath)
        yield* assertInVain(given, ["EACCES"], [
          given.stranger.tell({ do: "talk", path: given.socketPath, text: "{}\n" })
        ])
      })
  )

  itWithUsers("of the same group cannot connect or read, whatever the umask was", () =>
    Effect.gen(function*() {
      const given = yield* setup({ stranger: { gid: uids.victim } })
      const { base, directory, file, place, socketPath, stranger, victim } = given
      for (const at of [base, directory, victim.capabilities, file, socketPath]) {
        assert.strictEqual(fs.lstatSync(at).mode & 0o077, 0, at)
      }
      const attempts = () => [
        stranger.tell({ do: "talk", path: socketPath, text: "{}\n" }),
        stranger.fs("readFileSync", file, "utf8")
      ]
      yield* assertInVain(given, ["EACCES"], attempts())
      for (const at of [base, directory, victim.home, path.dirname(victim.capabilities), victim.capabilities]) {
        fs.chmodSync(at, 0o750)
      }
      assert.deepStrictEqual(yield* outcomes([stranger.fs("readdirSync", victim.capabilities)]), ["succeeded"])
      const before = snapshot(place)
      assert.deepStrictEqual(yield* outcomes(attempts()), ["EACCES", "EACCES"])
      assert.deepStrictEqual(snapshot(place), before)
    }))

  itWithUsers("cannot list or read anything of the endpoint's", () =>
    Effect.gen(function*() {
      const given = yield* setup()
      const { base, directory, file, socketPath, stranger, victim } = given
      yield* assertInVain(given, ["EACCES"], [
        stranger.fs("readdirSync", base),
        stranger.fs("readdirSync", directory),
        stranger.fs("lstatSync", socketPath),
        stranger.fs("readdirSync", victim.capabilities),
        stranger.fs("lstatSync", file),
        stranger.fs("readFileSync", file, "utf8"),
        stranger.fs("openSync", file, "r+"),
        stranger.fs("readFileSync", `/proc/${victim.pid}/environ`, "latin1"),
        stranger.fs("readdirSync", `/proc/${victim.pid}/fd`)
      ])
    }))

  itWithUsers("cannot remove, rename, replace or change anything of the endpoint's", () =>
    Effect.gen(function*() {
      const given = yield* setup()
      const { base, directory, file, socketPath, stranger, victim } = given
      yield* stranger.fs("writeFileSync", path.join(stranger.home, "mine"), "mine")
      const entries = [base, directory, socketPath, victim.capabilities, file]
      yield* assertInVain(given, ["EACCES", "EPERM"], [
        ...entries.flatMap((at) => [
          stranger.fs("unlinkSync", at),
          stranger.fs("rmdirSync", at),
          stranger.fs("chmodSync", at, 0o777),
          stranger.fs("chownSync", at, uids.stranger, uids.stranger),
          stranger.fs("renameSync", at, path.join(stranger.home, "taken")),
          stranger.fs("renameSync", path.join(stranger.home, "mine"), at),
          stranger.fs("linkSync", path.join(stranger.home, "mine"), path.join(at, "planted"))
        ]),
        stranger.fs("appendFileSync", file, "x"),
        stranger.fs("truncateSync", file),
        stranger.fs("linkSync", file, path.join(stranger.home, "kept")),
        stranger.tell({ do: "listen", path: path.join(directory, "rogue.sock"), answer: "" }),
        stranger.tell({ do: "listen", path: path.join(base, "rogue.sock"), answer: "" })
      ])
    }))

  itWithUsers("neither lists the endpoint nor finds a way to send to it", () =>
    Effect.gen(function*() {
      const given = yield* setup()
      const { place, socketPath, stranger } = given
      const before = snapshot(place)
      assert.deepStrictEqual(yield* stranger.tell({ do: "list" }), [])
      assert.deepStrictEqual(
        reasonOf(yield* Effect.flip(stranger.tell({ do: "send", to: socketPath, text: "hello" }))),
        { _tag: "PeerNotFound", socketPath }
      )
      assert.deepStrictEqual(yield* sweptBelow(place.root, stranger), [])
      assert.deepStrictEqual(snapshot(place), before)
    }))

  itWithUsersEach([{ command: "send" }, { command: "ping" }])(
    "is told by the command line that there is no such peer: $command",
    ({ command }) =>
      Effect.gen(function*() {
        const { place, socketPath } = yield* setup()
        const before = snapshot(place)
        const text = command === "send" ? ["hello"] : []
        const { code, stderr, stdout } = yield* runCli(place, uids.stranger, [command, "--to", socketPath, ...text])
        assert.deepStrictEqual([code, stdout], [1, ""])
        assert.strictEqual(
          stderr,
          `effect-messaging: no peer at ${socketPath}: it has ended, or belongs to another user or namespace ` +
            "(effect-messaging peers shows who listens, doctor what keeps others out)\n"
        )
        const peers = yield* runCli(place, uids.stranger, ["peers", "--json"])
        assert.deepStrictEqual(peers, { code: 0, stdout: "", stderr: "" })
        assert.deepStrictEqual(snapshot(place), before)
      })
  )

  itWithUsers("gains nothing by a capability file of its own that names the endpoint", () =>
    Effect.gen(function*() {
      const given = yield* setup()
      const { place, socketPath, stranger, victim } = given
      yield* stranger.fs("mkdirSync", stranger.capabilities, { recursive: true, mode: 0o700 })
      const record = { socketPath, authToken: "0".repeat(64), protocol: 2 }
      const file = path.join(stranger.capabilities, fileName(socketPath))
      yield* stranger.fs("writeFileSync", file, JSON.stringify(record), { mode: 0o600 })
      const before = snapshot(place)
      assert.deepStrictEqual(yield* stranger.tell({ do: "list" }), [])
      assert.deepStrictEqual(
        reasonOf(yield* Effect.flip(stranger.tell({ do: "send", to: socketPath, text: "hello" }))),
        { _tag: "AccessDenied", path: socketPath, code: "EACCES" }
      )
      // What neither answers nor refuses is not dead.
      assert.deepStrictEqual(yield* sweptBelow(place.root, stranger), [])
      assert.deepStrictEqual(snapshot(place), before)
      assert.deepStrictEqual(yield* victim.tell({ do: "list" }), [socketPath])
    }))

  itWithUsers("does not sweep what a killed endpoint has left; its own user does", () =>
    Effect.gen(function*() {
      const { base, place, socketPath, stranger, victim } = yield* setup()
      yield* victim.kill
      const before = snapshot(place)
      assert.deepStrictEqual(yield* sweptBelow(place.root, stranger), [])
      assert.deepStrictEqual(snapshot(place), before)
      const heir = yield* user(place, uids.victim)
      assert.deepStrictEqual(yield* sweptBelow(place.root, heir), [socketPath])
      assert.deepStrictEqual(fs.readdirSync(base), [])
      assert.deepStrictEqual(fs.readdirSync(victim.capabilities), [])
    }))

  itWithUsers("lives in the same temporary directory without noticing", () =>
    Effect.gen(function*() {
      const { place, socketPath, stranger, victim } = yield* setup()
      const other = String(yield* stranger.tell({ do: "start" }))
      const both = [[victim, socketPath, other], [stranger, other, socketPath]] as const
      for (const [who, own, foreign] of both) {
        assert.deepStrictEqual(yield* who.tell({ do: "list" }), [own])
        assert.strictEqual(yield* who.tell({ do: "send", to: own, text: "to myself" }), own)
        assert.deepStrictEqual(
          reasonOf(yield* Effect.flip(who.tell({ do: "send", to: foreign, text: "to the other" }))),
          { _tag: "PeerNotFound", socketPath: foreign }
        )
        assert.deepStrictEqual(yield* sweptBelow(place.root, who), [])
      }
      assert.strictEqual(new Set(tokensOf(place)).size, 2)
      yield* victim.tell({ do: "stop" })
      assert.strictEqual(yield* stranger.tell({ do: "send", to: other, text: "still here" }), other)
      yield* stranger.tell({ do: "stop" })
      assert.deepStrictEqual(tokensOf(place), [])
      assert.deepStrictEqual((fs.readdirSync(place.tmp, { recursive: true }) as Array<string>).sort(), [
        `claude-code-socks-${uids.victim}`,
        `claude-code-socks-${uids.stranger}`
      ])
    }))
})

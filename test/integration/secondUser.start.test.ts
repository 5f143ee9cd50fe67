/** What another user has put in the way of an endpoint before it starts: it is told, and left as it was. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe } from "@effect/vitest"
import { Effect, FileSystem, Option } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import { Host } from "../../src/Host.ts"
import { lockName } from "../../src/internal/pathLock.ts"
import * as NodeTransport from "../../src/NodeTransport.ts"
import {
  type Arena,
  arena,
  type Failed,
  itWithUsers,
  itWithUsersEach,
  outcomes,
  runCli,
  snapshot,
  uids,
  type User,
  user,
  type UserOptions
} from "../utils/otherUser.ts"

const setup = Effect.fnUntraced(function*() {
  const place = yield* arena
  return { place, stranger: yield* user(place, uids.stranger) }
})

/** The start fails with this reason, and nothing of anybody's is other than before. */
const assertRefused = Effect.fnUntraced(function*(
  place: Arena,
  expected: Failed,
  start: { readonly socketPath?: string; readonly environment?: UserOptions["environment"] } = {}
) {
  const victim = yield* user(place, uids.victim, { environment: start.environment })
  const before = snapshot(place)
  const error = yield* Effect.flip(victim.tell({ do: "start", socketPath: start.socketPath }))
  const { remedy: _, ...reason } = error["reason"] as Failed
  assert.deepStrictEqual({ ...reason, error: error["_tag"] }, expected)
  assert.deepStrictEqual(snapshot(place), before)
  return victim
})

const notPrivate = (path: string, problem: string, error = "ListenError"): Failed => ({
  error,
  _tag: "DirectoryNotPrivate",
  path,
  problem
})

/** Bound under a short name first: that of a capability file is too long for a socket, but a socket can be given it. */
const bound = (
  stranger: User,
  at: string,
  { tmp }: Arena,
  bind: (path: string) => Effect.Effect<unknown, Failed>
) => {
  const short = path.join(tmp, "rogue")
  return Effect.andThen(bind(short), stranger.fs("renameSync", short, at))
}

/** What the stranger may leave at a name, and what it is then called. */
const plants: ReadonlyArray<{
  readonly what: string
  readonly occupant: string
  readonly plant: (_: User, at: string, place: Arena) => Effect.Effect<unknown, Failed>
}> = [
  { what: "a file", occupant: "a File", plant: (_, at) => _.fs("writeFileSync", at, "mine", { mode: 0o666 }) },
  {
    what: "a link to a file of its own",
    occupant: "a link",
    plant: (_, at) =>
      Effect.andThen(
        _.fs("writeFileSync", path.join(_.home, "target"), "mine"),
        _.fs("symlinkSync", path.join(_.home, "target"), at)
      )
  },
  {
    what: "a link to a file of the victim's",
    occupant: "a link",
    plant: (_, at, place) => {
      const target = path.join(place.directory("victims", 0o700, uids.victim), "file")
      fs.writeFileSync(target, "the victim's")
      fs.chownSync(target, uids.victim, uids.victim)
      return _.fs("symlinkSync", target, at)
    }
  },
  { what: "a link to nothing", occupant: "a link", plant: (_, at) => _.fs("symlinkSync", `${at}-nothing`, at) },
  {
    what: "a hard link to a file of its own",
    occupant: "a File",
    plant: (_, at, place) => {
      // Links do not cross file systems, and a home is on the same one here.
      const target = path.join(place.root, `home-${uids.stranger}`, "target")
      return Effect.andThen(_.fs("writeFileSync", target, "mine", { mode: 0o666 }), _.fs("linkSync", target, at))
    }
  },
  { what: "a FIFO", occupant: "a FIFO", plant: (_, at) => _.tell({ do: "fifo", path: at }) },
  { what: "a directory", occupant: "a Directory", plant: (_, at) => _.fs("mkdirSync", at, { mode: 0o777 }) },
  {
    what: "a dead socket",
    occupant: "another user's socket",
    plant: (_, at, place) => bound(_, at, place, (path) => _.tell({ do: "deadSocket", path }))
  },
  {
    what: "a live server",
    occupant: "another user's socket",
    plant: (_, at, place) => bound(_, at, place, (path) => _.tell({ do: "listen", path, answer: "" }))
  }
]

describe("at the socket path, another user's", () => {
  for (const { occupant, plant, what } of plants) {
    itWithUsers(`${what} is kept, and nothing is sent there`, () =>
      Effect.gen(function*() {
        const { place, stranger } = yield* setup()
        // Open for a moment, by mistake; private again when the endpoint starts.
        const directory = place.directory("own", 0o777, uids.victim)
        const socketPath = path.join(directory, "messaging.sock")
        yield* plant(stranger, socketPath, place)
        fs.chmodSync(directory, 0o700)
        yield* assertRefused(place, { error: "ListenError", _tag: "PathOccupied", path: socketPath, occupant }, {
          socketPath
        })
        assert.deepStrictEqual(yield* stranger.heard, [])
      }))
  }

  itWithUsers("file is told by the command line in one line, with exit code 1", () =>
    Effect.gen(function*() {
      const { place, stranger } = yield* setup()
      const directory = place.directory("own", 0o777, uids.victim)
      const socketPath = path.join(directory, "messaging.sock")
      yield* stranger.fs("writeFileSync", socketPath, "mine")
      fs.chmodSync(directory, 0o700)
      const before = snapshot(place)
      const ended = yield* runCli(place, uids.victim, ["listen", "--socket-path", socketPath])
      assert.deepStrictEqual(ended, {
        code: 1,
        stdout: "",
        stderr:
          `effect-messaging: ${socketPath} is taken by a File: choose another socket path, or remove it yourself\n`
      })
      assert.deepStrictEqual(snapshot(place), before)
    }))
})

describe("a directory above the socket is refused and gets nothing, when it is", () => {
  itWithUsersEach([
    { what: "another user's", mode: 0o755, owner: uids.stranger, problem: "foreign owner" },
    { what: "another user's, open to all", mode: 0o777, owner: uids.stranger, problem: "foreign owner" },
    { what: "another user's, sticky and open to all", mode: 0o1777, owner: uids.stranger, problem: "foreign owner" },
    { what: "root's, open to all", mode: 0o777, owner: 0, problem: "writable by others" },
    { what: "one's own, open to all", mode: 0o777, owner: uids.victim, problem: "writable by others" }
  ])("$what", ({ mode, owner, problem }) =>
    Effect.gen(function*() {
      const place = yield* arena
      const parent = place.directory("shared", mode, owner)
      yield* assertRefused(place, notPrivate(parent, problem), { socketPath: path.join(parent, "own", "s") })
    }))

  itWithUsers("root's, writable by the other user's group", () =>
    Effect.gen(function*() {
      const place = yield* arena
      const parent = place.directory("shared", 0o775)
      fs.chownSync(parent, 0, uids.stranger)
      yield* assertRefused(place, notPrivate(parent, "writable by others"), {
        socketPath: path.join(parent, "own", "s")
      })
    }))

  itWithUsers("a link that another user has made, even to one's own", () =>
    Effect.gen(function*() {
      const { place, stranger } = yield* setup()
      const parent = path.join(place.tmp, "shared")
      yield* stranger.fs("symlinkSync", place.directory("private", 0o700, uids.victim), parent)
      yield* assertRefused(place, notPrivate(parent, "a link"), { socketPath: path.join(parent, "own", "s") })
    }))

  itWithUsers("the socket's own directory, and another user has made it first", () =>
    Effect.gen(function*() {
      const { place, stranger } = yield* setup()
      const directory = path.join(place.tmp, "own")
      yield* stranger.fs("mkdirSync", directory, { mode: 0o700 })
      yield* assertRefused(place, notPrivate(directory, "foreign owner"), { socketPath: path.join(directory, "s") })
    }))
})

describe("the user's base of endpoints is refused, when another user has made it first as", () => {
  const base = ({ tmp }: Arena) => path.join(tmp, `claude-code-socks-${uids.victim}`)

  itWithUsersEach<{
    readonly what: string
    readonly problem: string
    readonly plant: (_: User, place: Arena) => Effect.Effect<unknown, Failed>
  }>([
    {
      what: "a private directory",
      problem: "foreign owner",
      plant: (_, place) => _.fs("mkdirSync", base(place), { mode: 0o700 })
    },
    {
      what: "a directory open to all",
      problem: "foreign owner",
      plant: (_, place) => Effect.andThen(_.fs("mkdirSync", base(place)), _.fs("chmodSync", base(place), 0o777))
    },
    { what: "a file", problem: "not a directory", plant: (_, place) => _.fs("writeFileSync", base(place), "mine") },
    {
      what: "a link to a private directory of the victim's",
      problem: "a link",
      plant: (_, place) => _.fs("symlinkSync", place.directory("private", 0o700, uids.victim), base(place))
    },
    {
      what: "a link to a directory of its own",
      problem: "a link",
      plant: (_, place) => _.fs("symlinkSync", _.home, base(place))
    }
  ])("$what", ({ plant, problem }) =>
    Effect.gen(function*() {
      const { place, stranger } = yield* setup()
      yield* plant(stranger, place)
      const victim = yield* assertRefused(place, notPrivate(base(place), problem))
      // The failed start can be tried again.
      yield* stranger.fs("rmSync", base(place), { recursive: true })
      assert.include(yield* victim.tell({ do: "start" }), `${base(place)}/`)
    }))

  itWithUsers(
    "anything, unless there is a runtime directory, which nobody else can get at",
    () =>
      Effect.gen(function*() {
        const { place, stranger } = yield* setup()
        yield* stranger.fs("mkdirSync", base(place), { mode: 0o777 })
        const runtime = place.directory("runtime", 0o700, uids.victim)
        const victim = yield* user(place, uids.victim, { environment: { XDG_RUNTIME_DIR: runtime } })
        assert.include(yield* victim.tell({ do: "start" }), `${runtime}/claude-code-socks/`)
        assert.deepStrictEqual(fs.readdirSync(base(place)), [])
      })
  )
})

describe("a hostile environment variable:", () => {
  itWithUsersEach([
    { what: "another user's directory", mode: 0o755, owner: uids.stranger, problem: "foreign owner" },
    { what: "a directory open to all that is not sticky", mode: 0o777, owner: 0, problem: "writable by others" }
  ])("TMPDIR is $what", ({ mode, owner, problem }) =>
    Effect.gen(function*() {
      const place = yield* arena
      const directory = place.directory("hostile", mode, owner)
      yield* assertRefused(place, notPrivate(directory, problem), { environment: { TMPDIR: directory } })
    }))

  itWithUsers("TMPDIR is a link that leads to another user's directory", () =>
    Effect.gen(function*() {
      const { place, stranger } = yield* setup()
      const directory = place.directory("hostile", 0o755, uids.stranger)
      const link = path.join(place.tmp, "link")
      yield* stranger.fs("symlinkSync", directory, link)
      yield* assertRefused(place, notPrivate(directory, "foreign owner"), { environment: { TMPDIR: link } })
    }))

  itWithUsersEach([
    { what: "another user's private directory", mode: 0o700, owner: uids.stranger },
    { what: "another user's open directory", mode: 0o777, owner: uids.stranger },
    { what: "a directory of one's own that is open to others", mode: 0o755, owner: uids.victim }
  ])("XDG_RUNTIME_DIR is $what, which is passed over", ({ mode, owner }) =>
    Effect.gen(function*() {
      const place = yield* arena
      const directory = place.directory("hostile", mode, owner)
      const victim = yield* user(place, uids.victim, { environment: { XDG_RUNTIME_DIR: directory } })
      assert.include(yield* victim.tell({ do: "start" }), `${place.tmp}/claude-code-socks-${uids.victim}/`)
      assert.deepStrictEqual(fs.readdirSync(directory), [])
    }))

  itWithUsersEach([
    { what: "another user's directory", mode: 0o755, owner: uids.stranger, problem: "foreign owner" },
    { what: "a directory open to all that is not sticky", mode: 0o777, owner: 0, problem: "writable by others" }
  ])(
    "CLAUDE_CONFIG_DIR is $what; no token is written, and the socket goes again",
    ({ mode, owner, problem }) =>
      Effect.gen(function*() {
        const place = yield* arena
        const directory = place.directory("hostile", mode, owner)
        place.directory(`claude-code-socks-${uids.victim}`, 0o700, uids.victim)
        yield* assertRefused(place, notPrivate(directory, problem, "CapabilityError"), {
          environment: { CLAUDE_CONFIG_DIR: directory }
        })
      })
  )
})

describe("the capability directory", () => {
  /** The victim's configuration home, open to all for a moment. */
  const opened = Effect.fnUntraced(function*() {
    const given = yield* setup()
    const config = given.place.directory("config", 0o777, uids.victim)
    given.place.directory(`claude-code-socks-${uids.victim}`, 0o700, uids.victim)
    return { ...given, config, capabilities: path.join(config, "messaging-capabilities") }
  })

  itWithUsersEach<{
    readonly what: string
    readonly problem: string
    readonly plant: (_: User, at: string) => Effect.Effect<unknown, Failed>
  }>([
    {
      what: "that another user has made",
      problem: "foreign owner",
      plant: (_, at) => _.fs("mkdirSync", at, { mode: 0o777 })
    },
    { what: "that is a link to another user's", problem: "a link", plant: (_, at) => _.fs("symlinkSync", _.home, at) }
  ])("$what gets no token", ({ plant, problem }) =>
    Effect.gen(function*() {
      const { capabilities, config, place, stranger } = yield* opened()
      yield* plant(stranger, capabilities)
      fs.chmodSync(config, 0o700)
      yield* assertRefused(place, notPrivate(capabilities, problem, "CapabilityError"), {
        environment: { CLAUDE_CONFIG_DIR: config }
      })
    }))

  for (const { plant, what } of plants.filter(({ what }) => what !== "a directory" && !what.startsWith("a link to"))) {
    itWithUsers(
      `holds ${what} of another user's under the capability's name: it never gets the token`,
      () =>
        Effect.gen(function*() {
          const { capabilities, config, place, stranger } = yield* opened()
          const socketPath = path.join(place.directory("own", 0o700, uids.victim), "s")
          const file = path.join(capabilities, Capability.fileName(socketPath))
          fs.mkdirSync(capabilities)
          fs.chownSync(capabilities, uids.victim, uids.victim)
          fs.chmodSync(capabilities, 0o777)
          yield* plant(stranger, file, place)
          const descriptor = what === "a file" ? yield* stranger.fs("openSync", file, "r+") : undefined
          fs.chmodSync(capabilities, 0o700)
          fs.chmodSync(config, 0o700)
          const before = snapshot(place).filter(({ name }) => name.includes("target") || name.includes("victims"))

          const victim = yield* user(place, uids.victim, { environment: { CLAUDE_CONFIG_DIR: config } })
          assert.strictEqual(yield* victim.tell({ do: "start", socketPath }), socketPath)
          const { mode, nlink, uid } = fs.lstatSync(file)
          assert.deepStrictEqual([mode, nlink, uid], [0o100600, 1, uids.victim])
          const { authToken } = JSON.parse(fs.readFileSync(file, "utf8")) as { readonly authToken: string }
          assert.match(authToken, /^[0-9a-f]{64}$/)

          if (descriptor !== undefined) {
            assert.strictEqual(yield* stranger.fs("readFileSync", descriptor, "utf8"), "mine")
          }
          assert.deepStrictEqual(yield* stranger.heard, [])
          const after = snapshot(place).filter(({ name }) => name.includes("target") || name.includes("victims"))
          const contentOf = (entry: object) => "content" in entry ? entry.content : undefined
          assert.deepStrictEqual(after.map(contentOf), before.map(contentOf))

          yield* victim.tell({ do: "stop" })
          assert.deepStrictEqual(fs.readdirSync(capabilities), [])
        })
    )
  }

  itWithUsers(
    "holds a directory of another user's under the capability's name: it is kept and told",
    () =>
      Effect.gen(function*() {
        const { capabilities, config, place, stranger } = yield* opened()
        const socketPath = path.join(place.directory("own", 0o700, uids.victim), "s")
        const file = path.join(capabilities, Capability.fileName(socketPath))
        fs.mkdirSync(capabilities)
        fs.chownSync(capabilities, uids.victim, uids.victim)
        fs.chmodSync(capabilities, 0o777)
        yield* stranger.fs("mkdirSync", file)
        fs.chmodSync(capabilities, 0o700)
        fs.chmodSync(config, 0o700)
        yield* assertRefused(
          place,
          { error: "CapabilityError", _tag: "FileFailed", operation: "write", path: file, code: "EISDIR" },
          { socketPath, environment: { CLAUDE_CONFIG_DIR: config } }
        )
      })
  )
})

describe("names that a start needs for a moment", () => {
  itWithUsers(
    "are all taken by files of another user's: the start fails, and they are kept",
    () =>
      Effect.gen(function*() {
        const { place, stranger } = yield* setup()
        // So long that a staging name has room for one digit, and there are sixteen of them.
        const name = "d".repeat(106 - Buffer.byteLength(`${place.tmp}//`))
        const directory = place.directory(name, 0o777, uids.victim)
        for (const digit of "0123456789abcdef") yield* stranger.fs("writeFileSync", path.join(directory, digit), digit)
        fs.chmodSync(directory, 0o700)
        const socketPath = path.join(directory, "s")
        assert.strictEqual(Buffer.byteLength(socketPath), 107)
        const victim = yield* user(place, uids.victim)
        const before = snapshot(place)
        const { _tag, code, path: staging } =
          (yield* Effect.flip(victim.tell({ do: "start", socketPath })))["reason"] as Failed
        assert.deepStrictEqual([_tag, code], ["ListenFailed", "EADDRINUSE"])
        assert.match(String(staging), new RegExp(`^${directory}/[0-9a-f]$`))
        assert.deepStrictEqual(snapshot(place), before)
      })
  )

  itWithUsers(
    "cannot be known to another user; one that is held all the same is told, and released",
    () =>
      Effect.gen(function*() {
        const { place, stranger } = yield* setup()
        const directory = place.directory("own", 0o700, uids.victim)
        const socketPath = path.join(directory, "s")
        const former = yield* user(place, uids.victim)
        yield* former.tell({ do: "start", socketPath })
        yield* former.kill
        assert.deepStrictEqual(yield* outcomes([stranger.fs("lstatSync", socketPath)]), ["EACCES"])

        const { dev, ino, mtimeMs } = fs.lstatSync(socketPath)
        const name = lockName(socketPath, [dev, ino, Math.trunc(mtimeMs)].join("-"), { platform: "linux" })
        yield* stranger.tell({ do: "listen", path: name, answer: "" })
        const victim = yield* assertRefused(place, {
          error: "ListenError",
          _tag: "ListenFailed",
          path: name.replace("\0", "@"),
          code: "EADDRINUSE"
        }, { socketPath })
        yield* stranger.tell({ do: "close", path: name })
        assert.strictEqual(yield* victim.tell({ do: "start", socketPath }), socketPath)
      })
  )
})

describe("while an endpoint starts and stops", () => {
  itWithUsers("another user gets at nothing, tried before each of its file operations", () =>
    Effect.gen(function*() {
      const place = yield* arena
      const stranger = yield* user(place, uids.stranger)
      const base = path.join(place.tmp, "base")
      const socketPath = path.join(base, "own", "messaging.sock")
      const home = place.directory(path.join(place.root, "home-0"), 0o700)
      const before = snapshot(place)
      const tried: Array<string> = []
      const found: Array<string> = []

      /** Whatever is there at this moment, by the names that root sees. */
      const attack = Effect.fnUntraced(function*(operation: string) {
        tried.push(operation)
        const names = (fs.readdirSync(place.root, { recursive: true }) as Array<string>)
          .map((name) => path.join(place.root, name))
          .filter((at) => at.startsWith(base) || at.startsWith(home))
        const attempts = names.flatMap((at) => [
          // A longer path is not one of a socket.
          ...(Buffer.byteLength(at) > 107
            ? []
            : [{ what: `talk to ${at}`, attempt: stranger.tell({ do: "talk", path: at, text: "{}\n" }) }]),
          { what: `list ${at}`, attempt: stranger.fs("readdirSync", at) },
          { what: `read ${at}`, attempt: stranger.fs("readFileSync", at, "utf8") },
          { what: `rename ${at}`, attempt: stranger.fs("renameSync", at, `${at}-taken`) },
          { what: `remove ${at}`, attempt: stranger.fs("unlinkSync", at) },
          { what: `make a link in ${at}`, attempt: stranger.fs("symlinkSync", "/tmp", path.join(at, "planted")) }
        ])
        const seen = yield* outcomes(attempts.map(({ attempt }) => attempt))
        seen.forEach((outcome, i) => {
          if (outcome !== "EACCES" && outcome !== "EPERM") {
            found.push(`${String(outcome)}: ${attempts[i]?.what} before ${operation}`)
          }
        })
      })

      const real = yield* FileSystem.FileSystem
      const watched: Record<string, unknown> = { ...real }
      for (const name of ["link", "chmod", "lstat", "remove", "makeDirectory", "open", "rename"] as const) {
        const operation = real[name] as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>
        watched[name] = (...args: ReadonlyArray<unknown>) => Effect.andThen(attack(name), operation(...args))
      }
      const host = { ...(yield* Host), homedir: home, tmpdir: place.tmp, environment: {} }
      assert.deepStrictEqual(host.uid, Option.some(0))
      yield* Effect.scoped(Effect.gen(function*() {
        const transport = yield* NodeTransport.make
        const capability = yield* Capability.make
        yield* transport.listen({ socketPath, base })
        yield* capability.publish(socketPath)
        yield* attack("serving")
      })).pipe(
        // The real one, each of whose methods is wrapped by name.
        Effect.provideService(FileSystem.FileSystem, watched as unknown as FileSystem.FileSystem),
        Effect.provideService(Host, host)
      )
      assert.deepStrictEqual(found, [])
      for (const name of ["link", "chmod", "remove", "makeDirectory", "open", "rename", "serving"]) {
        assert.include(tried, name)
      }
      fs.rmdirSync(base)
      fs.rmSync(path.join(home, ".claude"), { recursive: true })
      assert.deepStrictEqual(snapshot(place), before)
    }).pipe(Effect.provide(NodeFileSystem.layer)))
})

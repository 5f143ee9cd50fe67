/** Another user's server in place of the peer: it is recognised, and hears nothing that is worth hearing. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import { Host } from "../../src/Host.ts"
import * as Limits from "../../src/Limits.ts"
import * as Messaging from "../../src/Messaging.ts"
import * as NodeTransport from "../../src/NodeTransport.ts"
import * as Peers from "../../src/Peers.ts"
import { Transport } from "../../src/Transport.ts"
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
  user
} from "../utils/otherUser.ts"
import { sweptBelow } from "../utils/worker.ts"

const message = "for the right ears only"
const line = (value: unknown) => `${JSON.stringify(value)}\n`
const someHex = "0123456789abcdef".repeat(4)

/** Not a byte of what a server heard is secret: at most a hello for each connection. */
const assertOnlyHello = Effect.fnUntraced(function*(place: Arena, stranger: User, tokens: ReadonlyArray<string>) {
  const heard = yield* stranger.heard
  for (const text of heard) {
    const { type, ...others } = JSON.parse(text) as Failed
    assert.strictEqual(type, "hello")
    assert.deepStrictEqual(Object.keys(others).filter((key) => key !== "from"), ["protocol", "nonce"])
  }
  const all = heard.join("\n")
  for (const token of [...tokens, ...tokensOf(place)]) {
    for (const part of [token.slice(0, 32), token.slice(32)]) assert.notInclude(all, part)
  }
  assert.notInclude(all, message)
  return heard.length
})

/**
 * A peer of the victim's that was killed: its capability is there, its directory was opened for a moment, and another
 * user's server has taken the place of its socket.
 */
const replaced = Effect.fnUntraced(function*(answer: string, protocol: 1 | 2 = 2) {
  const place = yield* arena
  const [former, stranger] = [yield* user(place, uids.victim), yield* user(place, uids.stranger)]
  const directory = place.directory("own", 0o700, uids.victim)
  const socketPath = path.join(directory, "messaging.sock")
  yield* former.tell({ do: "start", socketPath })
  const tokens = tokensOf(place)
  assert.strictEqual(tokens.length, 1)
  yield* former.kill
  fs.chmodSync(directory, 0o777)
  yield* stranger.fs("unlinkSync", socketPath)
  yield* stranger.tell({ do: "listen", path: socketPath, answer })
  fs.chmodSync(socketPath, 0o777)
  fs.chmodSync(directory, 0o700)
  const file = path.join(former.capabilities, Capability.fileName(socketPath))
  if (protocol === 1) fs.writeFileSync(file, JSON.stringify({ socketPath, authToken: tokens[0] }))
  return { place, stranger, socketPath, directory, tokens, file, victim: yield* user(place, uids.victim) }
})

const send = (victim: User, to: string) => Effect.flip(victim.tell({ do: "send", to, text: message }))

describe("another user's server at the path of a dead peer", () => {
  itWithUsersEach([
    { what: "a proof it has made up", answer: line({ type: "challenge", nonce: someHex, proof: someHex }) },
    { what: "an ack", answer: line({ type: "response", data: "ok", meta: { id: "uds-1" } }) },
    { what: "what is no JSON", answer: "who is there?\n" }
  ])("that answers $what is not trusted, and hears nothing but hello", ({ answer }) =>
    Effect.gen(function*() {
      const { place, socketPath, stranger, tokens, victim } = yield* replaced(answer)
      const before = snapshot(place)
      const { _tag, socketPath: named } = (yield* send(victim, socketPath))["reason"] as Failed
      assert.deepStrictEqual([_tag, named], ["PeerUntrusted", socketPath])
      assert.strictEqual(yield* assertOnlyHello(place, stranger, tokens), 1)
      assert.deepStrictEqual(snapshot(place), before)
    }))

  itWithUsers("that refuses is told apart, and hears nothing but hello", () =>
    Effect.gen(function*() {
      const { place, socketPath, stranger, tokens, victim } = yield* replaced(
        line({ type: "error", data: "unauthorized" })
      )
      assert.deepStrictEqual((yield* send(victim, socketPath))["reason"], { _tag: "Unauthorized", socketPath })
      assert.strictEqual(yield* assertOnlyHello(place, stranger, tokens), 1)
    }))

  itWithUsers("is neither listed nor swept, and hears nothing but hello", () =>
    Effect.gen(function*() {
      const { place, stranger, tokens, victim } = yield* replaced(
        line({ type: "challenge", nonce: someHex, proof: someHex })
      )
      const before = snapshot(place)
      assert.deepStrictEqual(yield* victim.tell({ do: "list" }), [])
      assert.deepStrictEqual(yield* sweptBelow(place.root, victim), [])
      assert.deepStrictEqual(snapshot(place), before)
      const heard = yield* stranger.heard
      assert.include(heard, "")
      for (const token of tokens) assert.notInclude(heard.join("\n"), token.slice(0, 32))
    }))

  itWithUsers("that the capability says speaks protocol 1 hears not a byte", () =>
    Effect.gen(function*() {
      const { place, socketPath, stranger, victim } = yield* replaced(line({ type: "response", data: "ok" }), 1)
      const before = snapshot(place)
      assert.deepStrictEqual((yield* send(victim, socketPath))["reason"], {
        _tag: "PeerUntrusted",
        socketPath,
        problem: "it belongs to another user"
      })
      assert.deepStrictEqual(yield* stranger.heard, [])
      const ended = yield* runCli(place, uids.victim, ["send", "--to", socketPath, message])
      assert.deepStrictEqual([ended.code, ended.stdout], [1, ""])
      assert.include(ended.stderr, "cannot be trusted: it belongs to another user")
      assert.deepStrictEqual(yield* stranger.heard, [])
      assert.deepStrictEqual(snapshot(place), before)
    }))

  itWithUsers("that is reached through a link hears not a byte in protocol 1", () =>
    Effect.gen(function*() {
      const { directory, place, socketPath, stranger, victim } = yield* replaced("", 1)
      const elsewhere = path.join(place.tmp, "rogue")
      fs.chmodSync(directory, 0o777)
      yield* stranger.fs("renameSync", socketPath, elsewhere)
      yield* stranger.fs("symlinkSync", elsewhere, socketPath)
      fs.chmodSync(directory, 0o700)
      assert.deepStrictEqual((yield* send(victim, socketPath))["reason"], {
        _tag: "PeerUntrusted",
        socketPath,
        problem: "it is not a socket"
      })
      assert.deepStrictEqual(yield* stranger.heard, [])
    }))

  itWithUsers("that has died too is not swept: the socket is not one's own", () =>
    Effect.gen(function*() {
      const { place, socketPath, stranger, victim } = yield* replaced("")
      const elsewhere = path.join(place.tmp, "kept")
      // Node removes the name it bound when a server closes, so the name is another one for that moment.
      fs.renameSync(socketPath, elsewhere)
      yield* stranger.tell({ do: "close", path: socketPath })
      fs.renameSync(elsewhere, socketPath)
      const before = snapshot(place)
      assert.deepStrictEqual(yield* sweptBelow(place.root, victim), [])
      assert.deepStrictEqual(snapshot(place), before)
      assert.deepStrictEqual((yield* send(victim, socketPath))["reason"], {
        _tag: "PeerUnreachable",
        socketPath,
        code: "ECONNREFUSED"
      })
    }))
})

describe("another user who renames the directory of a live endpoint", () => {
  /** The shared parent turns hostile after the start: nobody's check can have seen it. */
  const renamed = Effect.fnUntraced(function*(protocol: 1 | 2) {
    const place = yield* arena
    const [victim, stranger] = [yield* user(place, uids.victim), yield* user(place, uids.stranger)]
    const parent = place.directory("shared", 0o755)
    const directory = place.directory(path.join(parent, "own"), 0o700, uids.victim)
    const socketPath = path.join(directory, "messaging.sock")
    yield* victim.tell({ do: "start", socketPath })
    const tokens = tokensOf(place)
    const file = path.join(victim.capabilities, Capability.fileName(socketPath))
    if (protocol === 1) fs.writeFileSync(file, JSON.stringify({ socketPath, authToken: tokens[0] }))
    fs.chmodSync(parent, 0o777)
    const aside = path.join(parent, "aside")
    yield* stranger.fs("renameSync", directory, aside)
    // Open to all, so that nothing but the endpoint's own care keeps what is in it.
    yield* stranger.fs("mkdirSync", directory)
    yield* stranger.fs("chmodSync", directory, 0o777)
    yield* stranger.tell({
      do: "listen",
      path: socketPath,
      answer: line({ type: "challenge", nonce: someHex, proof: someHex }) + line({ type: "response", data: "ok" })
    })
    yield* stranger.fs("chmodSync", socketPath, 0o777)
    return { place, victim, stranger, tokens, socketPath, aside, client: yield* user(place, uids.victim) }
  })

  itWithUsers(
    "and listens there learns a nonce, and loses nothing when the endpoint ends",
    () =>
      Effect.gen(function*() {
        const { aside, client, place, socketPath, stranger, tokens, victim } = yield* renamed(2)
        const { _tag } = (yield* send(client, socketPath))["reason"] as Failed
        assert.strictEqual(_tag, "PeerUntrusted")
        assert.strictEqual(yield* assertOnlyHello(place, stranger, tokens), 1)
        const { ino } = fs.lstatSync(socketPath)
        yield* victim.tell({ do: "stop" })
        assert.strictEqual(fs.lstatSync(socketPath).ino, ino)
        assert.strictEqual(fs.lstatSync(socketPath).uid, uids.stranger)
        assert.isTrue(fs.existsSync(aside))
        assert.deepStrictEqual(tokensOf(place), [])
      })
  )

  itWithUsers("and listens there learns nothing at all in protocol 1", () =>
    Effect.gen(function*() {
      const { client, place, socketPath, stranger } = yield* renamed(1)
      const before = snapshot(place)
      assert.deepStrictEqual((yield* send(client, socketPath))["reason"], {
        _tag: "PeerUntrusted",
        socketPath,
        problem: "it belongs to another user"
      })
      assert.deepStrictEqual(yield* stranger.heard, [])
      assert.deepStrictEqual(snapshot(place), before)
    }))
})

describe("an inherited environment variable that names another user's endpoint", () => {
  itWithUsersEach([{ command: "send" }, { command: "ping" }])(
    "leads $command to exit code 1, and not a byte to the endpoint",
    ({ command }) =>
      Effect.gen(function*() {
        const place = yield* arena
        const stranger = yield* user(place, uids.stranger)
        const socketPath = path.join(place.tmp, "rogue.sock")
        yield* stranger.tell({ do: "listen", path: socketPath, answer: line({ type: "response", data: "ok" }) })
        yield* stranger.fs("chmodSync", socketPath, 0o777)
        place.directory(path.join(place.root, `home-${uids.victim}`), 0o700, uids.victim)
        const before = snapshot(place)
        const ended = yield* runCli(place, uids.victim, command === "send" ? [command, message] : [command], {
          CLAUDE_CODE_MESSAGING_SOCKET: socketPath
        })
        assert.deepStrictEqual(ended, {
          code: 1,
          stdout: "",
          stderr: `effect-messaging: no peer at ${socketPath}: it has ended, or belongs to another user or namespace ` +
            "(effect-messaging peers shows who listens, doctor what keeps others out)\n"
        })
        assert.deepStrictEqual(yield* stranger.heard, [])
        assert.deepStrictEqual(snapshot(place), before)
      })
  )
})

describe("another user's capability file in the victim's directory", () => {
  const planted: ReadonlyArray<{
    readonly what: string
    readonly problem: string
    readonly plant: (_: User, at: string, text: string) => Effect.Effect<unknown, Failed>
  }> = [
    {
      what: "a file that names its own server",
      problem: "foreign owner",
      plant: (_, at, text) => _.fs("writeFileSync", at, text, { mode: 0o644 })
    },
    {
      what: "a hard link to a file of its own",
      problem: "foreign owner",
      plant: (_, at, text) => {
        const own = path.join(_.home, "own.json")
        return Effect.andThen(_.fs("writeFileSync", own, text, { mode: 0o644 }), _.fs("linkSync", own, at))
      }
    },
    {
      what: "a link to a file of its own",
      problem: "a link",
      plant: (_, at, text) => {
        const own = path.join(_.home, "own.json")
        return Effect.andThen(_.fs("writeFileSync", own, text, { mode: 0o644 }), _.fs("symlinkSync", own, at))
      }
    },
    { what: "a FIFO", problem: "not a regular file", plant: (_, at) => _.tell({ do: "fifo", path: at }) }
  ]

  const setup = Effect.fnUntraced(function*() {
    const place = yield* arena
    const [victim, stranger] = [yield* user(place, uids.victim), yield* user(place, uids.stranger)]
    fs.mkdirSync(victim.capabilities, { recursive: true, mode: 0o700 })
    for (const at of [victim.capabilities, path.dirname(victim.capabilities)]) {
      fs.chownSync(at, uids.victim, uids.victim)
    }
    const opened = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.gen(function*() {
        const all = [victim.home, path.dirname(victim.capabilities), victim.capabilities]
        for (const at of all) fs.chmodSync(at, 0o777)
        const done = yield* effect
        for (const at of all) fs.chmodSync(at, 0o700)
        return done
      })
    const rogue = path.join(place.tmp, "rogue.sock")
    yield* stranger.tell({ do: "listen", path: rogue, answer: line({ type: "response", data: "ok" }) })
    yield* stranger.fs("chmodSync", rogue, 0o777)
    return { place, victim, stranger, rogue, opened }
  })

  itWithUsersEach([...planted])(
    "is refused and kept, when it is $what",
    ({ plant, problem }) =>
      Effect.gen(function*() {
        const { opened, place, rogue, stranger, victim } = yield* setup()
        const file = path.join(victim.capabilities, Capability.fileName(rogue))
        yield* opened(plant(stranger, file, JSON.stringify({ socketPath: rogue, authToken: someHex })))
        const before = snapshot(place)
        assert.deepStrictEqual((yield* send(victim, rogue))["reason"], {
          _tag: "PeerUntrusted",
          socketPath: rogue,
          problem: `capability file ${file} is refused (${problem}): remove it, and restart the endpoint it names`
        })
        assert.deepStrictEqual(yield* victim.tell({ do: "list" }), [])
        assert.deepStrictEqual(yield* sweptBelow(place.root, victim), [])
        assert.deepStrictEqual(yield* stranger.heard, [])
        assert.deepStrictEqual(snapshot(place), before)
      })
  )

  itWithUsers(
    "in place of that of a live endpoint is refused, and kept when the endpoint ends",
    () =>
      Effect.gen(function*() {
        const { opened, place, stranger, victim } = yield* setup()
        const socketPath = String(yield* victim.tell({ do: "start" }))
        const file = path.join(victim.capabilities, Capability.fileName(socketPath))
        // In one step, or the endpoint publishes its own again.
        yield* opened(Effect.andThen(
          stranger.fs("writeFileSync", `${file}-`, JSON.stringify({ socketPath, authToken: someHex, protocol: 2 }), {
            mode: 0o644
          }),
          stranger.fs("renameSync", `${file}-`, file)
        ))
        const client = yield* user(place, uids.victim)
        const { _tag } = (yield* send(client, socketPath))["reason"] as Failed
        assert.strictEqual(_tag, "PeerUntrusted")
        assert.deepStrictEqual(yield* client.tell({ do: "list" }), [])
        const { ino } = fs.lstatSync(file)
        yield* victim.tell({ do: "stop" })
        assert.strictEqual(fs.lstatSync(file).ino, ino)
        assert.isFalse(fs.existsSync(socketPath))
      })
  )
})

describe("between the check of a protocol 1 peer and its use", () => {
  itWithUsers(
    "another user cannot replace the socket, and the token reaches the peer alone",
    () =>
      Effect.gen(function*() {
        const place = yield* arena
        const stranger = yield* user(place, uids.stranger)
        const directory = path.join(place.tmp, "own")
        const socketPath = path.join(directory, "messaging.sock")
        const home = place.directory(path.join(place.root, "home-0"), 0o700)
        const rogue = path.join(place.tmp, "rogue.sock")
        yield* stranger.tell({ do: "listen", path: rogue, answer: line({ type: "response", data: "ok" }) })
        yield* stranger.fs("chmodSync", rogue, 0o777)
        const seen: Array<unknown> = []
        const swap = Effect.map(
          outcomes([
            stranger.fs("renameSync", rogue, socketPath),
            stranger.fs("unlinkSync", socketPath),
            stranger.fs("symlinkSync", rogue, socketPath),
            stranger.fs("renameSync", directory, `${directory}-aside`)
          ]),
          (outcomes) => seen.push(...outcomes)
        )
        const transport = Effect.map(
          NodeTransport.make,
          (transport) => Transport.of({ ...transport, dial: (to) => Effect.andThen(swap, transport.dial(to)) })
        )
        const services = Messaging.layerClient.pipe(
          Layer.provide(Layer.effect(Peers.Peers, Peers.make)),
          Layer.provide(Layer.effect(Transport, transport)),
          Layer.provideMerge(Layer.effect(Capability.Capability, Capability.make)),
          Layer.provide(Limits.layer({ sendTimeout: "20 seconds" }))
        )
        const host = { ...(yield* Host), homedir: home, tmpdir: place.tmp, environment: {} }
        const peer = yield* user(place, 0)
        yield* peer.tell({ do: "start", socketPath })
        const file = path.join(home, ".claude", "messaging-capabilities", Capability.fileName(socketPath))
        const { authToken } = JSON.parse(fs.readFileSync(file, "utf8")) as { readonly authToken: string }
        fs.writeFileSync(file, JSON.stringify({ socketPath, authToken }))
        const before = snapshot(place)
        const receipt = yield* Effect.flatMap(
          Messaging.Messaging,
          (messaging) => messaging.send(socketPath, { type: "text", data: message })
        ).pipe(Effect.provide(services), Effect.provideService(Host, host))
        assert.strictEqual(receipt.socketPath, socketPath)
        assert.deepStrictEqual(seen, ["EACCES", "EACCES", "EACCES", "EPERM"])
        assert.deepStrictEqual(yield* stranger.heard, [])
        assert.deepStrictEqual(snapshot(place), before)
      }).pipe(Effect.provide(NodeFileSystem.layer))
  )
})

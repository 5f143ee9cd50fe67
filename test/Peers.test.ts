import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Option } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import type { HostFacts } from "../src/Host.ts"
import * as Layers from "../src/Layers.ts"
import * as Messaging from "../src/Messaging.ts"
import * as Peers from "../src/Peers.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { fixture } from "./utils/programs.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

const program = await fixture("endpoint")

interface Setup {
  readonly host: HostFacts
  /** New for each test, since `/tmp` is swept as well and holds the user's own endpoints. */
  readonly namespace: string
  readonly peers: Peers.Peers["Service"]
}

const withPeers = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const namespace = `t-${crypto.randomBytes(8).toString("hex")}`
    const peers = yield* Peers.Peers.pipe(Effect.provide(Layers.layerClient({ namespace })))
    return yield* use({ host, namespace, peers })
  }))

const itAsRoot = it.live.skipIf(process.getuid?.() !== 0)

const kill = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** An endpoint in another process, killed with the scope. */
const startProcess = Effect.fnUntraced(function*(
  { host, namespace }: Setup,
  options: { readonly name?: string; readonly socketPath?: string } = {}
) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(
        process.execPath,
        [program, namespace, options.name ?? "", options.socketPath ?? ""],
        {
          cwd: host.tmpdir,
          env: { HOME: host.homedir, TMPDIR: host.tmpdir },
          stdio: ["ignore", "pipe", "inherit"]
        }
      )
    ),
    kill
  )
  const socketPath = yield* Effect.callback<string>((resume) => {
    let text = ""
    child.stdout.on("data", (bytes) => {
      text += bytes
      if (text.endsWith("\n")) resume(Effect.succeed(text.trimEnd()))
    })
    child.once("exit", (code) => resume(Effect.die(`the endpoint ended with ${code}`)))
  })
  return { child, socketPath }
})

/** An endpoint of this process, with the names of the test. */
const startHere = ({ namespace }: Setup, options: Messaging.Options = {}) =>
  Effect.gen(function*() {
    const { address } = yield* Messaging.Messaging
    return (yield* Effect.fromOption(address)).socketPath
  }).pipe(Effect.provide(Layers.layer({ namespace, ...options })))

const baseOf = ({ host, namespace }: Setup) =>
  path.join(host.tmpdir, `${namespace}-socks-${Option.getOrElse(host.uid, () => 0)}`)
const endpointDirectory = (setup: Setup, pid: number) => {
  const directory = path.join(baseOf(setup), `${pid}-${crypto.randomBytes(16).toString("hex")}`)
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
  return directory
}
const capabilityDirectory = ({ host, namespace }: Setup) =>
  path.join(host.homedir, `.${namespace}`, "messaging-capabilities")
/** A capability file made by hand. */
const plant = (setup: Setup, socketPath: string) => {
  const directory = capabilityDirectory(setup)
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
  const file = path.join(directory, Capability.fileName(socketPath))
  fs.writeFileSync(file, JSON.stringify({ socketPath, authToken: "ab".repeat(32) }), { mode: 0o600 })
  return file
}
/** The files that are left, without the directories all endpoints share. */
const left = (setup: Setup) => [
  ...(fs.existsSync(baseOf(setup)) ? contents(baseOf(setup)) : []),
  ...(fs.existsSync(capabilityDirectory(setup)) ? contents(capabilityDirectory(setup)) : [])
]

describe("Peers", () => {
  describe("list", () => {
    it.live("shows a live process as it describes itself", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const { child, socketPath } = yield* startProcess(setup, { name: "build" })
        const [peer, ...others] = yield* setup.peers.list
        assert.deepStrictEqual(others, [])
        assert.isDefined(peer)
        const { startedAt, ...rest } = peer
        assert.deepStrictEqual(rest, {
          socketPath,
          protocol: 2,
          pid: Option.fromNullishOr(child.pid),
          name: Option.some("build"),
          cwd: Option.some(setup.host.tmpdir)
        })
        const file = fs.statSync(path.join(capabilityDirectory(setup), Capability.fileName(socketPath)))
        // Its clock was read before the file was written, and after this test made its directory.
        const started = Option.map(startedAt, DateTime.toEpochMillis)
        assert.isTrue(Option.exists(started, (at) => at <= Math.ceil(file.mtimeMs)))
        assert.isTrue(Option.exists(started, (at) => at >= Math.floor(fs.statSync(setup.host.tmpdir).birthtimeMs)))
      })))

    it.live("shows this process's own endpoint, and others, by socket path", () =>
      withPeers((setup) =>
        Effect.gen(function*() {
          const here = yield* Messaging.Messaging
          const own = yield* Effect.fromOption(here.address)
          const { socketPath } = yield* startProcess(setup)
          assert.deepStrictEqual(
            (yield* setup.peers.list).map(({ socketPath }) => socketPath),
            [own.socketPath, socketPath].sort()
          )
        }).pipe(Effect.provide(Layers.layer({ namespace: setup.namespace })))
      ))

    it.live("leaves out a process that was killed, and leaves its files alone", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const { child } = yield* startProcess(setup)
        const before = left(setup)
        yield* kill(child)
        assert.deepStrictEqual(yield* setup.peers.list, [])
        assert.deepStrictEqual(left(setup), before)
      })))

    it.live("leaves out an endpoint that was released", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        yield* startHere(setup)
        assert.deepStrictEqual(yield* setup.peers.list, [])
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("leaves out the endpoints of another namespace", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        yield* startProcess({ ...setup, namespace: `${setup.namespace}-x` })
        assert.deepStrictEqual(yield* setup.peers.list, [])
      })))

    it.live("holds no token", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        yield* startProcess(setup)
        const peers = yield* setup.peers.list
        assert.deepStrictEqual(peers.map((peer) => Object.keys(peer).sort()), [
          ["cwd", "name", "pid", "protocol", "socketPath", "startedAt"]
        ])
      })))
  })

  describe("sweep", () => {
    it.live("tells nothing of a dead socket that it may not remove, and keeps its capability", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const directory = path.join(setup.host.homedir, "shared")
        fs.mkdirSync(directory)
        fs.chmodSync(directory, 0o755)
        const socketPath = path.join(directory, "s")
        yield* deadSocket(socketPath)
        const file = plant(setup, socketPath)
        assert.deepStrictEqual(yield* setup.peers.sweep, [])
        assert.isTrue(fs.existsSync(file))
        assert.isTrue(fs.lstatSync(socketPath).isSocket())
      })))

    it.live("removes socket, directory and capability of a killed process", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const { child, socketPath } = yield* startProcess(setup)
        yield* kill(child)
        assert.deepStrictEqual(yield* setup.peers.sweep, [socketPath])
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("keeps what a live process has", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const { socketPath } = yield* startProcess(setup)
        const before = left(setup)
        assert.deepStrictEqual(yield* setup.peers.sweep, [])
        assert.deepStrictEqual(left(setup), before)
        assert.deepStrictEqual((yield* setup.peers.list).map(({ socketPath }) => socketPath), [socketPath])
      })))

    it.live("finds nothing more the second time", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const { child } = yield* startProcess(setup)
        yield* kill(child)
        yield* setup.peers.sweep
        assert.deepStrictEqual(yield* setup.peers.sweep, [])
      })))

    it.live("removes the capability of an endpoint whose socket is gone", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const socketPath = path.join(setup.host.tmpdir, "gone", "messaging.sock")
        plant(setup, socketPath)
        assert.deepStrictEqual(yield* setup.peers.sweep, [socketPath])
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("removes the dead socket of a process killed before it had a capability", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const socketPath = path.join(endpointDirectory(setup, 1), "messaging.sock")
        yield* deadSocket(socketPath)
        assert.deepStrictEqual(yield* setup.peers.sweep, [socketPath])
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("removes the empty directory of a process killed before it had a socket", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        endpointDirectory(setup, 1)
        assert.deepStrictEqual(yield* setup.peers.sweep, [])
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("removes both names of a process killed between publishing its socket and hiding the private name", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const directory = endpointDirectory(setup, 1)
        yield* deadSocket(path.join(directory, "messaging.sock"))
        fs.linkSync(path.join(directory, "messaging.sock"), path.join(directory, ".00112233"))
        yield* setup.peers.sweep
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("removes the dead socket of a path the user chose, and keeps the user's directory", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const directory = path.join(setup.host.tmpdir, "mine")
        fs.mkdirSync(directory, { mode: 0o700 })
        const { child, socketPath } = yield* startProcess(setup, { socketPath: path.join(directory, "my.sock") })
        yield* kill(child)
        assert.deepStrictEqual(yield* setup.peers.sweep, [socketPath])
        assert.deepStrictEqual(contents(directory), [])
        assert.deepStrictEqual(left(setup), [])
      })))

    it.live("keeps a file that stands where a dead endpoint's socket was", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        const socketPath = path.join(setup.host.tmpdir, "notes")
        fs.writeFileSync(socketPath, "mine")
        plant(setup, socketPath)
        yield* setup.peers.sweep
        assert.strictEqual(fs.readFileSync(socketPath, "utf8"), "mine")
      })))

    itAsRoot(
      "keeps another user's socket and capability (only root can set this up)",
      () =>
        withPeers(Effect.fnUntraced(function*(setup) {
          const socketPath = path.join(endpointDirectory(setup, 1), "messaging.sock")
          yield* deadSocket(socketPath)
          fs.chownSync(socketPath, 1001, 1001)
          fs.chownSync(plant(setup, socketPath), 1001, 1001)
          const before = left(setup)
          assert.deepStrictEqual(yield* setup.peers.sweep, [])
          assert.deepStrictEqual(left(setup), before)
        }))
    )

    itAsRoot(
      "keeps everything below another user's base directory (only root can set this up)",
      () =>
        withPeers(Effect.fnUntraced(function*(setup) {
          yield* deadSocket(path.join(endpointDirectory(setup, 1), "messaging.sock"))
          endpointDirectory(setup, 2)
          fs.chownSync(baseOf(setup), 1001, 1001)
          const before = left(setup)
          assert.deepStrictEqual(yield* setup.peers.sweep, [])
          assert.deepStrictEqual(left(setup), before)
        }))
    )

    it.live("keeps what is no endpoint's in the base directory", () =>
      withPeers(Effect.fnUntraced(function*(setup) {
        fs.mkdirSync(path.join(baseOf(setup), "notes"), { recursive: true, mode: 0o700 })
        fs.writeFileSync(path.join(endpointDirectory(setup, 1), "notes"), "mine")
        const before = left(setup)
        assert.deepStrictEqual(yield* setup.peers.sweep, [])
        assert.deepStrictEqual(left(setup), before)
      })))
  })
})

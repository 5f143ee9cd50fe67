import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Metric, Option, Queue } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import type { HostFacts } from "../../src/Host.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { Messaging } from "../../src/Messaging.ts"
import { deadSocket } from "../utils/deadSocket.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { isOpen, type Server } from "../utils/server.ts"
import { contents, withTempHost } from "../utils/tempHost.ts"

interface Setup extends Server {
  readonly host: HostFacts
  readonly capabilityFile: string
  /** The next warning; waits for it. */
  readonly warning: Effect.Effect<string>
}

/** An endpoint that hears of every change from the watch of its directories: its clock lets an hour pass between looks. */
const withKept = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const warnings = yield* Queue.unbounded<string>()
    const logger = Logger.layer([Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") Queue.offerUnsafe(warnings, String(message))
    })])
    const result = yield* Effect.gen(function*() {
      const { socketPath } = Option.getOrThrow((yield* Messaging).address)
      const capabilityFile = path.join(
        host.homedir,
        ".claude",
        "messaging-capabilities",
        Capability.fileName(socketPath)
      )
      const { authToken } = JSON.parse(fs.readFileSync(capabilityFile, "utf8")) as { readonly authToken: string }
      return yield* use({
        host,
        socketPath,
        capabilityFile,
        token: authToken,
        inbox: yield* Inbox,
        connect: connectRaw(socketPath),
        warning: Queue.take(warnings)
      })
    }).pipe(Effect.provide(Layer.provideMerge(Layers.layer({ limits: { republishInterval: "1 hour" } }), logger)))
    return { host, result }
  }))

const isAnswered = (setup: Setup) => Effect.scoped(Effect.flatMap(setup.connect, (peer) => isOpen(peer, setup)))

const republished = (what: string, file: string) => `the ${what} at ${file} had disappeared, and was published again`
const replaced = (what: string, file: string) =>
  `the ${what} at ${file} has been replaced by something else, which is left alone; ` +
  "peers cannot find this endpoint meanwhile"

/** All that is below the temporary host. */
const left = (host: HostFacts) =>
  contents(host.tmpdir).filter((name) => fs.lstatSync(path.join(host.tmpdir, name)).isFile() || name.endsWith(".sock"))

describe("an endpoint that serves", () => {
  it.live("publishes its socket again when it is deleted, and no connection notices", () =>
    withKept(Effect.fnUntraced(function*(setup) {
      const { socketPath, warning } = setup
      const before = yield* setup.connect
      yield* isOpen(before, setup)
      fs.unlinkSync(socketPath)
      assert.strictEqual(yield* warning, republished("socket", socketPath))
      assert.strictEqual(fs.lstatSync(socketPath).mode & 0o777, 0o600)
      yield* isAnswered(setup)
      yield* isOpen(before, setup)
      assert.deepStrictEqual(fs.readdirSync(path.dirname(socketPath)), ["messaging.sock"])
    })).pipe(Effect.map(({ host }) => assert.deepStrictEqual(left(host), []))))

  it.live("publishes its capability again when it is deleted, with the same token", () =>
    withKept(Effect.fnUntraced(function*(setup) {
      const { capabilityFile, socketPath, warning } = setup
      const before = fs.readFileSync(capabilityFile, "utf8")
      fs.unlinkSync(capabilityFile)
      assert.strictEqual(yield* warning, republished("capability", capabilityFile))
      assert.strictEqual(fs.readFileSync(capabilityFile, "utf8"), before)
      assert.strictEqual(fs.lstatSync(capabilityFile).mode & 0o777, 0o600)
      yield* (yield* Messaging).send(socketPath, Message.text("still here"))
      assert.deepStrictEqual(fs.readdirSync(path.dirname(capabilityFile)), [path.basename(capabilityFile)])
    })).pipe(Effect.map(({ host }) => assert.deepStrictEqual(left(host), []))))

  it.live("publishes both again when their directories are deleted with all that is above them", () =>
    withKept(Effect.fnUntraced(function*(setup) {
      const { capabilityFile, host, socketPath, warning } = setup
      for (const name of fs.readdirSync(host.tmpdir)) {
        fs.rmSync(path.join(host.tmpdir, name), { recursive: true, force: true })
      }
      const warnings = [yield* warning, yield* warning]
      assert.sameMembers(warnings, [republished("socket", socketPath), republished("capability", capabilityFile)])
      yield* isAnswered(setup)
      yield* (yield* Messaging).send(socketPath, Message.text("still here"))
    })).pipe(Effect.map(({ host }) => assert.deepStrictEqual(left(host), []))))

  it.live("publishes again as often as it must, and keeps no descriptor", () =>
    withKept(Effect.fnUntraced(function*(setup) {
      const { capabilityFile, socketPath, warning } = setup
      const descriptors = () => fs.readdirSync("/dev/fd").length
      const deleteAndWait = (file: string) => Effect.andThen(Effect.sync(() => fs.unlinkSync(file)), warning)
      yield* deleteAndWait(socketPath)
      const before = descriptors()
      for (let n = 0; n < 50; n++) {
        yield* deleteAndWait(socketPath)
        yield* deleteAndWait(capabilityFile)
      }
      yield* isAnswered(setup)
      // A closed connection's descriptor may go a moment later.
      yield* Effect.repeat(Effect.yieldNow, { until: () => descriptors() <= before })
    })))

  const intruders = {
    "a file": (file: string) => Effect.sync(() => fs.writeFileSync(file, "mine")),
    "a link": (file: string) => Effect.sync(() => fs.symlinkSync("nothing", file)),
    "a dead socket": (file: string) => deadSocket(file),
    "a live server": (file: string) =>
      Effect.acquireRelease(
        Effect.callback<net.Server>((resume) => {
          const server = net.createServer((conn) => conn.end("plain\n"))
          server.listen(file, () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
  }

  it.live.each(["a file", "a link", "a dead socket", "a live server"] as const)(
    "leaves %s alone that has replaced its socket, reports it, and comes back when it is gone",
    (name) =>
      withKept(Effect.fnUntraced(function*(setup) {
        const { host, socketPath, warning } = setup
        // Put in place in one step, as by somebody who was faster.
        const theirs = path.join(host.tmpdir, "theirs")
        yield* intruders[name](theirs)
        const { ino } = fs.lstatSync(theirs)
        fs.renameSync(theirs, socketPath)
        assert.strictEqual(yield* warning, replaced("socket", socketPath))
        assert.strictEqual(fs.lstatSync(socketPath).ino, ino)
        fs.unlinkSync(socketPath)
        assert.strictEqual(yield* warning, republished("socket", socketPath))
        yield* isAnswered(setup)
      })).pipe(Effect.map(({ host }) => assert.deepStrictEqual(left(host), [])))
  )

  it.live("leaves what has replaced its socket when it ends", () =>
    withKept(Effect.fnUntraced(function*({ host, socketPath, warning }) {
      fs.writeFileSync(path.join(host.tmpdir, "theirs"), "mine")
      fs.renameSync(path.join(host.tmpdir, "theirs"), socketPath)
      yield* warning
      return socketPath
    })).pipe(Effect.map(({ result }) => assert.strictEqual(fs.readFileSync(result, "utf8"), "mine"))))

  it.live.each([
    { name: "another token", text: (own: string) => own.replace(/[0-9a-f]{64}/, "ab".repeat(32)) },
    { name: "anything else", text: () => "mine" }
  ])(
    "leaves a capability file with $name alone, reports it, and comes back when it is gone",
    ({ text }) =>
      withKept(Effect.fnUntraced(function*({ capabilityFile, host, warning }) {
        const own = fs.readFileSync(capabilityFile, "utf8")
        const theirs = path.join(host.tmpdir, "theirs")
        fs.writeFileSync(theirs, text(own), { mode: 0o600 })
        fs.renameSync(theirs, capabilityFile)
        assert.strictEqual(yield* warning, replaced("capability", capabilityFile))
        assert.strictEqual(fs.readFileSync(capabilityFile, "utf8"), text(own))
        fs.unlinkSync(capabilityFile)
        assert.strictEqual(yield* warning, republished("capability", capabilityFile))
        assert.strictEqual(fs.readFileSync(capabilityFile, "utf8"), own)
      }))
  )

  it.live("counts what it has published again", () =>
    withKept(Effect.fnUntraced(function*({ capabilityFile, socketPath, warning }) {
      fs.unlinkSync(socketPath)
      yield* warning
      fs.unlinkSync(capabilityFile)
      yield* warning
      const counted = (yield* Metric.snapshot).filter(({ id }) => id === "effect_messaging_republished")
      assert.sameDeepMembers(counted.map(({ attributes }) => attributes), [{ what: "socket" }, { what: "capability" }])
    })).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})

import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import type { HostFacts } from "../src/Host.ts"
import * as Layers from "../src/Layers.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { Peers } from "../src/Peers.ts"
import type { Transport } from "../src/Transport.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

const socketPath = "/run/peer.sock"
const directoryOf = (host: HostFacts) => path.join(host.homedir, ".claude", "messaging-capabilities")

/** A pid that no process has: that of a child that has ended. */
const endedPid = spawnSync(process.execPath, ["--eval", ""]).pid

/** Files by name in the directory of capabilities, each holding a line. */
const plant = (host: HostFacts, ...names: ReadonlyArray<string>) => {
  fs.mkdirSync(directoryOf(host), { recursive: true, mode: 0o700 })
  for (const name of names) fs.writeFileSync(path.join(directoryOf(host), name), "{", { mode: 0o600 })
}
const temporary = (pid: number, of = socketPath) => `${Capability.fileName(of)}.${pid}-0011223344556677.tmp`

const kept = [
  temporary(process.pid),
  `${Capability.fileName(socketPath)}.${endedPid}-0011.tmp`,
  `notes.${endedPid}-0011223344556677.tmp`,
  "notes"
].sort()

const withTransport = <A, E, R>(use: (transport: Transport["Service"], directory: string) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const directory = path.join(host.tmpdir, "mine")
    fs.mkdirSync(directory, { mode: 0o700 })
    return yield* use(yield* NodeTransport.make, directory)
  })).pipe(Effect.provide(NodeFileSystem.layer))

describe("what killed processes have left", () => {
  describe("while they wrote a capability", () => {
    it.live("is removed by the next start, and nothing else", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        plant(host, temporary(endedPid), temporary(endedPid, "/run/other.sock"), ...kept)
        const capability = yield* Capability.make
        yield* Effect.scoped(capability.publish(socketPath))
        assert.deepStrictEqual(contents(directoryOf(host)), kept)
      })).pipe(Effect.provide(NodeFileSystem.layer)))

    it.live("is removed by a sweep, and nothing else", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        plant(host, temporary(endedPid), ...kept)
        yield* Effect.provide(Peers.use((peers) => peers.sweep), Layers.layerClient())
        assert.deepStrictEqual(contents(directoryOf(host)), kept)
      })))

    it.live("stays where it is no file", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        plant(host, "notes")
        fs.symlinkSync("notes", path.join(directoryOf(host), temporary(endedPid)))
        const capability = yield* Capability.make
        yield* capability.sweep
        assert.deepStrictEqual(contents(directoryOf(host)), [temporary(endedPid), "notes"].sort())
      })).pipe(Effect.provide(NodeFileSystem.layer)))

    it.live("has the name that the sweep looks for", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        const seen: Array<string> = []
        fs.mkdirSync(directoryOf(host), { recursive: true, mode: 0o700 })
        const watcher = fs.watch(directoryOf(host), (_, name) => void seen.push(name ?? ""))
        yield* Effect.addFinalizer(() => Effect.sync(() => watcher.close()))
        const capability = yield* Capability.make
        yield* capability.publish(socketPath)
        const isTemporary = (name: string) =>
          new RegExp(`^[0-9a-f]{64}\\.json\\.${process.pid}-[0-9a-f]{16}\\.tmp$`).test(name)
        yield* Effect.repeat(Effect.yieldNow, { until: () => seen.some(isTemporary) })
      })).pipe(Effect.provide(NodeFileSystem.layer)))
  })

  describe("while they took a path", () => {
    it.live("is removed by the next start in the same directory, and nothing else", () =>
      withTransport(Effect.fnUntraced(function*(transport, directory) {
        yield* deadSocket(path.join(directory, ".00112233"))
        yield* deadSocket(path.join(directory, ".mine"))
        fs.writeFileSync(path.join(directory, ".44556677"), "mine")
        yield* Effect.scoped(transport.listen({ socketPath: path.join(directory, "messaging.sock") }))
        assert.deepStrictEqual(contents(directory), [".44556677", ".mine"])
      })))

    it.live("is kept while somebody listens there", () =>
      withTransport(Effect.fnUntraced(function*(transport, directory) {
        yield* transport.listen({ socketPath: path.join(directory, ".00112233") })
        yield* Effect.scoped(transport.listen({ socketPath: path.join(directory, "messaging.sock") }))
        assert.strictEqual(yield* transport.probe(path.join(directory, ".00112233")), "live")
      })))

    it.live("is removed with the dead socket of a path that the user chose", () =>
      withTransport(Effect.fnUntraced(function*(transport, directory) {
        const socketPath = path.join(directory, "messaging.sock")
        yield* deadSocket(socketPath)
        fs.linkSync(socketPath, path.join(directory, ".00112233"))
        assert.strictEqual(yield* transport.discard(socketPath), "removed")
        assert.deepStrictEqual(contents(directory), [])
      })))
  })
})

/**
 * Two figures about peers. How long `Peers.list` takes with 200 capabilities of which 150 are dead; and what the first
 * ping over a new connection of protocol 2 costs, handshake included, as a ratio to a plain `node:net` connect, line and
 * answer in the same round.
 *
 * Run it with `npm run bench:peers`. Everything runs in one process, so both ends share one core.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Context, Effect, Layer, Option } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import * as Capability from "../src/Capability.ts"
import { Host } from "../src/Host.ts"
import * as Layers from "../src/Layers.ts"
import { Messaging } from "../src/Messaging.ts"
import { Peers } from "../src/Peers.ts"

const [alive, dead, looks, handshakes] = [50, 150, 9, 400]

const now = Effect.sync(() => performance.now())
const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const start = yield* now
    yield* effect
    return (yield* now) - start
  })
const sorted = (values: ReadonlyArray<number>) => [...values].sort((a, b) => a - b)
const median = (values: ReadonlyArray<number>) => sorted(values)[values.length >> 1] ?? Number.NaN
const print = (text: string) => process.stdout.write(`${text}\n`)

const plainPing = (socketPath: string) =>
  Effect.callback<void>((resume) => {
    const socket = net.createConnection(socketPath)
    socket.once("data", () => socket.destroy())
    socket.once("close", () => resume(Effect.void))
    socket.write("ping\n")
  })

const plainServer = (socketPath: string) =>
  Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer((conn) => {
        conn.on("error", () => {})
        conn.once("data", () => conn.write("pong\n"))
      })
      server.listen(socketPath, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

const bench = (directory: string) =>
  Effect.gen(function*() {
    const endpoints = yield* Effect.forEach(Array.from({ length: alive }), () => Layer.build(Layers.layer()))
    const [first] = endpoints
    if (first === undefined) return
    const capability = Context.get(
      yield* Layer.build(Layer.provide(Capability.layer, NodeFileSystem.layer)),
      Capability.Capability
    )
    for (let i = 0; i < dead; i++) yield* capability.publish(path.join(directory, `dead-${i}`))
    const peers = Context.get(first, Peers)
    const lists: Array<number> = []
    for (let i = 0; i < looks; i++) lists.push(yield* timed(peers.list))
    print(`Node ${process.versions.node}, ${os.cpus()[0]?.model}, ${os.cpus().length} cores`)
    print(
      `list, ${alive} alive and ${dead} dead: median ${median(lists).toFixed(0)} ms, most ${
        Math.max(...lists).toFixed(0)
      } ms`
    )

    const target = path.join(directory, "plain")
    yield* plainServer(target)
    const { socketPath } = Option.getOrThrow(Context.get(first, Messaging).address)
    const ratios: Array<number> = []
    for (let i = 0; i < handshakes; i++) {
      const plain = yield* timed(plainPing(target))
      const proven = yield* Effect.scoped(Effect.gen(function*() {
        const client = Context.get(yield* Layer.build(Layers.layerClient()), Messaging)
        return yield* timed(client.ping(socketPath))
      }))
      if (i >= handshakes / 4) ratios.push(proven / plain)
    }
    const quartile = sorted(ratios)
    print(
      `first ping with lookup and handshake, to plain connect and ping: median ratio ${median(ratios).toFixed(1)}, ` +
        `half of them from ${quartile[ratios.length >> 2]?.toFixed(1)} to ${
          quartile[(3 * ratios.length) >> 2]?.toFixed(1)
        }`
    )
  })

await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "bench-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true }))
  )
  const host = { ...(yield* Host), homedir: directory, tmpdir: directory, environment: {} }
  yield* Effect.provideService(Effect.scoped(bench(directory)), Host, host)
})))

/**
 * Connections accepted per second: Effect's `NodeSocketServer`, this library's acceptor, and plain `node:net` as the
 * floor, each connect-send-answer-close from a second process, in turns, as ratios to the floor of the same round.
 *
 * Run it with `npm run bench`. Absolute numbers mean little on a shared machine; the ratios are what to read.
 */
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { Effect } from "effect"
import { Socket } from "effect/socket"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { accept } from "../src/internal/acceptor.ts"

const connections = 4_000
const inParallel = 16
const rounds = 9

/** The client: connects, writes a line, waits for one, hangs up. Prints how long all of them took, in milliseconds. */
const client = (socketPath: string) =>
  Effect.callback<number>((resume) => {
    const source = `
      const net = require("node:net")
      let left = ${connections}, open = 0
      const start = process.hrtime.bigint()
      const next = () => {
        if (left-- <= 0) { if (open === 0) process.stdout.write(String(Number(process.hrtime.bigint() - start) / 1e6)); return }
        open++
        const socket = net.createConnection(${JSON.stringify(socketPath)})
        socket.once("data", () => socket.end())
        socket.once("close", () => { open--; next() })
        socket.write("ping\\n")
      }
      for (let i = 0; i < ${inParallel}; i++) next()`
    const child = spawn(process.execPath, ["-e", source], { stdio: ["ignore", "pipe", "inherit"] })
    let text = ""
    child.stdout.on("data", (bytes) => text += bytes)
    child.once("exit", () => resume(Effect.succeed(Number(text))))
  })

/** Answers one line with one line, then waits for the peer to hang up: what every connection has to do at least. */
const answer = (socket: Socket.Socket) =>
  Effect.gen(function*() {
    const pull = yield* Socket.readerBytes(socket)
    const writer = yield* socket.writer
    yield* pull
    yield* writer.write("pong\n")
    return yield* Effect.forever(pull)
  }).pipe(Effect.scoped, Effect.ignore)

const listening = (server: net.Server, socketPath: string) =>
  Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      server.listen(socketPath, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
      })
  )

const servers = {
  "node:net (floor)": (socketPath: string) =>
    listening(
      net.createServer((conn) => {
        conn.on("error", () => {})
        conn.once("data", () => conn.write("pong\n"))
      }),
      socketPath
    ),
  "own acceptor": (socketPath: string) =>
    Effect.gen(function*() {
      const server = yield* listening(net.createServer({ allowHalfOpen: true, pauseOnConnect: true }), socketPath)
      const { attach, listener } = yield* accept({ address: socketPath, maxWaiting: 128, closeTimeout: 1_000 })
      attach(server)
      yield* Effect.forkScoped(listener.run(answer))
    }),
  NodeSocketServer: (socketPath: string) =>
    Effect.gen(function*() {
      const server = yield* NodeSocketServer.make({ path: socketPath })
      yield* Effect.forkScoped(server.run(answer))
    })
}

const measure = (name: keyof typeof servers, directory: string, round: number) =>
  Effect.scoped(Effect.gen(function*() {
    const socketPath = path.join(directory, `${name.replaceAll(/\W/g, "")}-${round}`)
    yield* Effect.asVoid(servers[name](socketPath))
    return (connections / (yield* client(socketPath))) * 1_000
  }))

const median = (values: ReadonlyArray<number>) => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

const print = (text: string) => process.stdout.write(`${text}\n`)

const bench = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "bench-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true }))
  )
  const names = Object.keys(servers) as Array<keyof typeof servers>
  const rates = new Map(names.map((name) => [name, [] as Array<number>]))
  for (let round = 0; round < rounds + 1; round++) {
    for (const name of names) {
      const rate = yield* measure(name, directory, round)
      // The first round warms up.
      if (round > 0) rates.get(name)?.push(rate)
    }
  }
  const floor = rates.get("node:net (floor)") ?? []
  print(`Node ${process.versions.node}, ${os.cpus()[0]?.model}, ${os.cpus().length} cores`)
  print(`connect, write, answer, close; ${connections} per round, ${inParallel} in parallel, ${rounds} rounds in turns`)
  print("")
  print(`${"".padEnd(18)}${"per second".padStart(12)}${"ratio".padStart(8)}   spread of the ratio`)
  for (const [name, values] of rates) {
    const ratios = values.map((value, i) => value / (floor[i] ?? Number.NaN))
    const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`
    print(
      `${name.padEnd(18)}${median(values).toFixed(0).padStart(12)}${median(ratios).toFixed(2).padStart(8)}   ${spread}`
    )
  }
})

await Effect.runPromise(Effect.scoped(bench))

/** 128 peers that flood an endpoint and read nothing of what it answers. The endpoint is a process of its own. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import * as readline from "node:readline"
import { figure } from "../utils/figure.ts"
import { hmac } from "../utils/judge.ts"
import { fixture } from "../utils/programs.ts"
import { connectRaw, type RawPeer } from "../utils/rawPeer.ts"
import { withTempHost } from "../utils/tempHost.ts"

const program = await fixture("flooded")
const MiB = 2 ** 20
const peers = 128

interface Flooded {
  readonly socketPath: string
  readonly token: string
  /** Sends the endpoint's process a line and gives its answer. */
  readonly tell: (line: string) => Effect.Effect<Record<string, number>>
}

const withFlooded = <A, E, R>(writeTimeout: number, use: (flooded: Flooded) => Effect.Effect<A, E, R>) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const child = yield* Effect.acquireRelease(
        Effect.sync((): ChildProcess =>
          spawn(
            process.execPath,
            ["--expose-gc", program, String(writeTimeout)],
            { env: { HOME: host.homedir, TMPDIR: host.tmpdir }, stdio: ["pipe", "pipe", "inherit"] }
          )
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const { stdin, stdout } = child
      if (stdin === null || stdout === null) return yield* Effect.die("the endpoint has no pipes")
      const lines = readline.createInterface(stdout)
      const next = Effect.callback<unknown>((resume) => {
        lines.once("line", (line) => resume(Effect.sync(() => JSON.parse(line))))
      })
      const socketPath = String(yield* next)
      const name = `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
      const file = path.join(host.homedir, ".claude", "messaging-capabilities", name)
      const { authToken } = JSON.parse(fs.readFileSync(file, "utf8")) as { readonly authToken: string }
      return yield* use({
        socketPath,
        token: authToken,
        tell: (line) =>
          Effect.andThen(Effect.sync(() => stdin.write(`${line}\n`)), next) as Effect.Effect<Record<string, number>>
      })
    })
  )

const line = (value: unknown) => `${JSON.stringify(value)}\n`

interface Flood {
  /** When the endpoint last took something, and when it hung up. */
  progressAt: number
  closedAt: number | undefined
}

type What = "ping" | "query"

/** Proves itself, stops reading, and writes for ever: pings by protocol 1 or queries by protocol 2. */
const flood = Effect.fnUntraced(function*({ socketPath, token }: Flooded, peer: RawPeer, what: What) {
  const isFirst = what === "ping"
  if (isFirst) {
    yield* peer.write(line({ type: "ping", meta: { authToken: token } }))
    yield* peer.line
  } else {
    const nonce = "5".repeat(64)
    yield* peer.write(line({ type: "hello", protocol: 2, nonce }))
    const challenge = JSON.parse((yield* peer.line) ?? "null") as { readonly nonce: string }
    const proof = hmac(token, ["client", socketPath, "", nonce, challenge.nonce])
    yield* peer.write(line({ type: "auth", proof }))
  }
  peer.socket.pause()
  let n = 0
  const more = () =>
    Array.from({ length: 100 }, () =>
      isFirst
        ? line({ type: "ping", meta: { authToken: token } })
        : line({ type: "query", data: "?", meta: { messageId: String(n++) } })).join("")
  const state: Flood = { progressAt: performance.now(), closedAt: undefined }
  const pump = () => {
    peer.socket.write(more(), (error) => {
      if (error) return
      state.progressAt = performance.now()
      pump()
    })
  }
  peer.socket.once("close", () => {
    state.closedAt = performance.now()
  })
  pump()
  return state
})

const floodAll = (flooded: Flooded, whatOf: (n: number) => What) =>
  Effect.forEach(
    Array.from({ length: peers }, (_, n) => whatOf(n)),
    (what) => Effect.flatMap(connectRaw(flooded.socketPath), (peer) => flood(flooded, peer, what))
  )

const until = (ready: () => boolean) =>
  Effect.callback<void>((resume) => {
    const timer = setInterval(() => {
      if (ready()) resume(Effect.void)
    }, 10)
    return Effect.sync(() => clearInterval(timer))
  })

/** The endpoint takes nothing more from any of them. */
const blocked = (floods: ReadonlyArray<Flood>) =>
  until(() => floods.every(({ progressAt }) => performance.now() - progressAt > 200))

const eitherOf = (n: number): What => n % 2 === 0 ? "ping" : "query"

describe("128 peers that flood and never read", () => {
  it.live("are closed within 1 s of the write deadline", () =>
    withFlooded(1_000, (flooded) =>
      Effect.gen(function*() {
        const { sockets } = yield* flooded.tell("held")
        const floods = yield* floodAll(flooded, eitherOf)
        yield* until(() => floods.every(({ closedAt }) => closedAt !== undefined))
        for (const { closedAt = Number.POSITIVE_INFINITY, progressAt } of floods) {
          assert.isBelow(closedAt - progressAt, 2_000)
        }
        assert.strictEqual((yield* flooded.tell("held"))["sockets"], sockets)
      })))

  it.live("do not keep the endpoint from releasing everything within 1 s", () =>
    withFlooded(60_000, (flooded) =>
      Effect.gen(function*() {
        const floods = yield* floodAll(flooded, eitherOf)
        yield* blocked(floods)
        // Until the write deadline all of them are there, and answers wait.
        assert.deepStrictEqual(floods.filter(({ closedAt }) => closedAt !== undefined), [])
        const { millis } = yield* flooded.tell("close")
        assert.isBelow(millis ?? Number.POSITIVE_INFINITY, 1_000)
      })))

  it.live.each<{ readonly what: What }>([{ what: "ping" }, { what: "query" }])(
    "cost at most 32 MiB when each floods with: $what",
    ({ what }) =>
      withFlooded(60_000, (flooded) =>
        Effect.gen(function*() {
          const floods = yield* floodAll(flooded, () => what)
          yield* blocked(floods)
          const { growth = Number.POSITIVE_INFINITY } = yield* flooded.tell("held")
          figure(`growth for ${peers} peers that flood and never read, each ${what}: ${(growth / MiB).toFixed(1)} MiB`)
          assert.isBelow(growth / MiB, 32)
        }))
  )
})

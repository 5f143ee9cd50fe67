import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { Messaging } from "../../src/Messaging.ts"
import { sized } from "../utils/effort.ts"
import { fixture } from "../utils/programs.ts"
import { frame, ping, pong, replied, type Server, withServer } from "../utils/server.ts"

const program = await fixture("crowd")

/** A crowd in a process of its own, at its full number when returned. `leave` ends it and answers with its counts. */
const gather = Effect.fnUntraced(function*({ socketPath }: Server, holders: number, rate: number, says: string) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [program, socketPath, `${holders}`, `${rate}`, says], {
        stdio: ["pipe", "pipe", "inherit"]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const lines: Array<string> = []
  let wake = () => {}
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    lines.push(...text.trimEnd().split("\n"))
    wake()
  })
  const line = Effect.callback<string>((resume) => {
    wake = () => {
      const next = lines.shift()
      if (next !== undefined) resume(Effect.succeed(next))
    }
    wake()
  })
  assert.strictEqual(yield* line, "ready")
  const leave = Effect.andThen(
    Effect.sync(() => child.stdin.end()),
    Effect.map(
      line,
      (text) => JSON.parse(text) as { readonly connected: number; readonly turnedOut: number; readonly refused: number }
    )
  )
  return { leave }
})

/** One message over a connection of its own, from a client that has sent nothing before: the library's, or a plain one. */
const callWithLibrary = ({ socketPath }: Server) =>
  Messaging.use((messaging) => messaging.send(socketPath, Message.text("a"))).pipe(
    Effect.provide(Layers.layerClient()),
    Effect.isSuccess
  )

const callPlainly = ({ connect, token }: Server) =>
  Effect.gen(function*() {
    const peer = yield* connect
    yield* peer.write(frame(token, { data: "a" }))
    return (yield* peer.line)?.includes("\"data\":\"ok\"") ?? false
  }).pipe(Effect.scoped, Effect.catchDefect(() => Effect.succeed(false)))

const hello = `{"type":"hello","protocol":2,"nonce":"${"a".repeat(64)}"}\\n`
const guess = `{"type":"text","meta":{"authToken":"${"0".repeat(64)}"}}\\n`

describe("a flood of peers that never prove themselves", () => {
  it.live.each([
    { name: "silent", says: "", seconds: sized(10, 60) },
    { name: "greeting", says: hello, seconds: sized(5, 60) },
    { name: "guessing", says: guess, seconds: sized(5, 60) }
  ])(
    "160 that come back at once and 1,000 a second, $name, keep out at most 1% of legitimate calls",
    ({ says, seconds }) =>
      withServer(Effect.fnUntraced(function*(server) {
        yield* Effect.forkScoped(server.inbox.consume(() => Effect.void))
        const proven = yield* server.connect
        const noticesNothing = Effect.andThen(
          proven.write(ping(server.token)),
          replied(proven, pong(server.socketPath))
        )
        yield* noticesNothing
        const crowd = yield* gather(server, 160, 1_000, says)
        const end = (yield* Clock.currentTimeMillis) + seconds * 1_000
        const outcomes: Array<boolean> = []
        // So many at least that one failure is at most 1%.
        while ((yield* Clock.currentTimeMillis) < end || outcomes.length < 100) {
          outcomes.push(yield* callPlainly(server), yield* callWithLibrary(server))
          yield* noticesNothing
        }
        const { connected, turnedOut } = yield* crowd.leave
        const succeeded = outcomes.filter((outcome) => outcome).length
        assert.isAtLeast(succeeded / outcomes.length, 0.99, `${succeeded} of ${outcomes.length}`)
        // The crowd was there, and pushed.
        assert.isAbove(connected, 160 + 100 * seconds)
        assert.isAbove(turnedOut, 160)
      }))
  )
})

/** What the system lets a listener ask for; elsewhere it is not known. */
const longestBacklog = () => {
  try {
    return Number(fs.readFileSync("/proc/sys/net/core/somaxconn", "utf8"))
  } catch {
    return 0
  }
}

describe("a burst of 1,000 connects", () => {
  it.live.skipIf(longestBacklog() < 1_000)(
    "while the endpoint is busy fails none of them (only where the system keeps so many waiting)",
    () =>
      withServer(Effect.fnUntraced(function*({ socketPath }) {
        // A connect to a Unix socket is made, or fails, within the call; nothing is accepted before this returns.
        const codes = yield* Effect.all(
          Array.from({ length: 1_000 }, () =>
            Effect.callback<string>((resume) => {
              const socket = net.createConnection({ path: socketPath })
              socket.once("connect", () => {
                resume(Effect.succeed("connected"))
                socket.destroy()
              })
              socket.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? "")))
            })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual([...new Set(codes)], ["connected"])
      }))
  )
})

describe("guessing", () => {
  it.live("one token after the other takes longer and longer, and each guess is refused in the same words", () =>
    withServer(Effect.fnUntraced(function*({ connect }) {
      const before = yield* Clock.monotonicTimeNanos
      const answers = new Set<string>()
      for (let n = 0; n < 12; n++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const peer = yield* connect
          yield* peer.write(guess.replace("\\n", "\n"))
          answers.add((yield* peer.rest).join().replace(/"ts":"[^"]+"/, ""))
        }))
      }
      const millis = Number((yield* Clock.monotonicTimeNanos) - before) / 1e6
      // 10 + 20 + … + 1,000, less what is forgotten meanwhile. Without the wait it is a few milliseconds.
      assert.isAbove(millis, 700)
      assert.deepStrictEqual([...answers], [`{"type":"error","data":"unauthorized",}`])
    })))
})

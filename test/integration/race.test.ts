/** Eight processes start at one path at once: one gets it, and the others leave nothing. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileName } from "../../src/Capability.ts"
import { deadSocket } from "../utils/deadSocket.ts"
import { sized } from "../utils/effort.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { ping, pong, timeless } from "../utils/server.ts"
import { contents, tempDirectory } from "../utils/tempHost.ts"
import { type Failed, type Worker, worker } from "../utils/worker.ts"

const starters = 8
const rounds = sized(200, 2_000)
const freshRounds = sized(2, 30)
// Sixteen new processes for each change; on a machine that is busy with other things that is more than a minute.
const timeout = sized(180_000, 3_600_000)

interface Place {
  readonly home: string
  readonly socketPath: string
  /** The capability file. */
  readonly file: string
}

/** A private home with a directory for the socket, and one for capabilities. */
const makePlace = Effect.gen(function*() {
  const home = yield* tempDirectory
  const socketPath = path.join(home, "own", "messaging.sock")
  fs.mkdirSync(path.dirname(socketPath), { mode: 0o700 })
  const capabilities = path.join(home, "messaging-capabilities")
  fs.mkdirSync(capabilities, { mode: 0o700 })
  return { home, socketPath, file: path.join(capabilities, fileName(socketPath)) } satisfies Place
})

const starter = ({ home }: Place) =>
  worker({ env: { PATH: process.env["PATH"], HOME: home, TMPDIR: home, CLAUDE_CONFIG_DIR: home } })

const published = ({ file }: Place) =>
  JSON.parse(fs.readFileSync(file, "utf8")) as { readonly authToken: string; readonly pid: number }

const entries = ({ home }: Place) => contents(home).filter((name) => name.includes("/"))

/**
 * One round: all start at once. Exactly one succeeds, the others are told that it is there; it answers to the published
 * token, and there is nothing on disk but what is its.
 */
const race = Effect.fnUntraced(function*(place: Place, workers: ReadonlyArray<Worker>) {
  const { file, home, socketPath } = place
  const outcomes = yield* Effect.forEach(
    workers,
    (worker) =>
      Effect.match(worker.tell({ do: "start", socketPath }), {
        onFailure: (error) => ({ worker, error }),
        onSuccess: () => ({ worker, error: undefined })
      }),
    { concurrency: "unbounded" }
  )
  const reasons = outcomes.map(({ error }) => (error?.["reason"] as Failed | undefined)?.["_tag"] ?? error ?? "won")
  assert.deepStrictEqual(reasons.filter((reason) => reason !== "AddressInUse"), ["won"])
  const { worker: winner } = outcomes.find(({ error }) => error === undefined) ?? assert.fail()

  const { authToken, pid } = published(place)
  assert.strictEqual(pid, winner.pid)
  yield* Effect.scoped(Effect.gen(function*() {
    const peer = yield* connectRaw(socketPath)
    yield* peer.write(ping(authToken))
    assert.strictEqual(timeless(yield* peer.line), pong(socketPath))
  }))
  assert.deepStrictEqual(entries(place), [file, socketPath].map((at) => path.relative(home, at)).sort())
  return winner
})

const stop = (place: Place, winner: Worker) =>
  Effect.andThen(
    winner.tell({ do: "stop" }),
    Effect.sync(() => assert.deepStrictEqual(entries(place), []))
  )

describe(`${starters} processes that start at one path at once`, () => {
  it.live(`have exactly one winner, in ${rounds} rounds, half of them over a dead socket`, () =>
    Effect.gen(function*() {
      const place = yield* makePlace
      const workers = yield* Effect.replicateEffect(starter(place), starters, { concurrency: 2 })
      const winners = new Set<number>()
      for (let round = 0; round < rounds; round++) {
        if (round % 2 === 1) yield* deadSocket(place.socketPath)
        const winner = yield* race(place, workers)
        winners.add(winner.pid)
        yield* stop(place, winner)
      }
      // Had one of them always been first, nothing would have been raced for.
      assert.isAbove(winners.size, 1)
    }))

  it.live(
    `have exactly one winner after the last one was killed, in ${freshRounds} rounds of new processes`,
    () =>
      Effect.gen(function*() {
        const place = yield* makePlace
        const tokens = new Set<string>()
        for (let round = 0; round < freshRounds; round++) {
          const scope = yield* Scope.make()
          const winner = yield* Effect.gen(function*() {
            // Not waited for: the start of each process is part of the race.
            const workers = yield* Effect.replicateEffect(starter(place), starters)
            return yield* race(place, workers)
          }).pipe(Scope.provide(scope))
          tokens.add(published(place).authToken)
          yield* winner.kill
          yield* Scope.close(scope, Exit.void)
          // The dead socket and the capability of the killed winner are what the next round finds.
          assert.strictEqual(entries(place).length, 2)
        }
        assert.strictEqual(tokens.size, freshRounds)
      }),
    timeout
  )
})

/**
 * A real process kills itself with SIGKILL at each of its file and socket operations, from the first of its start to the
 * last of its release. Whatever it leaves, the next start succeeds and a sweep takes it away.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import type { HostFacts } from "../../src/Host.ts"
import * as Layers from "../../src/Layers.ts"
import * as Messaging from "../../src/Messaging.ts"
import * as Peers from "../../src/Peers.ts"
import { makeRandom, seed, sized } from "../utils/effort.ts"
import { figure } from "../utils/figure.ts"
import { leftovers } from "../utils/leftovers.ts"
import { fixture } from "../utils/programs.ts"
import { tempDirectory, withTempHost } from "../utils/tempHost.ts"

const program = await fixture("crash")

interface Ended {
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** One life of the fixture, to its end. What the first one compiled is kept in `cache` for the others. */
const live = (host: HostFacts, cache: string, k: number) =>
  Effect.callback<Ended>((resume) => {
    const child = spawn(process.execPath, [program, host.homedir, String(k)], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NODE_COMPILE_CACHE: cache }
    })
    let [stdout, stderr] = ["", ""]
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text)
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text)
    child.once("close", (_, signal) => resume(Effect.succeed({ signal, stdout, stderr })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** The socket paths that the capability files name. */
const published = (host: HostFacts): ReadonlyArray<string> => {
  const directory = path.join(host.homedir, ".claude", "messaging-capabilities")
  return fs.readdirSync(directory).filter((name) => name.endsWith(".json")).map((name) =>
    (JSON.parse(fs.readFileSync(path.join(directory, name), "utf8")) as { readonly socketPath: string }).socketPath
  )
}

/** Starts beside what is left, sweeps, and is released. */
const startAndSweep = (host: HostFacts) =>
  Effect.scoped(Effect.gen(function*() {
    const services = yield* Layer.build(Layers.layer())
    const messaging = Context.get(services, Messaging.Messaging)
    const { socketPath } = Option.getOrThrow(messaging.address)
    yield* messaging.ping(socketPath)
    const swept = yield* Context.get(services, Peers.Peers).sweep
    assert.deepStrictEqual(published(host), [socketPath])
    return swept
  }))

const kills = sized(50, 2_000)

/** One operation of each kind in each phase, then any others, and all over again while there are kills left. */
const choose = (operations: ReadonlyArray<string>, random: () => number): ReadonlyArray<number> => {
  const shuffled = operations.map((label, n) => ({ label, k: n + 1, at: random() })).sort((a, b) => a.at - b.at)
  const first = new Map(shuffled.map((operation) => [operation.label, operation]))
  const others = shuffled.filter((operation) => first.get(operation.label) !== operation)
  const ordered = [...first.values(), ...others].map(({ k }) => k)
  return Array.from({ length: kills }, (_, n) => ordered[n % ordered.length] ?? 1)
}

describe("an endpoint that is killed", () => {
  it.live(`at any of its operations leaves nothing that a sweep does not remove (${kills} kills)`, () =>
    Effect.gen(function*() {
      const cache = yield* tempDirectory
      const { stderr, stdout } = yield* withTempHost((host) => live(host, cache, 0))
      assert.strictEqual(stderr, "")
      const operations = JSON.parse(stdout) as ReadonlyArray<string>
      const points = choose(operations, makeRandom(seed))
      const problems: Array<string> = []
      let swept = 0
      yield* Effect.forEach(points, (k) =>
        withTempHost(Effect.fnUntraced(function*(host) {
          const { signal, stderr } = yield* live(host, cache, k)
          assert.deepStrictEqual({ signal, stderr }, { signal: "SIGKILL", stderr: "" })
          swept += (yield* startAndSweep(host)).length
          for (const left of leftovers(host)) problems.push(`killed before ${k}, ${operations[k - 1]}: ${left} is left`)
        })), { concurrency: 2 })
      const labels = new Set(points.map((k) => operations[k - 1]))
      figure(`killed ${kills} times, at ${labels.size} kinds of ${operations.length} operations`)
      assert.deepStrictEqual(problems, [])
      assert.isAtLeast(labels.size, 12)
      assert.isAbove(swept, kills / 4)
    }))
})

/**
 * Lets systems take turns (A B C A B C …), so that whatever else the machine does meets all of them alike; and gives what
 * each did as a ratio to the floor of the same round. Processes live as long as the row: only the first round, which is
 * not counted, meets code that has not been compiled.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as processes from "./processes.ts"
import * as stats from "./stats.ts"
import type { Load, Target } from "./system.ts"

/** A server and a client that belong together, under the name that the table shows. */
export interface Contender {
  readonly name: string
  readonly server: string
  readonly client: string
  /** What differs from the row's load. */
  readonly load?: Partial<Load> | undefined
  /** The library, where it is not the one the run was started with. */
  readonly library?: string | undefined
}

export interface Settings {
  readonly rounds: number
  readonly millis: number
  readonly library: string
  readonly cores?: string | undefined
  /** Where to leave CPU profiles; none are made if undefined. */
  readonly profiles?: string | undefined
  readonly progress: (text: string) => void
}

interface Running {
  readonly contender: Contender
  readonly server: processes.Role
  readonly client: processes.Role
  readonly target: Target
  readonly directory: string
}

/** What one contender did in one round. */
export interface Turn {
  readonly perSecond: number
  readonly serverMicros: number
  readonly clientMicros: number
  readonly p50?: number | undefined
  readonly p99?: number | undefined
}

const launch = async (contender: Contender, settings: Settings): Promise<Running> => {
  const directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "emb-")))
  const start = (system: string, end: string) =>
    processes.start({
      system,
      directory,
      library: contender.library ?? settings.library,
      cores: settings.cores,
      nodeOptions: settings.profiles === undefined ? [] : [
        "--cpu-prof",
        `--cpu-prof-dir=${settings.profiles}`,
        `--cpu-prof-name=${contender.name.replaceAll(/\W+/g, "-")}-${end}.cpuprofile`
      ]
    })
  const server = start(contender.server, "server")
  const client = start(contender.client, "client")
  return { contender, server, client, directory, target: await server.serve({ directory }) }
}

const turn = async ({ client, contender, server, target }: Running, load: Load, millis: number): Promise<Turn> => {
  await client.connect(target, { ...load, ...contender.load })
  const [serverBefore, clientBefore] = [await server.cpu(), await client.cpu()]
  const sample = await client.run(millis)
  const [serverAfter, clientAfter] = [await server.cpu(), await client.cpu()]
  await client.disconnect()
  const each = (micros: number) => micros / sample.acks
  return {
    perSecond: (sample.acks / sample.millis) * 1_000,
    serverMicros: each(serverAfter - serverBefore),
    clientMicros: each(sample.cpuMicros ?? clientAfter - clientBefore),
    ...sample.latencies
  }
}

/** What a contender did in all rounds that count. */
export interface Result {
  readonly name: string
  readonly perSecond: stats.Spread
  /** To the first contender of the row, the floor. */
  readonly ratio: stats.Spread
  /** CPU time for each message. */
  readonly serverMicros: number
  readonly clientMicros: number
  readonly p50?: stats.Spread | undefined
  readonly p50Ratio?: stats.Spread | undefined
  readonly p99?: stats.Spread | undefined
}

const summarize = (name: string, turns: ReadonlyArray<Turn>, floor: ReadonlyArray<Turn>): Result => {
  const median = (pick: (turn: Turn) => number) => stats.spread(turns.map(pick)).median
  const rates = (turns: ReadonlyArray<Turn>) => turns.map(({ perSecond }) => perSecond)
  const p50 = (turns: ReadonlyArray<Turn>) => turns.flatMap(({ p50 }) => p50 ?? [])
  const latencies = p50(turns)
  return {
    name,
    perSecond: stats.spread(rates(turns)),
    ratio: stats.spread(stats.ratios(rates(turns), rates(floor))),
    serverMicros: median(({ serverMicros }) => serverMicros),
    clientMicros: median(({ clientMicros }) => clientMicros),
    ...(latencies.length === 0 ? {} : {
      p50: stats.spread(latencies),
      p50Ratio: stats.spread(stats.ratios(latencies, p50(floor))),
      p99: stats.spread(turns.flatMap(({ p99 }) => p99 ?? []))
    })
  }
}

/** Runs `rounds` rounds and one before them. The first contender is the floor. */
export const takeTurns = async (
  contenders: ReadonlyArray<Contender>,
  load: Load,
  settings: Settings
): Promise<ReadonlyArray<Result>> => {
  const running: Array<Running> = []
  try {
    for (const contender of contenders) running.push(await launch(contender, settings))
    const turns = running.map((): Array<Turn> => [])
    for (let round = 0; round <= settings.rounds; round++) {
      for (const [i, one] of running.entries()) {
        settings.progress(`round ${round} of ${settings.rounds}: ${one.contender.name}`)
        const result = await turn(one, load, settings.millis)
        if (round > 0) turns[i]?.push(result)
      }
    }
    return contenders.map(({ name }, i) => summarize(name, turns[i] ?? [], turns[0] ?? []))
  } finally {
    for (const { client, directory, server } of running) {
      await client.stop().catch(() => {})
      await server.stop().catch(() => {})
      fs.rmSync(directory, { recursive: true, force: true })
    }
  }
}

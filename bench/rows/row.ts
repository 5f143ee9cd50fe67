/** One row of the table: a question, and how each system answers it. */
import {
  connect,
  type Contender,
  type LaunchOptions,
  type Pair,
  players,
  runLoad,
  type Settings
} from "../harness/pairs.ts"
import type { Load } from "../harness/system.ts"
import { type Result, takeTurns } from "../harness/turns.ts"

export interface Row {
  readonly name: string
  readonly title: string
  readonly unit: string
  /** Whether a ratio above 1 is good or bad. */
  readonly better: "more" | "less"
  /** Whether another row shows as well that everything works. */
  readonly isLong?: boolean | undefined
  readonly run: (settings: Settings) => Promise<ReadonlyArray<Result>>
}

export interface LoadRow extends Omit<Row, "run" | "better" | "unit"> {
  readonly load: Load
  readonly contenders: ReadonlyArray<Contender>
  readonly options?: (LaunchOptions & { readonly pinned?: boolean | undefined }) | undefined
}

/**
 * Before the turns that count, in milliseconds and messages in flight: the last is compiled after some 300,000 messages,
 * which one at a time would take twenty seconds.
 */
const warmUp = { millis: 3_000, inFlight: 256 }

/** Leaves the connections that the turns use. With them come new closures, and code is compiled anew for them. */
const prepare = async (pair: Pair, load: Load, millis: number) => {
  const warming = { ...load, inFlight: Math.max(load.inFlight, warmUp.inFlight) }
  await connect(pair, warming)
  await runLoad(pair, warming, Math.max(millis, warmUp.millis))
  await connect(pair, load)
  return runLoad(pair, load, Math.max(millis, warmUp.millis / 3))
}

/** Messages per second under a load; or the time to an ack, with one message in flight. */
export const loadRow = ({ contenders, load, options = {}, ...row }: LoadRow): Row => ({
  ...row,
  unit: load.inFlight === 1 ? "µs" : "per second",
  better: load.inFlight === 1 ? "less" : "more",
  run: async (settings) => {
    const cores = options.pinned === true && !settings.missing.has("taskset") ? "0" : undefined
    const { close, players: all } = await players(
      contenders,
      settings,
      { ...options, cores },
      async (pair, isCounted) => {
        if (!isCounted) return prepare(pair, load, settings.millis)
        if (settings.quick) await connect(pair, load)
        return runLoad(pair, load, settings.millis)
      }
    )
    try {
      return await takeTurns(all, settings)
    } finally {
      await close()
    }
  }
})

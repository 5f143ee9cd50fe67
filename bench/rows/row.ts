/** One row of the table: a question, and how each system answers it. */
import { type Contender, type LaunchOptions, players, runLoad, type Settings } from "../harness/pairs.ts"
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

/** Milliseconds of the turn that is not counted: the last is compiled after some 300,000 messages. */
const warmUp = 3_000

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
      (pair, isCounted) => runLoad(pair, load, isCounted ? settings.millis : Math.max(settings.millis, warmUp))
    )
    try {
      return await takeTurns(all, settings)
    } finally {
      await close()
    }
  }
})

/**
 * Lets systems take turns (A B C A B C …), so that whatever else the machine does meets all of them alike; and gives what
 * each did as a ratio to the first, the floor, in the same round.
 */
import * as stats from "./stats.ts"

/** What one system did in one round. */
export interface Turn {
  readonly value: number
  /** The 99th percentile of what `value` is the median of. */
  readonly p99?: number | undefined
  /** CPU time for each message. */
  readonly serverMicros?: number | undefined
  readonly clientMicros?: number | undefined
}

export interface Player {
  readonly name: string
  /** Why it cannot take part, if it cannot. */
  readonly absent?: string | undefined
  /** What is not counted is to warm up. */
  readonly play: (isCounted: boolean) => Promise<Turn>
}

/** What one system did in all rounds that count. */
export interface Result {
  readonly name: string
  /** Why there are no figures: it could not take part, or it failed. */
  readonly absent?: string | undefined
  readonly failure?: string | undefined
  readonly value?: stats.Spread | undefined
  /** To the first of the row. */
  readonly ratio?: stats.Spread | undefined
  readonly p99?: stats.Spread | undefined
  /**
   * The ratio that there would be if each process had a core to itself: of the CPU time for each message of whichever
   * end needs more. Steadier than `ratio` where others use the machine.
   */
  readonly cpuRatio?: stats.Spread | undefined
  readonly serverMicros?: number | undefined
  readonly clientMicros?: number | undefined
}

const bottleneck = ({ clientMicros = Number.NaN, serverMicros = Number.NaN }: Turn) =>
  Math.max(serverMicros, clientMicros)

const summarize = (name: string, turns: ReadonlyArray<Turn>, floor: ReadonlyArray<Turn>): Result => {
  const values = (turns: ReadonlyArray<Turn>) => turns.map(({ value }) => value)
  const some = (pick: (turn: Turn) => number | undefined) => {
    const picked = turns.flatMap((turn) => pick(turn) ?? [])
    return picked.length === 0 ? undefined : stats.spread(picked)
  }
  return {
    name,
    value: stats.spread(values(turns)),
    ratio: stats.spread(stats.ratios(values(turns), values(floor))),
    cpuRatio: turns.every(({ serverMicros }) => serverMicros === undefined)
      ? undefined
      : stats.spread(stats.ratios(floor.map(bottleneck), turns.map(bottleneck))),
    p99: some(({ p99 }) => p99),
    serverMicros: some(({ serverMicros }) => serverMicros)?.median,
    clientMicros: some(({ clientMicros }) => clientMicros)?.median
  }
}

export interface Settings {
  readonly rounds: number
  /** Whether figures do not matter: fewer of everything. */
  readonly quick: boolean
  readonly progress: (text: string) => void
}

/** Plays the rounds, and before them one that is not counted: it meets code that has not been compiled yet. */
export const takeTurns = async (
  players: ReadonlyArray<Player>,
  { progress, quick, rounds }: Settings
): Promise<ReadonlyArray<Result>> => {
  const turns = players.map((): Array<Turn> => [])
  const failures = new Map<Player, string>()
  for (let round = quick ? 1 : 0; round <= rounds; round++) {
    for (const [i, player] of players.entries()) {
      if (player.absent !== undefined || failures.has(player)) continue
      progress(`round ${round} of ${rounds}: ${player.name}`)
      try {
        const turn = await player.play(round > 0)
        if (round > 0) turns[i]?.push(turn)
      } catch (error) {
        failures.set(player, error instanceof Error ? error.message : String(error))
      }
    }
  }
  progress("")
  return players.map((player, i) => {
    const { absent, name } = player
    const failure = failures.get(player)
    if (absent !== undefined || failure !== undefined) return { name, absent, failure }
    return summarize(name, turns[i] ?? [], turns[0] ?? [])
  })
}

/** Medians and spreads of what was measured in turns. */
export interface Spread {
  readonly median: number
  readonly low: number
  readonly high: number
}

/** The median, and the range of all values. */
export const spread = (values: ReadonlyArray<number>): Spread => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  const lower = sorted[middle - 1 + (sorted.length % 2)] ?? upper
  return { median: (upper + lower) / 2, low: sorted[0] ?? Number.NaN, high: sorted.at(-1) ?? Number.NaN }
}

/** Each value as a ratio to the floor's of the same round. */
export const ratios = (values: ReadonlyArray<number>, floor: ReadonlyArray<number>): ReadonlyArray<number> =>
  values.map((value, round) => value / (floor[round] ?? Number.NaN))

/**
 * How much the randomised tests do. `npm test` does what each change needs, always with the same seed, so that a change
 * is judged by what it changes; `npm run test:long` does far more, with a new seed that is printed at the start.
 * `MESSAGING_TEST_SEED=N` gives one back.
 */
const isLong = process.env["MESSAGING_TEST_LONG"] === "1"

/** The size of a test: for each change, and for the long run. */
export const sized = (eachChange: number, long: number): number => isLong ? long : eachChange

/** Set by test/utils/printSeed.ts before any test file runs. */
export const seed = Number(process.env["MESSAGING_TEST_SEED"] ?? 1)

/** Uniform in [0, 1): mulberry32, the same numbers for the same seed on every machine. */
export const makeRandom = (from: number = seed) => {
  let state = from >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

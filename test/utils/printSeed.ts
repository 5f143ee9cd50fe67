/** Chooses the seed of a long run and says it, so that a failure can be had again. */
export default () => {
  if (process.env["MESSAGING_TEST_LONG"] !== "1") return
  process.env["MESSAGING_TEST_SEED"] ??= String(Math.floor(Math.random() * 2 ** 32))
  process.stdout.write(`seed: ${process.env["MESSAGING_TEST_SEED"]} (MESSAGING_TEST_SEED gives it back)\n`)
}

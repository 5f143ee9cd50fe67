/** The suite at the sizes of a nightly run. Arguments go to the runner: `npm run test:long -- test/Framing.test.ts`. */
import { spawnSync } from "node:child_process"

const { status } = spawnSync("vitest", ["run", ...process.argv.slice(2)], {
  stdio: "inherit",
  shell: process.platform === "win32",
  env: { ...process.env, MESSAGING_TEST_LONG: "1" }
})
process.exitCode = status ?? 1

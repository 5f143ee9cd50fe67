import * as fs from "node:fs"
import { defineConfig } from "vitest/config"

const isLong = process.env["MESSAGING_TEST_LONG"] === "1"
// Real processes and sockets on a busy machine: a limit that only a hang reaches.
const timeout = isLong ? 7_200_000 : 180_000

const all = "test/**/*.test.ts"
/** Whoever counts what the process holds, where other files would still be letting go of theirs. */
const counting = fs.globSync(all).filter((file) => /utils\/(memory|resources)\.ts/.test(fs.readFileSync(file, "utf8")))

export default defineConfig({
  test: {
    globalSetup: ["test/utils/printSeed.ts", "test/utils/programDirectory.ts"],
    testTimeout: timeout,
    hookTimeout: timeout,
    maxWorkers: 2,
    projects: [
      // A process for many files, so that `effect` is loaded once: every file gives back what it takes.
      { extends: true, test: { name: "shared", include: [all], exclude: counting, isolate: false } },
      { extends: true, test: { name: "alone", include: counting, isolate: true } }
    ]
  }
})

import { defineConfig } from "vitest/config"

const isLong = process.env["MESSAGING_TEST_LONG"] === "1"
// Real processes and sockets on a busy machine: a limit that only a hang reaches.
const timeout = isLong ? 7_200_000 : 180_000

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/utils/printSeed.ts", "test/utils/programDirectory.ts"],
    testTimeout: timeout,
    hookTimeout: timeout,
    maxWorkers: 2,
    // A process for many files, so that `effect` is loaded once: every file gives back what it takes.
    isolate: false
  }
})

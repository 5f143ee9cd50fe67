import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

describe("npm run demo", () => {
  it("passes every step and says so last", () => {
    const { status, stderr, stdout } = spawnSync(
      process.execPath,
      ["--conditions=effect-messaging-source", "examples/demo.ts"],
      { cwd: root, encoding: "utf8" }
    )
    assert.strictEqual(stderr, "")
    assert.strictEqual(stdout.trimEnd().split("\n").at(-1), "demo: all steps passed")
    assert.strictEqual(status, 0)
  })
})

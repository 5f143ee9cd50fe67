import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

const run = () =>
  spawnSync(process.execPath, ["--conditions=effect-messaging-source", "examples/testing.ts"], {
    cwd: root,
    encoding: "utf8"
  })

describe("examples/testing.ts", () => {
  it("passes every check, says so last, and says the same each time", () => {
    const [{ status, stderr, stdout }, again] = [run(), run()]
    assert.strictEqual(stderr, "")
    assert.strictEqual(stdout.trimEnd().split("\n").at(-1), "testing: all checks passed")
    assert.strictEqual(status, 0)
    assert.strictEqual(again.stdout, stdout)
  })
})

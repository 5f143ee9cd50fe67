import { assert, describe, it } from "@effect/vitest"
import * as fs from "node:fs"
import { isSupportedNode, requiredNode, unsupportedNode } from "../../src/internal/nodeVersion.ts"

describe("nodeVersion", () => {
  it.each([["22.19.0", true], ["22.20.1", true], ["24.0.0", true], ["26.10.0", true]])(
    "supports %s",
    (version, yes) => {
      assert.strictEqual(isSupportedNode(version), yes)
    }
  )

  it.each(["22.18.9", "20.20.2", "18.0.0", "0.12.0"])("does not support %s, and says what is needed", (version) => {
    assert.isFalse(isSupportedNode(version))
    assert.include(unsupportedNode(version), `Node ${requiredNode} or later, and this is Node ${version}`)
  })

  it("asks for what package.json asks for", () => {
    const { engines } = JSON.parse(fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
    assert.strictEqual(`>=${requiredNode}`, `${engines.node}.0`)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { systemError } from "effect/PlatformError"
import { errnoOf, failed } from "../../src/internal/fileFailed.ts"

describe("fileFailed", () => {
  it("names a failure by its errno, or by its kind where it has none", () => {
    const error = (cause: unknown) => systemError({ _tag: "Busy", module: "FileSystem", method: "open", cause })
    const failure = (cause: unknown) => failed("open", "/a")(error(cause))
    assert.strictEqual(failure({ code: "EBUSY" }).message, "cannot open /a: EBUSY")
    for (const cause of [undefined, {}, { code: 16 }, "EBUSY"]) {
      assert.strictEqual(failure(cause).message, "cannot open /a: Busy")
    }
    assert.strictEqual(errnoOf(null), "UNKNOWN")
  })
})

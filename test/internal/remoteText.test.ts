import { assert, describe, it } from "@effect/vitest"
import { remoteText } from "../../src/internal/remoteText.ts"

describe("remoteText", () => {
  it("keeps what is harmless, also beyond ASCII", () => {
    assert.strictEqual(remoteText("größer als 😀", 256), "größer als 😀")
  })

  it("escapes control, format and surrogate characters", () => {
    assert.strictEqual(remoteText("a\n\u001b[31m\u202e\u0000\ud800", 256), "a\\u{a}\\u{1b}[31m\\u{202e}\\u{0}\\u{d800}")
  })

  it.each(["x".repeat(60_000), "ä".repeat(60_000), "\u001b".repeat(60_000), "😀".repeat(300)])(
    "cuts a long text to the bytes allowed, between characters",
    (text) => {
      const shown = remoteText(text, 256)
      assert.isAtMost(Buffer.byteLength(shown), 256)
      assert.isAbove(Buffer.byteLength(shown), 245)
      assert.notInclude(shown, "\ufffd")
      assert.isTrue(shown.endsWith("…"))
    }
  )
})

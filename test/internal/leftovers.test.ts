import { assert, describe, it } from "@effect/vitest"
import { isStagingName, stagingName } from "../../src/internal/leftovers.ts"

describe("leftovers", () => {
  describe("stagingName", () => {
    it.each([9, 10, 90])("is known by its form where there is room: %d bytes", (room) => {
      const names = Array.from({ length: 100 }, () => stagingName(room, "messaging.sock"))
      assert.deepStrictEqual(names.filter((name) => !isStagingName(name)), [])
      assert.isAbove(new Set(names).size, 95)
    })

    it.each([[8, 8], [7, 7], [1, 1], [0, 1], [-3, 1]])("is no longer than %d bytes, or one", (room, length) => {
      assert.match(stagingName(room, "messaging.sock"), new RegExp(`^[0-9a-f]{${length}}$`))
    })

    it("is never the name it stands in for", () => {
      // Of 16 names of one digit, one is taken: 1,000 draws that miss it by chance are not to be had.
      const names = new Set(Array.from({ length: 1_000 }, () => stagingName(1, "a")))
      assert.isFalse(names.has("a"))
      assert.strictEqual(names.size, 15)
    })
  })
})

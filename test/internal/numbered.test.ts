import { assert, describe, it } from "@effect/vitest"
import { Numbered } from "../../src/internal/numbered.ts"
import { makeRandom, sized } from "../utils/effort.ts"
import { heapInUse } from "../utils/memory.ts"

interface Item {
  readonly n: number
}

const numbers = (items: Iterable<Item>) => Array.from(items, ({ n }) => n).sort((a, b) => a - b)

/** Those up to a number, each under its own. */
const upTo = (count: number) => {
  const numbered = new Numbered<Item>()
  for (let n = 0; n < count; n++) numbered.set(n, { n })
  return numbered
}

describe("Numbered", () => {
  it("finds nothing where nothing is", () => {
    const numbered = new Numbered<Item>()
    assert.deepStrictEqual([numbered.get(0), numbered.get(-1), numbered.delete(0), numbered.size], [
      undefined,
      undefined,
      false,
      0
    ])
    numbered.set(5, { n: 5 })
    assert.deepStrictEqual([numbered.get(4), numbered.get(6), numbered.delete(4), numbered.delete(6), numbered.size], [
      undefined,
      undefined,
      false,
      false,
      1
    ])
  })

  it("says of what was deleted that it is not there any more", () => {
    const numbered = upTo(3)
    assert.deepStrictEqual([numbered.delete(1), numbered.delete(1), numbered.get(1), numbered.size], [
      true,
      false,
      undefined,
      2
    ])
  })

  const steps = sized(20_000, 1_000_000)
  it.each([1, 16, 17, 1_000])(
    `agrees with a map over ${steps} steps, where %d is the longest between numbers`,
    (step) => {
      const random = makeRandom()
      const below = (limit: number) => Math.floor(random() * limit)
      const numbered = new Numbered<Item>()
      const model = new Map<number, Item>()
      let last = 0
      const set = (n: number) => {
        if (model.has(n)) return
        const item = { n }
        numbered.set(n, item)
        model.set(n, item)
      }
      const remove = (n: number) => assert.strictEqual(numbered.delete(n), model.delete(n))
      for (let i = 0; i < steps; i++) {
        const dice = below(100)
        if (dice < 45) set(last += 1 + below(step))
        else if (dice < 50) set(below(last + 1))
        else if (dice < 85) remove([...model.keys()][0] ?? 0)
        else if (dice < 97) remove(below(last + 1))
        else if (dice === 97) { for (let many = below(60); many > 0; many--) set(last += 1 + below(step)) }
        // All but one or two, which then stay for long.
        else for (const n of [...model.keys()].slice(0, Math.max(0, model.size - 2))) remove(n)
        assert.strictEqual(numbered.size, model.size)
        const some = below(last + 20) - 10
        assert.strictEqual(numbered.get(some), model.get(some))
        if (i % 100 === 0) assert.deepStrictEqual(numbers(numbered.values()), numbers(model.values()))
      }
      for (const [n, item] of model) assert.strictEqual(numbered.get(n), item)
    }
  )

  it("gives none that goes while they are gone through, wherever it is kept", () => {
    const numbered = upTo(200)
    // All but some at both ends, so that the first have left the row.
    for (let n = 3; n < 190; n++) numbered.delete(n)
    for (let n = 200; n < 300; n++) numbered.set(n, { n })
    const given: Array<number> = []
    for (const { n } of numbered.values()) {
      given.push(n)
      for (let other = 0; other < 300; other++) if (other !== n && other % 2 === n % 2) numbered.delete(other)
    }
    assert.lengthOf(given, 2)
    assert.strictEqual(numbered.size, 2)
  })

  it("keeps no place for what has gone, though one has stayed", () => {
    const numbered = upTo(1)
    const before = heapInUse()
    for (let n = 1; n < 1_000_000; n++) {
      numbered.set(n, { n })
      numbered.delete(n)
    }
    // A million places would be 8 MB.
    assert.isBelow(heapInUse() - before, 1_000_000)
    assert.deepStrictEqual(numbers(numbered.values()), [0])
  })
})

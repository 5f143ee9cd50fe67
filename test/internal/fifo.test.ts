import { assert, describe, it } from "@effect/vitest"
import * as fifos from "../../src/internal/fifo.ts"
import { makeRandom, sized } from "../utils/effort.ts"

interface Item extends fifos.Placed {
  readonly n: number
}

const make = (n: number): Item => ({ n, place: 0 })

const numbers = (items: ReadonlyArray<Item>) => items.map(({ n }) => n)

describe("fifo", () => {
  it("is empty at first", () => {
    const fifo = fifos.make<Item>()
    assert.deepStrictEqual([fifo.peek(), fifo.size(), fifo.toArray()], [undefined, 0, []])
  })

  it("shows the first without taking it", () => {
    const fifo = fifos.make<Item>()
    const [a, b] = [make(1), make(2)]
    fifo.push(a)
    fifo.push(b)
    assert.deepStrictEqual([fifo.peek(), fifo.peek(), fifo.size()], [a, a, 2])
  })

  it("puts what was removed and comes again behind the others", () => {
    const fifo = fifos.make<Item>()
    const [a, b] = [make(1), make(2)]
    for (const item of [a, b]) fifo.push(item)
    fifo.remove(a)
    fifo.push(a)
    assert.strictEqual(fifo.peek(), b)
    assert.deepStrictEqual(fifo.toArray(), [b, a])
  })

  it("takes a member in only once", () => {
    const fifo = fifos.make<Item>()
    const [a, b] = [make(1), make(2)]
    for (const item of [a, b, a]) fifo.push(item)
    assert.deepStrictEqual([fifo.toArray(), fifo.size()], [[a, b], 2])
    fifo.remove(a)
    assert.deepStrictEqual([fifo.toArray(), fifo.size()], [[b], 1])
  })

  const steps = sized(6_000, 500_000)
  it(`agrees with an array over ${steps} steps, single ones and in thousands`, () => {
    const random = makeRandom()
    const below = (limit: number) => Math.floor(random() * limit)
    const fifo = fifos.make<Item>()
    let model: Array<Item> = []
    const gone: Array<Item> = []
    let n = 0
    const remove = (item: Item) => {
      fifo.remove(item)
      model = model.filter((other) => other !== item)
      gone.push(item)
    }
    const push = (item: Item) => {
      fifo.push(item)
      if (!model.includes(item)) model.push(item)
    }
    let peak = 0
    for (let step = 0; step < steps; step++) {
      const dice = below(1_000)
      if (dice < 400) push(make(n++))
      else if (dice < 440) push(gone[below(gone.length)] ?? make(n++))
      else if (dice < 470) push(model[below(model.length)] ?? make(n++))
      else if (dice < 500) remove(gone[below(gone.length)] ?? make(-1))
      else if (dice < 700 && model.length > 0) remove(model[0] as Item)
      else if (dice < 985 && model.length > 0) remove(model[below(model.length)] as Item)
      else if (dice < 996) { for (let many = below(300); many > 0; many--) push(make(n++)) }
      else if (dice < 999) { for (const item of model.slice(0, below(model.length))) remove(item) }
      else if (below(10) === 0) {
        fifo.clear()
        model = []
      }
      peak = Math.max(peak, model.length)
      assert.strictEqual(fifo.peek(), model[0])
      assert.strictEqual(fifo.size(), model.length)
      const some = dice % 2 === 0 ? gone[below(gone.length)] : model[below(model.length)]
      if (some !== undefined) assert.strictEqual(fifo.has(some), model.includes(some))
      if (step % 50 === 0) assert.deepStrictEqual(numbers(fifo.toArray()), numbers(model))
      gone.splice(0, gone.length - 100)
    }
    // Holes are closed where there are more than a thousand.
    assert.isAbove(peak, 1_200)
  })
})

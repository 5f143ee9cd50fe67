/**
 * Things by number, where most numbers come in ascending order and go in about the same. A map that loses one for each
 * it gains is made anew again and again, and each of its tables, once the collector has moved it to the old ones, keeps
 * what it held and the next table: every request of a client then lived until a full collection.
 */

/** Numbers that may be left out, such as those of other peers, without leaving the row. */
const maxGap = 16

export class Numbered<A extends object> {
  // Those that came in order; what has gone, or was left out, is a hole. Nothing stands before `#head`.
  #row: Array<A | undefined> = []
  #head = 0
  // The number of the first place in the row.
  #first = 0
  // Those that came out of order, and those that stayed while nearly all that came with them have gone.
  #others: Map<number, A> | undefined
  #size = 0

  get size() {
    return this.#size
  }

  get(number: number): A | undefined {
    const at = number - this.#first
    const found = at >= 0 && at < this.#row.length ? this.#row[at] : undefined
    return found ?? this.#others?.get(number)
  }

  /** Adds one under a number that has none. */
  set(number: number, item: A) {
    this.#size++
    const row = this.#row
    if (row.length === 0) this.#first = number
    const gap = number - this.#first - row.length
    if (gap < 0 || gap > maxGap) return this.#setAside(number, item)
    for (let i = 0; i < gap; i++) row.push(undefined)
    row.push(item)
    if (row.length > 4 * this.#size + 64) this.#shorten(row.length >> 1)
  }

  /** Says whether it was there. */
  delete(number: number): boolean {
    const row = this.#row
    const at = number - this.#first
    if (at < 0 || at >= row.length || row[at] === undefined) {
      const isGone = this.#others?.delete(number) === true
      if (isGone) this.#size--
      return isGone
    }
    this.#size--
    row[at] = undefined
    while (this.#head < row.length && row[this.#head] === undefined) this.#head++
    // At most one move for each that has gone.
    if (this.#head === row.length || (this.#head >= 16 && 2 * this.#head >= row.length)) this.#shorten(this.#head)
    return true
  }

  /** In no order, without those that go meanwhile. */
  *values(): Generator<A> {
    if (this.#others !== undefined) yield* this.#others.values()
    const [row, first] = [this.#row, this.#first]
    for (let at = this.#head; at < row.length; at++) {
      const item = row[at]
      if (item !== undefined && this.get(first + at) === item) yield item
    }
  }

  #setAside(number: number, item: A) {
    this.#others ??= new Map()
    this.#others.set(number, item)
  }

  /** Cuts so many places off; what stands there moves to the others. */
  #shorten(places: number) {
    for (let at = this.#head; at < places; at++) {
      const item = this.#row[at]
      if (item !== undefined) this.#setAside(this.#first + at, item)
    }
    this.#row = this.#row.slice(places)
    this.#first += places
    this.#head = Math.max(0, this.#head - places)
  }
}

/**
 * First in, first out, with removal from the middle, each in constant time. A Set keeps the order too, but finding its
 * first member passes over all that were deleted before it, which made a queue of 10,000 cost 16 µs a member; and a map of
 * the places is made anew again and again. So each member knows its own.
 */
export interface Placed {
  /** Where it stands in the one queue that it is in. Written by that queue. */
  place: number
}

export interface Fifo<A extends Placed> {
  /** Does nothing to what is in it already. */
  readonly push: (item: A) => void
  readonly peek: () => A | undefined
  /** Does nothing to what is not in it. */
  readonly remove: (item: A) => void
  readonly has: (item: A) => boolean
  readonly size: () => number
  /** In order. */
  readonly toArray: () => ReadonlyArray<A>
  readonly clear: () => void
}

export const make = <A extends Placed>(): Fifo<A> => {
  // In order, with a hole for each that was removed since the last compaction. No member stands before `head`.
  let items: Array<A | undefined> = []
  let head = 0
  let size = 0

  const has = (item: A) => items[item.place] === item
  const toArray = () => items.slice(head).filter((item) => item !== undefined)
  const push = (item: A) => {
    if (has(item)) return
    item.place = items.length
    items.push(item)
    size++
  }
  const clear = () => {
    items = []
    head = 0
    size = 0
  }
  return {
    push,
    peek: () => {
      while (head < items.length && items[head] === undefined) head++
      return items[head]
    },
    remove: (item) => {
      if (!has(item)) return
      items[item.place] = undefined
      size--
      if (items.length <= 2 * size + 1_024) return
      const kept = toArray()
      clear()
      for (const item of kept) push(item)
    },
    has,
    size: () => size,
    toArray,
    clear
  }
}

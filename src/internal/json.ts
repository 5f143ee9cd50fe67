/**
 * One scan of JSON text and two walks over JSON values, each bounded, none trusting its input.
 */

/** Keys that name an object's prototype. They never reach an application. */
const unsafeKeys = ["__proto__", "constructor", "prototype"] as const

const quote = 0x22
const backslash = 0x5c

/**
 * Whether JSON text opens more than `max` objects and arrays, told before it is parsed: an empty object of three bytes
 * takes twenty times as much memory. Two bytes are the least one can have, so short text is not looked at; text with few
 * brackets, in strings or not, is left to the platform's own search. Of text that is not JSON the answer holds for what a
 * parser reads before it fails.
 */
export const hasTooManyNodes = (text: string, max: number): boolean => {
  if (text.length <= 2 * max || !hasMore(text, ["{", "["], max)) return false
  let nodes = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x7b || code === 0x5b) {
      if (++nodes > max) return true
    } else if (code === quote) {
      at = endOfString(text, at)
      if (at === -1) return false
    }
  }
  return false
}

/** Whether the characters occur more than `max` times together. */
const hasMore = (text: string, characters: ReadonlyArray<string>, max: number): boolean => {
  let count = 0
  for (const character of characters) {
    for (let at = text.indexOf(character); at !== -1; at = text.indexOf(character, at + 1)) {
      if (++count > max) return true
    }
  }
  return false
}

/** The index of the quote that ends the string begun at `start`: the first with an even number of backslashes before it. */
const endOfString = (text: string, start: number): number => {
  for (let end = text.indexOf("\"", start + 1); end !== -1; end = text.indexOf("\"", end + 1)) {
    let before = end
    while (text.charCodeAt(before - 1) === backslash) before--
    if ((end - before) % 2 === 0) return end
  }
  return -1
}

/**
 * Removes the unsafe keys from a value that `JSON.parse` has just made, at every depth, and returns how many objects and
 * arrays it is made of. Returns -1 when they are nested deeper than `depth`; the value is then half cleaned and must be
 * dropped.
 */
export const cleanse = (value: object, depth: number): number => {
  if (depth === 0) return -1
  let nodes = 1
  if (Array.isArray(value)) {
    for (const item of value) {
      if (typeof item !== "object" || item === null) continue
      const inside = cleanse(item, depth - 1)
      if (inside === -1) return -1
      nodes += inside
    }
    return nodes
  }
  for (const key of unsafeKeys) {
    if (Object.hasOwn(value, key)) delete (value as Record<string, unknown>)[key]
  }
  for (const key in value) {
    const item = (value as Record<string, unknown>)[key]
    if (typeof item !== "object" || item === null) continue
    const inside = cleanse(item, depth - 1)
    if (inside === -1) return -1
    nodes += inside
  }
  return nodes
}

/**
 * Why a value cannot be sent as JSON without loss, or undefined when it can. A cycle shows as depth, and `budget`
 * (containers visited) ends the walk over a value that refers to the same object again and again.
 */
export const explainNotJson = (
  value: unknown,
  path: string,
  depth: number,
  budget: { left: number }
): string | undefined => {
  switch (typeof value) {
    case "string":
    case "boolean":
      return undefined
    case "number":
      return Number.isFinite(value) ? undefined : `${path} is ${value}, which JSON cannot hold`
    case "object":
      break
    default:
      return `${path} is a ${typeof value}, which JSON cannot hold`
  }
  if (value === null) return undefined
  if (depth === 0) return `${path} is nested too deep, or refers to itself`
  if (budget.left-- <= 0) return `${path} holds too many objects`
  const prototype = Object.getPrototypeOf(value)
  if (!Array.isArray(value) && prototype !== Object.prototype && prototype !== null) {
    return `${path} is an instance of a class, which JSON cannot hold`
  }
  for (const key of Object.keys(value)) {
    const problem = explainNotJson((value as Record<string, unknown>)[key], `${path}.${key}`, depth - 1, budget)
    if (problem !== undefined) return problem
  }
  return undefined
}

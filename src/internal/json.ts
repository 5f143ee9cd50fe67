/**
 * Two walks over JSON values, each bounded in depth, neither trusting its input.
 */

/** Keys that name an object's prototype. They never reach an application. */
const unsafeKeys = ["__proto__", "constructor", "prototype"] as const

/**
 * Removes the unsafe keys from a value that `JSON.parse` has just made, at every depth.
 * Returns false when containers are nested deeper than `depth`; the value is then half cleaned and must be dropped.
 */
export const cleanse = (value: object, depth: number): boolean => {
  if (depth === 0) return false
  if (Array.isArray(value)) {
    for (const item of value) {
      if (typeof item === "object" && item !== null && !cleanse(item, depth - 1)) return false
    }
    return true
  }
  for (const key of unsafeKeys) {
    if (Object.hasOwn(value, key)) delete (value as Record<string, unknown>)[key]
  }
  for (const key in value) {
    const item = (value as Record<string, unknown>)[key]
    if (typeof item === "object" && item !== null && !cleanse(item, depth - 1)) return false
  }
  return true
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

/** Whether all numbers of a value that `JSON.parse` has made are finite; it reads `1e999` as one that is not. */
export const isFiniteJson = (value: unknown): boolean => {
  if (typeof value === "number") return Number.isFinite(value)
  if (typeof value !== "object" || value === null) return true
  if (Array.isArray(value)) return value.every(isFiniteJson)
  for (const key in value) if (!isFiniteJson((value as Record<string, unknown>)[key])) return false
  return true
}

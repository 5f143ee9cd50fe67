/** What a client calls its requests to one peer: a random part that nobody else knows, and the number of the request. */
import * as crypto from "node:crypto"

export interface MessageIds {
  readonly of: (ordinal: number) => string
  /** The request that the text between `start` and `end` names, if it can be one of this client's. */
  readonly ordinalOf: (text: string, start?: number, end?: number) => number | undefined
}

/** More digits may not be exact. */
const maxDigits = 15

/** The number whose shortest decimal form stands between `start` and `end`. */
export const readNumber = (text: string, start: number, end: number): number | undefined => {
  if (end <= start || end - start > maxDigits || (text.charCodeAt(start) === 0x30 && end > start + 1)) return undefined
  let number = 0
  for (let at = start; at < end; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (digit < 0 || digit > 9) return undefined
    number = number * 10 + digit
  }
  return number
}

export const make = (): MessageIds => {
  const prefix = `${crypto.randomBytes(12).toString("hex")}-`
  return {
    of: (ordinal) => `${prefix}${ordinal}`,
    ordinalOf: (text, start = 0, end = text.length) =>
      text.startsWith(prefix, start) ? readNumber(text, start + prefix.length, end) : undefined
  }
}

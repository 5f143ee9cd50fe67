/**
 * Reads the ack of protocol 2 as this library's own server writes it, character for character, without `JSON.parse`: 0.2 µs
 * instead of 0.7, of the 2 that a message costs its sender. Of any other line it makes nothing, and a property test holds
 * it to the general reading.
 */
import { type MessageIds, readNumber } from "./messageIds.ts"

/** A request has been stored. */
export class Ack {
  /** The request's. */
  readonly ordinal: number
  /** The entry's. */
  readonly id: string

  constructor(ordinal: number, id: string) {
    this.ordinal = ordinal
    this.id = id
  }
}

const head = "{\"type\":\"response\",\"data\":\"ok\",\"ts\":\""
const beforeId = "\",\"meta\":{\"id\":\"uds-"
const beforeMessageId = "\",\"messageId\":\""
const tail = "\"}}"
/** As ISO 8601 has it, to the millisecond. */
const timeEnd = head.length + 24
const idStart = timeEnd + beforeId.length

/** Whether the characters stand for themselves in a JSON string. */
const arePlain = (text: string, start: number, end: number): boolean => {
  for (let at = start; at < end; at++) {
    const code = text.charCodeAt(at)
    if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) return false
  }
  return true
}

export const read = (line: string, ordinalOf: MessageIds["ordinalOf"]): Ack | undefined => {
  if (!line.startsWith(head) || !line.startsWith(beforeId, timeEnd) || !line.endsWith(tail)) return undefined
  if (!arePlain(line, head.length, timeEnd)) return undefined
  const idEnd = line.indexOf("\"", idStart)
  if (!line.startsWith(beforeMessageId, idEnd)) return undefined
  const entry = readNumber(line, idStart, idEnd)
  const ordinal = ordinalOf(line, idEnd + beforeMessageId.length, line.length - tail.length)
  // Made anew: a part of the line would keep all the text that arrived with it.
  return entry === undefined || ordinal === undefined ? undefined : new Ack(ordinal, `uds-${entry}`)
}

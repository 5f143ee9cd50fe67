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
const timeLength = 24

/** Whether the characters stand for themselves in a JSON string. */
const arePlain = (text: string, start: number, end: number): boolean => {
  for (let at = start; at < end; at++) {
    const code = text.charCodeAt(at)
    if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) return false
  }
  return true
}

/** The ack that stands between `start` and `end`. */
export const read = (
  text: string,
  start: number,
  end: number,
  ordinalOf: MessageIds["ordinalOf"]
): Ack | undefined => {
  const timeStart = start + head.length
  const timeEnd = timeStart + timeLength
  if (!text.startsWith(head, start) || !text.startsWith(beforeId, timeEnd)) return undefined
  const idStart = timeEnd + beforeId.length
  const idEnd = text.indexOf("\"", idStart)
  const messageIdStart = idEnd + beforeMessageId.length
  const messageIdEnd = end - tail.length
  if (messageIdStart > messageIdEnd || !text.startsWith(beforeMessageId, idEnd)) return undefined
  if (!text.startsWith(tail, messageIdEnd) || !arePlain(text, timeStart, timeEnd)) return undefined
  const entry = readNumber(text, idStart, idEnd)
  const ordinal = ordinalOf(text, messageIdStart, messageIdEnd)
  // Made anew: a part of the text would keep all that arrived with it.
  return entry === undefined || ordinal === undefined ? undefined : new Ack(ordinal, `uds-${entry}`)
}

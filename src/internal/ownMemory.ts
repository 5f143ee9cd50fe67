/**
 * Bytes in memory of their own, for what is kept while a peer waits. Node cuts small buffers out of blocks of up to 64 KiB,
 * of which the smallest kept piece keeps the whole.
 */
import { Buffer } from "node:buffer"

export const copy = (bytes: Uint8Array): Buffer => {
  const own = Buffer.allocUnsafeSlow(bytes.length)
  own.set(bytes)
  return own
}

export const encode = (text: string, bytes = Buffer.byteLength(text)): Buffer => {
  const own = Buffer.allocUnsafeSlow(bytes)
  own.write(text)
  return own
}

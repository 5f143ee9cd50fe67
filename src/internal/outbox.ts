/**
 * What is still to be written to one connection: text from any fiber, in the order it was pushed, one write for all
 * that has gathered meanwhile.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import type * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"
import * as ownMemory from "./ownMemory.ts"

/** Bytes that all the peers of an endpoint have left unread. Written by their outboxes. */
export interface Unread {
  bytes: number
}

export interface Outbox {
  /** Adds text to the next write. Does not write. */
  readonly push: (text: string) => void
  /** Bytes not yet handed to the socket. */
  readonly size: () => number
  /** Those, and what the socket has not been able to pass on. */
  readonly unread: () => number
  /** Whether the socket is not taking more: the peer has not read what it was sent. */
  readonly isBlocked: () => boolean
  /** Writes all there is, after whoever is writing already; returns when the socket takes more. */
  readonly flush: Effect.Effect<void, Socket.SocketError>
  /** Lets `run` flush, for pushes from fibers that must not wait. */
  readonly wake: () => void
  /** Flushes whenever woken. */
  readonly run: Effect.Effect<never, Socket.SocketError>
  /** The connection ends, and what was not written with it; what is pushed from now on is dropped. */
  readonly dispose: () => void
}

/** Characters; a shorter text goes from the stack of `StreamBase::WriteString`, if the socket takes it at once. */
const longText = 16_384 / 3

/** The socket keeps what it was given until its peer has taken the last byte, so it is not given all at once. */
const maxWriteBytes = 32_768

export const make = (
  write: (chunk: string | Uint8Array) => Effect.Effect<void, Socket.SocketError>,
  total: Unread = { bytes: 0 }
): Outbox => {
  // Written by `push`, emptied by the one fiber that holds the permit.
  let pending: Array<string> = []
  let pendingBytes = 0
  // Bytes of the write that has not returned.
  let writtenBytes = 0
  const writing = Semaphore.makeUnsafe(1)
  const woken = Latch.makeUnsafe(false)
  let isWaking = false
  let isDisposed = false

  /** The text of the next write: all of it, or of much as many pieces as one write may have. */
  const next = (): string => {
    if (pendingBytes <= maxWriteBytes) {
      const text = pending.join("")
      pending = []
      writtenBytes = pendingBytes
      pendingBytes = 0
      return text
    }
    let taken = 0
    for (const text of pending) {
      if (writtenBytes >= maxWriteBytes) break
      writtenBytes += Buffer.byteLength(text)
      taken++
    }
    pendingBytes -= writtenBytes
    return pending.splice(0, taken).join("")
  }
  const writeAll: Effect.Effect<void, Socket.SocketError> = Effect.suspend(() => {
    if (pending.length === 0) return Effect.void
    const text = next()
    // Of a long text that waits for its peer, only the bytes are kept that the socket keeps as well.
    const writing = write(text.length > longText ? ownMemory.encode(text, writtenBytes) : text)
    return Effect.flatMap(writing, () => {
      total.bytes -= writtenBytes
      writtenBytes = 0
      return writeAll
    })
  })
  const flush = Semaphore.withPermits(writing, 1)(writeAll)

  return {
    push: (text) => {
      if (isDisposed) return
      const bytes = Buffer.byteLength(text)
      pending.push(text)
      pendingBytes += bytes
      total.bytes += bytes
    },
    size: () => pendingBytes,
    unread: () => pendingBytes + writtenBytes,
    isBlocked: () => writtenBytes > 0,
    flush,
    wake: () => {
      // Opening the latch flushes there and then. At the end of the turn there is more to write at once; but not so much
      // that it is not known by then whether the peer reads.
      if (pendingBytes >= maxWriteBytes) return void woken.openUnsafe()
      if (isWaking) return
      isWaking = true
      queueMicrotask(() => {
        isWaking = false
        woken.openUnsafe()
      })
    },
    // Without a turn of the event loop between two flushes: what is pushed in it would not meet a blocked outbox.
    run: Effect.forever(
      Effect.flatMap(woken.await, () => {
        woken.closeUnsafe()
        return flush
      }),
      { disableYield: true }
    ),
    dispose: () => {
      isDisposed = true
      total.bytes -= pendingBytes + writtenBytes
      pending = []
      pendingBytes = writtenBytes = 0
    }
  }
}

/**
 * What is still to be written to one connection: text from any fiber, in the order it was pushed, one write for all
 * that has gathered meanwhile.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import type * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"

export interface Outbox {
  /** Adds text to the next write. Does not write. */
  readonly push: (text: string) => void
  /** Bytes not yet handed to the socket. */
  readonly size: () => number
  /** Whether the socket is not taking more: the peer has not read what it was sent. */
  readonly isBlocked: () => boolean
  /** Writes all there is, after whoever is writing already; returns when the socket takes more. */
  readonly flush: Effect.Effect<void, Socket.SocketError>
  /** Lets `run` flush, for pushes from fibers that must not wait. */
  readonly wake: () => void
  /** Flushes whenever woken. */
  readonly run: Effect.Effect<never, Socket.SocketError>
}

export const make = (
  write: (text: string) => Effect.Effect<void, Socket.SocketError>
): Outbox => {
  // Written by `push`, emptied by the one fiber that holds the permit.
  let pending: Array<string> = []
  let pendingBytes = 0
  let blocked = false
  const writing = Semaphore.makeUnsafe(1)
  const woken = Latch.makeUnsafe(false)
  let isWaking = false

  const writeAll: Effect.Effect<void, Socket.SocketError> = Effect.suspend(() => {
    if (pending.length === 0) return Effect.void
    const text = pending.join("")
    pending = []
    pendingBytes = 0
    blocked = true
    return Effect.flatMap(write(text), () => {
      blocked = false
      return writeAll
    })
  })
  const flush = Semaphore.withPermits(writing, 1)(writeAll)

  return {
    push: (text) => {
      pending.push(text)
      pendingBytes += Buffer.byteLength(text)
    },
    size: () => pendingBytes,
    isBlocked: () => blocked,
    flush,
    wake: () => {
      if (isWaking) return
      isWaking = true
      // Opening the latch flushes there and then; at the end of this turn there is more to write at once.
      queueMicrotask(() => {
        isWaking = false
        woken.openUnsafe()
      })
    },
    run: Effect.forever(Effect.flatMap(woken.await, () => {
      woken.closeUnsafe()
      return flush
    }))
  }
}

/**
 * Text to a peer that a client has dialled: all that gathers in a turn of the event loop is one write at its end, made
 * there and then by a fiber that waits for it. A text that comes while the socket takes no more waits with the others.
 */
import * as Effect from "effect/Effect"
import type * as Socket from "effect/socket/Socket"

export interface Writer {
  /** Adds text, of so many bytes, to the next write. */
  readonly push: (text: string, bytes: number) => void
  /** Bytes not yet handed to the socket. */
  readonly size: () => number
  /** Writes whatever is pushed, and what was before. Fails when the connection is gone. */
  readonly run: Effect.Effect<never, Socket.SocketError>
}

/** More is several writes, so that the peer can begin to read and no text is copied that the socket has no room for. */
const maxWriteBytes = 65_536

export const make = (
  write: (text: string) => Effect.Effect<void, Socket.SocketError>
): Writer => {
  // Filled by `push`, emptied by the fiber that runs.
  let pending: Array<string> = []
  let sizes: Array<number> = []
  let pendingBytes = 0
  // Resumes the fiber where it waits for something to write.
  let resume: ((next: Effect.Effect<void, Socket.SocketError>) => void) | undefined
  let isComing = false

  const next = (): Effect.Effect<void, Socket.SocketError> => {
    let taken = 0
    let bytes = 0
    while (taken < sizes.length && bytes < maxWriteBytes) bytes += sizes[taken++] ?? 0
    const text = (taken === pending.length ? pending : pending.slice(0, taken)).join("")
    pending = taken === pending.length ? [] : pending.slice(taken)
    sizes = pending.length === 0 ? [] : sizes.slice(taken)
    pendingBytes -= bytes
    return write(text)
  }

  const flush = () => {
    isComing = false
    const waiting = resume
    resume = undefined
    waiting?.(next())
  }

  const nextOrWait = Effect.suspend(() =>
    pending.length > 0 ? next() : Effect.callback<void, Socket.SocketError>((waiting) => {
      resume = waiting
    })
  )

  return {
    push: (text, bytes) => {
      pending.push(text)
      sizes.push(bytes)
      pendingBytes += bytes
      if (isComing || resume === undefined) return
      isComing = true
      queueMicrotask(flush)
    },
    size: () => pendingBytes,
    run: Effect.forever(nextOrWait, { disableYield: true })
  }
}

/**
 * What is still to be written to one connection: text from any fiber, in the order it was pushed, one write for all
 * that has gathered meanwhile.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"
import * as ownMemory from "./ownMemory.ts"

/** Bytes that all the peers of an endpoint have left unread. Written by their outboxes. */
export interface Unread {
  bytes: number
}

/** Characters; a shorter text goes from the stack of `StreamBase::WriteString`, if the socket takes it at once. */
const longText = 16_384 / 3

/** The socket keeps what it was given until its peer has taken the last byte, so it is not given all at once. */
const maxWriteBytes = 32_768

export class Outbox {
  readonly #write: (chunk: string | Uint8Array) => Effect.Effect<void, Socket.SocketError>
  readonly #fork: (effect: Effect.Effect<void>) => void
  readonly #total: Unread
  // Written by `push`, emptied by the one fiber that writes.
  #pending: Array<string> = []
  #pendingBytes = 0
  // Bytes of the write that has not returned.
  #writtenBytes = 0
  #isWriting = false
  // Opened when that write returns; made by who waits for it.
  #written: Latch.Latch | undefined
  #isWaking = false
  #isDisposed = false

  /** `fork` runs the writes that `wake` asks for; `total` is shared by all the outboxes of an endpoint. */
  constructor(
    write: (chunk: string | Uint8Array) => Effect.Effect<void, Socket.SocketError>,
    fork: (effect: Effect.Effect<void>) => void,
    total: Unread = { bytes: 0 }
  ) {
    this.#write = write
    this.#fork = fork
    this.#total = total
  }

  /** Adds text to the next write. Does not write. */
  push(text: string, bytes = Buffer.byteLength(text)) {
    if (this.#isDisposed) return
    this.#pending.push(text)
    this.#pendingBytes += bytes
    this.#total.bytes += bytes
  }

  /** Bytes not yet handed to the socket. */
  get size() {
    return this.#pendingBytes
  }

  /** Those, and what the socket has not been able to pass on. */
  get unread() {
    return this.#pendingBytes + this.#writtenBytes
  }

  /** Whether the socket is not taking more: the peer has not read what it was sent. */
  get isBlocked() {
    return this.#isWriting
  }

  /** Writes all there is, after whoever is writing already; returns when the socket takes more. */
  readonly flush: Effect.Effect<void, Socket.SocketError> = Effect.suspend(() => {
    if (this.#isWriting) {
      this.#written ??= Latch.makeUnsafe(false)
      return Effect.andThen(this.#written.await, this.flush)
    }
    if (this.#pending.length === 0) return Effect.void
    const text = this.#next()
    this.#isWriting = true
    // Of a long text that waits for its peer, only the bytes are kept that the socket keeps as well.
    const chunk = text.length > longText ? ownMemory.encode(text, this.#writtenBytes) : text
    return Effect.andThen(Effect.onExit(this.#write(chunk), this.#onWritten), this.flush)
  })

  /** Has all there is written at the end of the turn, for pushes from fibers that must not wait. */
  wake() {
    if (this.#isWaking || this.#isWriting) return
    // At the end of the turn there is more to write at once; but not so much that it is not known by then whether the
    // peer reads.
    if (this.#pendingBytes >= maxWriteBytes) return this.#fork(Effect.ignore(this.flush))
    this.#isWaking = true
    queueMicrotask(() => {
      this.#isWaking = false
      // A write that fails shows in the reading too, behind what the peer still had to say.
      if (this.#pending.length > 0 && !this.#isWriting) this.#fork(Effect.ignore(this.flush))
    })
  }

  /** The connection ends, and what was not written with it; what is pushed from now on is dropped. */
  dispose() {
    this.#isDisposed = true
    this.#total.bytes -= this.#pendingBytes + this.#writtenBytes
    this.#pending = []
    this.#pendingBytes = this.#writtenBytes = 0
  }

  readonly #onWritten = () => {
    this.#isWriting = false
    this.#total.bytes -= this.#writtenBytes
    this.#writtenBytes = 0
    this.#written?.openUnsafe()
    this.#written = undefined
    return Effect.void
  }

  /** The text of the next write: all of it, or of much as many pieces as one write may have. */
  #next(): string {
    if (this.#pendingBytes <= maxWriteBytes) {
      const text = this.#pending.join("")
      this.#pending = []
      this.#writtenBytes = this.#pendingBytes
      this.#pendingBytes = 0
      return text
    }
    let taken = 0
    for (const text of this.#pending) {
      if (this.#writtenBytes >= maxWriteBytes) break
      this.#writtenBytes += Buffer.byteLength(text)
      taken++
    }
    this.#pendingBytes -= this.#writtenBytes
    return this.#pending.splice(0, taken).join("")
  }
}

/**
 * A peer made of `node:net` alone: it sends exactly the bytes it is told and reports exactly what arrives, so that a
 * test of the protocol owes nothing to the code it tests.
 */
import { Effect } from "effect"
import * as net from "node:net"

export interface RawPeer {
  readonly socket: net.Socket
  readonly write: (data: string | Uint8Array) => Effect.Effect<void>
  /** Half-closes: the peer will send no more. */
  readonly end: Effect.Effect<void>
  /** The next line without its LF; undefined once the other side has closed and all lines are read. */
  readonly line: Effect.Effect<string | undefined>
  /** All lines until the other side closes. */
  readonly rest: Effect.Effect<ReadonlyArray<string>>
  /** Waits until the other side has closed its writing side, or the connection is gone. */
  readonly closed: Effect.Effect<void>
}

const ignore = () => {}

/** Connects; destroyed with the scope. Failures to write show as a close. */
export const connectRaw = Effect.fnUntraced(function*(path: string, options: { readonly paused?: boolean } = {}) {
  const socket = yield* Effect.acquireRelease(
    Effect.callback<net.Socket>((resume) => {
      const socket = net.createConnection({ path, allowHalfOpen: true })
      socket.on("error", ignore)
      socket.once("connect", () => resume(Effect.succeed(socket)))
      socket.once("close", () => resume(Effect.die(`could not connect to ${path}`)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const lines: Array<string> = []
  let partial = ""
  // It may have ended before this fiber went on.
  let ended = socket.readableEnded || socket.destroyed
  let wake: () => void = ignore
  const end = () => {
    ended = true
    wake()
  }
  socket.setEncoding("utf8")
  socket.on("data", (text: string) => {
    const parts = (partial + text).split("\n")
    partial = parts.pop() ?? ""
    lines.push(...parts)
    wake()
  })
  socket.on("end", end)
  socket.on("close", end)
  if (options.paused === true) socket.pause()

  /** Looks once more after it can be woken, since events may come while the fiber yields. */
  const until = (ready: () => boolean) =>
    Effect.callback<void>((resume) => {
      wake = () => {
        if (ready()) resume(Effect.void)
      }
      wake()
    })
  const line = Effect.andThen(until(() => lines.length > 0 || ended), Effect.sync(() => lines.shift()))
  const closed = until(() => ended)
  return {
    socket,
    write: (data) => Effect.sync(() => void socket.write(data)),
    end: Effect.sync(() => void socket.end()),
    line,
    rest: Effect.andThen(closed, Effect.sync(() => lines.splice(0))),
    closed
  } satisfies RawPeer
})

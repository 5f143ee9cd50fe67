/**
 * Accepts the connections of a `node:net` server, one fiber each, behind Effect's `SocketServer` contract.
 *
 * Why not `NodeSocketServer`: it queues connections without bound until `run`, leaves a connection open for ever when
 * its handler never reads, waits on close for peers that do not read, and hides the server that would allow any of
 * this to be mended. `npm run bench:accept` measures both: accepts a second, as a ratio to plain `node:net`, 0.64 here and 0.47
 * there (medians of 9 rounds, Node 24.21, 2 cores).
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as NetAddress from "effect/net/NetAddress"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type * as Net from "node:net"
import { closeGracefully, NodeSocket } from "./nodeSocket.ts"

export interface Options {
  readonly address: string
  /** Connections held before `run`. */
  readonly maxWaiting: number
  readonly closeTimeout: number
}

/** Ends a connection whose handler has ended. */
const close = (conn: Net.Socket, exit: Exit.Exit<unknown, unknown>, closeTimeout: number): Effect.Effect<void> => {
  // What the system has taken reaches the peer, also when the connection is closed at once.
  if (Exit.isSuccess(exit) && conn.writableLength > 0) return closeGracefully(conn, closeTimeout)
  conn.destroy()
  return Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)
    ? Effect.void
    : Effect.logError("a connection's handler failed", exit.cause)
}

/**
 * The connections of the servers given to `attach`, each made with `allowHalfOpen` and `pauseOnConnect`. When the scope
 * closes every connection is destroyed; the servers themselves stay the caller's to close.
 */
export const accept = Effect.fnUntraced(function*(options: Options) {
  // Every open connection, from accept to close. Written by the server's events only.
  const open = new Set<Net.Socket>()
  // Accepted before `run`; handed over by it.
  let waiting: Array<readonly [Net.Socket, Socket.Socket]> = []
  let handle = (conn: Net.Socket, socket: Socket.Socket): void => {
    if (waiting.length >= options.maxWaiting) conn.destroy()
    else waiting.push([conn, socket])
  }
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      handle = (conn) => conn.destroy()
      for (const conn of open) conn.destroy()
    })
  )
  /** Before the server listens, so that no connection is accepted that nobody knows of. */
  const attach = (server: Net.Server) => {
    server.on("connection", (conn) => {
      open.add(conn)
      conn.on("close", () => open.delete(conn))
      handle(conn, new NodeSocket(conn))
    })
  }

  const run = Effect.fnUntraced(function*<R, E, _>(handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>) {
    const start = yield* FiberSet.makeRuntime<R>()
    const before = handle
    // Before there is anything to undo, since a handler's first step may end this. Released before the fibers, so that
    // none of them waits for a peer that does not read.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        handle = before
        for (const conn of open) conn.destroy()
      })
    )
    handle = (conn, socket) => {
      start(Effect.onExit(handler(socket), (exit) => close(conn, exit, options.closeTimeout)))
    }
    for (const [conn, socket] of waiting) handle(conn, socket)
    waiting = []
    return yield* Effect.never
  }, Effect.scoped)

  return {
    attach,
    listener: SocketServer.SocketServer.of({ address: NetAddress.unixPathAddress(options.address), run })
  }
})

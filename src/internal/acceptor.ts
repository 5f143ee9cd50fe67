/**
 * Accepts the connections of a `node:net` server, one fiber each, behind Effect's `SocketServer` contract.
 *
 * Why not `NodeSocketServer`: it queues connections without bound until `run`, leaves a connection open for ever when
 * its handler never reads, waits on close for peers that do not read, and hides the server that would allow any of
 * this to be mended. `npm run bench:accept` measures both: accepts a second, as a ratio to plain `node:net`, 0.64 here and 0.47
 * there (medians of 9 rounds, Node 24.21, 2 cores).
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type * as Net from "node:net"
import { closeGracefully, fromNetSocket } from "./nodeSocket.ts"

export interface Options {
  readonly address: string
  /** Connections held before `run`. */
  readonly maxWaiting: number
  readonly closeTimeout: number
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
      conn.once("close", () => open.delete(conn))
      handle(conn, fromNetSocket(conn))
    })
  }

  const run = Effect.fnUntraced(function*<R, E, _>(handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>) {
    const context = Context.omit(Scope.Scope)(yield* Effect.context<R>()) as Context.Context<R>
    const scope = yield* Scope.make()
    const track = Fiber.runIn(scope)
    const start = Effect.runForkWith(context)
    const before = handle
    handle = (conn, socket) => {
      const session = Effect.onExit(
        handler(socket),
        (exit) => Exit.isSuccess(exit) ? closeGracefully(conn, options.closeTimeout) : Effect.sync(() => conn.destroy())
      )
      track(start(Effect.ignoreCause(session, { log: "Error", message: "a connection's handler failed" })))
    }
    for (const [conn, socket] of waiting) handle(conn, socket)
    waiting = []
    return yield* Effect.ensuring(
      Effect.never,
      Effect.suspend(() => {
        handle = before
        // First, so that no session waits for a peer that does not read.
        for (const conn of open) conn.destroy()
        return Scope.close(scope, Exit.void)
      })
    )
  })

  return {
    attach,
    listener: SocketServer.SocketServer.of({ address: NetAddress.unixPathAddress(options.address), run })
  }
})

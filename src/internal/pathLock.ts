/**
 * One process at a time removes the dead socket at a path.
 *
 * The lock is named after the path and the dead socket's inode, which only those can know who can look into its private
 * directory: nobody else can hold it against them. On Linux the lock is a socket in the abstract namespace (`unix(7)`): the kernel gives it to one process and takes it
 * back when that process ends, however it ends. Elsewhere it is a socket file beside the path; one left behind by a
 * killed process keeps the dead socket from being replaced until the user removes it, and the error names it.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as crypto from "node:crypto"
import * as net from "node:net"
import type { HostFacts } from "../Host.ts"
import { ListenFailed } from "../Transport.ts"
import { errnoOf } from "./fileFailed.ts"

export const lockName = (socketPath: string, inode: string, host: Pick<HostFacts, "platform">): string =>
  host.platform === "linux"
    ? `\0effect-messaging-${crypto.createHash("sha256").update(`${socketPath}\n${inode}`).digest("hex")}`
    : `${socketPath}.lock`

const acquire = (name: string, shown: string) =>
  Effect.callback<net.Server, ListenFailed>((resume) => {
    const server = net.createServer((conn) => conn.destroy())
    server.once("error", (error) => resume(Effect.fail(new ListenFailed({ path: shown, code: errnoOf(error) }))))
    server.listen(name, () => resume(Effect.succeed(server)))
  })

/**
 * Runs `effect` while holding the lock of the path. Others hold it for a few file operations, so it is asked for every
 * 5 ms, for at most a second; then `ListenFailed` with `EADDRINUSE` and the lock's name.
 */
export const withPathLock = (socketPath: string, inode: string, host: Pick<HostFacts, "platform">) => {
  const name = lockName(socketPath, inode, host)
  const shown = name.replace("\0", "@")
  const lock = acquire(name, shown).pipe(
    Effect.retry({ while: (error) => error.code === "EADDRINUSE", schedule: Schedule.spaced(5), times: 200 })
  )
  return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | ListenFailed, R> =>
    Effect.acquireUseRelease(lock, () => effect, (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
      }))
}

/**
 * What stands between the library and the system it runs on: nothing, unless a test puts something there. With `Posix`
 * it reaches every file and socket operation of the library.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import { identity } from "effect/Function"
import type { Transport } from "../Transport.ts"

/** What is asked of `node:net` directly: to listen, to connect, and to take the lock of a path. */
export type SocketCall = "bind" | "connect" | "lock"

export interface Interposition {
  readonly fileSystem: (real: FileSystem.FileSystem) => FileSystem.FileSystem
  /** Called once for each endpoint or client. */
  readonly transport: (real: Transport["Service"]) => Transport["Service"]
  /** Runs before the call; its failure takes the place of the call's. */
  readonly beforeCall: (call: SocketCall, path: string) => Effect.Effect<void, NodeJS.ErrnoException>
}

/** Needs no layer. */
export class Interposer extends Context.Reference<Interposition>("effect-messaging/Interposer", {
  defaultValue: () => ({ fileSystem: identity, transport: identity, beforeCall: () => Effect.void })
}) {}

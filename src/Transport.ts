/**
 * How an endpoint listens and how a peer is dialled: the contract. `NodeTransport` keeps it with Unix sockets and
 * Windows pipes, `MemoryTransport` without any I/O.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import type * as SocketServer from "effect/socket/SocketServer"
import { PathTooLong } from "./Address.ts"
import { FileFailed } from "./internal/fileFailed.ts"
import { DirectoryNotPrivate } from "./internal/privateFiles.ts"

/** A live server answers at the path. It was left as it is. */
export class AddressInUse extends Schema.TaggedError<AddressInUse>()("AddressInUse", {
  /** The socket path. */
  path: Schema.String
}) {
  override get message() {
    return `a live endpoint listens at ${this.path}: choose another socket path, or stop it`
  }
}

/** Something at the path is not a dead socket of the user's own. It was left as it is. */
export class PathOccupied extends Schema.TaggedError<PathOccupied>()("PathOccupied", {
  /** The socket path. */
  path: Schema.String,
  /** What is there instead, such as `a link`. */
  occupant: Schema.String
}) {
  override get message() {
    return `${this.path} is taken by ${this.occupant}: choose another socket path, or remove it yourself`
  }
}

/** The system refused to listen. */
export class ListenFailed extends Schema.TaggedError<ListenFailed>()("ListenFailed", {
  /** The socket path. */
  path: Schema.String,
  /** The errno (`bind(2)`, `listen(2)`). */
  code: Schema.String
}) {
  override get message() {
    return `cannot listen at ${this.path}: ${this.code}`
  }
}

/** Why an endpoint could not start. Nothing of the attempt is left behind. */
export class ListenError extends Schema.TaggedError<ListenError>()("ListenError", {
  /** What was in the way. */
  reason: Schema.Union([AddressInUse, PathOccupied, PathTooLong, DirectoryNotPrivate, FileFailed, ListenFailed])
}) {
  override get message() {
    return this.reason.message
  }
}

/** Nothing listens at the path: no socket (`ENOENT`), or a dead one (`ECONNREFUSED`). */
export class NotListening extends Schema.TaggedError<NotListening>()("NotListening", {
  /** The socket path. */
  path: Schema.String,
  /** The errno (`connect(2)`). */
  code: Schema.String
}) {
  override get message() {
    return `nothing listens at ${this.path} (${this.code})`
  }
}

/** The system does not permit the connection: a sandbox, or somebody else's socket. Says nothing about the peer. */
export class ConnectDenied extends Schema.TaggedError<ConnectDenied>()("ConnectDenied", {
  /** The socket path. */
  path: Schema.String,
  /** The errno (`connect(2)`). */
  code: Schema.String
}) {
  override get message() {
    return `not permitted to connect to ${this.path} (${this.code})`
  }
}

/** The connection could not be made for another reason. */
export class ConnectFailed extends Schema.TaggedError<ConnectFailed>()("ConnectFailed", {
  /** The socket path. */
  path: Schema.String,
  /** The errno (`connect(2)`). */
  code: Schema.String
}) {
  override get message() {
    return `cannot connect to ${this.path}: ${this.code}`
  }
}

/** The socket, or a directory above it, could have been put there by somebody else. Nothing was sent. */
export class SocketNotTrusted extends Schema.TaggedError<SocketNotTrusted>()("SocketNotTrusted", {
  /** The socket path. */
  path: Schema.String,
  /** What is wrong with it, or with which directory above it. */
  problem: Schema.String
}) {
  override get message() {
    return `${this.path} is not to be trusted: ${this.problem}`
  }
}

/** Why a peer could not be dialled. Nothing was sent. */
export class DialError extends Schema.TaggedError<DialError>()("DialError", {
  /** What happened. */
  reason: Schema.Union([NotListening, ConnectDenied, ConnectFailed, SocketNotTrusted, PathTooLong])
}) {
  override get message() {
    return this.reason.message
  }
}

/**
 * Accepts connections until interrupted, each in a fiber of its own. A connection is closed when its handler ends:
 * flushed within `closeTimeout` when the handler returns, at once when it is interrupted.
 */
export type Listener = SocketServer.SocketServer["Service"]

/** Whether somebody listens, as a connect tells it: `unknown` when the connect was refused or timed out. */
export type Liveness = "live" | "dead" | "unknown"

/** What became of a dead socket: `kept` where it answers, is not one's own, or could not be removed. */
export type Discarded = "removed" | "absent" | "kept"

/** Where endpoints may live. */
export interface Directories {
  /** `$XDG_RUNTIME_DIR`, if it is there and private to the user. */
  readonly runtimeDirectory: Option.Option<string>
  /** The temporary directory; on macOS its usual name leads through a link. */
  readonly tmpdir: string
}

/** Where to listen. */
export interface ListenOptions {
  /** An absolute path, or a pipe's name on Windows. */
  readonly socketPath: string
  /** The user's directory of endpoints, made and checked before the path's own. */
  readonly base?: string | undefined
}

/** Sockets to listen at and to dial: of the system, or in memory for tests. */
export class Transport extends Context.Service<Transport, {
  /**
   * Takes the path, exclusively, and listens there until the scope closes. Connections made before `run` wait, at most
   * `maxPeers` of them. A dead socket of one's own is replaced; anything else in the way is left as it is. Fails with
   * `ListenError`, and then leaves nothing.
   */
  readonly listen: (options: ListenOptions) => Effect.Effect<Listener, ListenError, Scope.Scope>
  /**
   * A connection that lasts as long as the scope. No deadline of its own: the caller sets one. Fails with `DialError`.
   */
  readonly dial: (socketPath: string) => Effect.Effect<Socket.Socket, DialError, Scope.Scope>
  /**
   * Succeeds only where nobody but this user, or root, can have put the socket there. Fails with `DialError`, reason
   * `SocketNotTrusted`.
   */
  readonly verify: (socketPath: string) => Effect.Effect<void, DialError>
  /** Connects and hangs up. Within `probeTimeout`. */
  readonly probe: (socketPath: string) => Effect.Effect<Liveness>
  /** Removes a dead socket of one's own, and its directory if an endpoint made it and it is then empty. */
  readonly discard: (socketPath: string) => Effect.Effect<Discarded>
  /** The socket paths found in the user's directory of endpoints, dead or alive; empty directories are removed. */
  readonly scan: (base: string) => Effect.Effect<ReadonlyArray<string>>
  /** Where endpoints may live, by real names. */
  readonly directories: Effect.Effect<Directories>
}>()("effect-messaging/Transport") {}

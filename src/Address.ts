/**
 * Where a peer listens: the public form of an address, the socket path inside it, and the rules for both
 * (PROTOCOL.md section 5.1). Pure; the facts about the machine come from `Host`.
 */
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as path from "node:path"
import type { HostFacts } from "./Host.ts"

/** The text is not an address. It is repeated only where it cannot hold a secret. */
export class InvalidAddress extends Schema.TaggedError<InvalidAddress>()("InvalidAddress", {
  /** The text that was given, or nothing when it may hold a token. */
  given: Schema.Option(Schema.String),
  /** What is wrong with it and what to give instead; reads on after the text. */
  problem: Schema.String
}) {
  override get message() {
    return `${
      Option.match(this.given, { onNone: () => "address", onSome: (text) => JSON.stringify(text) })
    } ${this.problem}`
  }
}

/** A socket path is longer than the platform's `sun_path` holds (`unix(7)`: 108 bytes with the final NUL). */
export class PathTooLong extends Schema.TaggedError<PathTooLong>()("PathTooLong", {
  /** The socket path. */
  path: Schema.String,
  /** Its length in bytes of UTF-8. */
  bytes: Schema.Int,
  /** The most bytes that `maxPathBytes` gives for this platform. */
  maxBytes: Schema.Int
}) {
  override get message() {
    return `socket path ${JSON.stringify(this.path)} is ${this.bytes} bytes long, and this platform allows ` +
      `${this.maxBytes}: choose a shorter directory`
  }
}

/** Why a text is not an address this machine can use. Nothing has been touched. */
export class AddressError extends Schema.TaggedError<AddressError>()("AddressError", {
  /** Which rule the text breaks. */
  reason: Schema.Union([InvalidAddress, PathTooLong])
}) {
  override get message() {
    return this.reason.message
  }
}

/** A peer's address. Equal when the socket paths are equal. */
export interface Address {
  /** An absolute path, or a pipe's name on Windows; without `uds:`. */
  readonly socketPath: string
}

/** The most bytes a socket path may have: 107 on Linux, 103 on macOS and the BSDs, none on Windows (pipes). */
export const maxPathBytes = (platform: NodeJS.Platform): number =>
  platform === "win32" ? 256 : platform === "linux" ? 107 : 103

const PIPE = "\\\\.\\pipe\\"

const fail = (given: Option.Option<string>, problem: string): Result.Result<never, AddressError> =>
  Result.fail(new AddressError({ reason: new InvalidAddress({ given, problem }) }))

const pathTooLong = (socketPath: string, platform: NodeJS.Platform) =>
  new PathTooLong({ path: socketPath, bytes: Buffer.byteLength(socketPath), maxBytes: maxPathBytes(platform) })

/** The reason, with both numbers, when the path is longer than the platform takes. */
export const tooLong = (socketPath: string, platform: NodeJS.Platform): PathTooLong | undefined =>
  Buffer.byteLength(socketPath) > maxPathBytes(platform) ? pathTooLong(socketPath, platform) : undefined

/**
 * Reads `uds:<path>`, an absolute path, or a Windows pipe. Fails with `AddressError`: reason `InvalidAddress` for
 * anything else, `PathTooLong` for a path that the platform does not take. A text with `#token=` is refused without being
 * repeated: addresses carry no secrets.
 */
export const parse = (
  text: string,
  platform: NodeJS.Platform = process.platform
): Result.Result<Address, AddressError> => {
  if (/#token=/i.test(text)) {
    return fail(Option.none(), "holds a token; give only the path, the token is looked up in the capability file")
  }
  const socketPath = text.startsWith("uds:") ? text.slice("uds:".length) : text
  if (socketPath === "") return fail(Option.some(text), "is empty; give uds:<path> or an absolute path")
  if (socketPath.includes("\0")) return fail(Option.some(text), "holds a NUL character")
  const isPipe = socketPath.startsWith(PIPE)
  if (isPipe && platform !== "win32") {
    return fail(Option.some(text), "is a Windows pipe; this platform uses socket paths")
  }
  if (isPipe ? socketPath.length === PIPE.length : !path.posix.isAbsolute(socketPath)) {
    return fail(Option.some(text), "is not absolute; give uds:<path> or a path that begins with /")
  }
  const reason = tooLong(socketPath, platform)
  return reason === undefined ? Result.succeed({ socketPath }) : Result.fail(new AddressError({ reason }))
}

/** Whether a text is a peer's name rather than an address: it has neither a scheme nor a separator of paths. */
export const isName = (text: string): boolean => /^[^:#/\\\p{Cc}]+$/u.test(text)

/** The public form, which `parse` reads back. */
export const format = (address: Address): string =>
  address.socketPath.startsWith(PIPE) ? address.socketPath : `uds:${address.socketPath}`

/** Where a new endpoint listens when nobody says where. */
export interface DefaultPath {
  /** A path that no endpoint has had before. */
  readonly socketPath: string
  /** The user's directory that holds one directory for each endpoint; none for pipes. */
  readonly base: Option.Option<string>
}

/** Random hex digits in a default path (PROTOCOL.md 5.1). */
export const nonceDigits = 32
/** The fewest that are still enough. */
const minNonceDigits = 16

/** The user's directories for endpoints, in order of preference, without regard to length. */
export const bases = (
  host: Pick<HostFacts, "platform" | "tmpdir" | "uid">,
  namespace: string,
  runtimeDirectory: Option.Option<string>
): ReadonlyArray<string> => {
  const own = `${namespace}-socks-${Option.getOrElse(host.uid, () => 0)}`
  // On macOS /tmp is a link, and no link is followed on the way to a socket.
  const shared = host.platform === "darwin" ? "/private/tmp" : "/tmp"
  const inTemporary = [path.posix.join(host.tmpdir, own), path.posix.join(shared, own)]
  return Option.match(runtimeDirectory, {
    onNone: () => inTemporary,
    onSome: (directory) => [path.posix.join(directory, `${namespace}-socks`), ...inTemporary]
  })
}

/**
 * A path for a new endpoint of this process. `nonce` is 32 hex digits; fewer are used, down to 16, where the path would
 * be too long, then the next base is tried. Fails with `AddressError`, reason `PathTooLong`, when none fits.
 *
 * `runtimeDirectory` is `$XDG_RUNTIME_DIR`, if the caller found it private to the user.
 */
export const defaultPath = (
  host: Pick<HostFacts, "platform" | "tmpdir" | "uid" | "pid">,
  namespace: string,
  nonce: string,
  runtimeDirectory: Option.Option<string>
): Result.Result<DefaultPath, AddressError> => {
  if (host.platform === "win32") {
    return Result.succeed({ socketPath: `${PIPE}${namespace}-${host.pid}-${nonce}`, base: Option.none() })
  }
  const at = (base: string, digits: number) =>
    path.posix.join(base, `${host.pid}-${nonce.slice(0, digits)}`, "messaging.sock")
  let shortest = ""
  for (const base of bases(host, namespace, runtimeDirectory)) {
    shortest = at(base, minNonceDigits)
    if (tooLong(shortest, host.platform) !== undefined) continue
    const room = maxPathBytes(host.platform) - Buffer.byteLength(at(base, 0))
    return Result.succeed({ socketPath: at(base, Math.min(room, nonceDigits)), base: Option.some(base) })
  }
  return Result.fail(new AddressError({ reason: pathTooLong(shortest, host.platform) }))
}

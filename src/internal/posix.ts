/**
 * The file operations that `effect/FileSystem` lacks, as one replaceable value: reading a file that may be a trap, and
 * removing a directory only while it is empty.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as fs from "node:fs"
import { errnoOf, FileFailed } from "./privateFiles.ts"

export interface FileFacts {
  readonly isRegular: boolean
  readonly uid: number
  readonly mode: number
}

export interface OpenedFile extends FileFacts {
  /** Empty unless the file is regular. */
  readonly bytes: Uint8Array
}

export interface UntrustedFile {
  readonly inspect: Effect.Effect<FileFacts, FileFailed>
  /** The first bytes, at most `maxBytes` of them. */
  readonly read: (maxBytes: number) => Effect.Effect<Uint8Array, FileFailed>
}

export interface PosixOperations {
  /**
   * Opens without following a link and without waiting for the other end of a FIFO; closed with the scope. Fails with
   * `FileFailed`; `ELOOP` means a link.
   */
  readonly openUntrusted: (path: string) => Effect.Effect<UntrustedFile, FileFailed, Scope.Scope>
  /** Fails with `FileFailed`, code `ENOTEMPTY`, rather than remove what is inside. */
  readonly removeEmptyDirectory: (path: string) => Effect.Effect<void, FileFailed>
}

/**
 * There and then: these calls never wait for another process, and the four that read a small file cost 18 µs of CPU, by
 * way of Node's threads 130.
 */
const attempt = <A>(operation: string, path: string, run: () => A) =>
  Effect.try({
    try: run,
    catch: (error) => new FileFailed({ operation, path, code: errnoOf(error) })
  })

const { O_NOFOLLOW = 0, O_NONBLOCK = 0, O_RDONLY } = fs.constants

/** The operations of `node:fs`. Needs no layer; a test replaces them to make them fail. */
export class Posix extends Context.Reference<PosixOperations>("effect-messaging/Posix", {
  defaultValue: () => ({
    openUntrusted: (path) =>
      Effect.map(
        Effect.acquireRelease(
          attempt("open", path, () => fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)),
          (file) => Effect.ignore(attempt("close", path, () => fs.closeSync(file)))
        ),
        (file) => ({
          inspect: Effect.map(
            attempt("inspect", path, () => fs.fstatSync(file)),
            (stat) => ({ isRegular: stat.isFile(), uid: stat.uid, mode: stat.mode })
          ),
          read: (maxBytes: number) =>
            attempt("read", path, () => {
              const buffer = new Uint8Array(maxBytes)
              return buffer.subarray(0, fs.readSync(file, buffer, 0, maxBytes, 0))
            })
        })
      ),
    removeEmptyDirectory: (path) => attempt("remove", path, () => fs.rmdirSync(path))
  })
}) {}

/** Reads at most `maxBytes` plus one of a regular file, and nothing of any other. */
export const readUntrusted = (posix: PosixOperations, path: string, maxBytes: number) =>
  Effect.scoped(Effect.gen(function*() {
    const file = yield* posix.openUntrusted(path)
    const facts = yield* file.inspect
    const bytes = facts.isRegular ? yield* file.read(maxBytes + 1) : new Uint8Array()
    return { ...facts, bytes } satisfies OpenedFile
  }))

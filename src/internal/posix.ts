/**
 * The file operations that `effect/FileSystem` lacks, as one replaceable value: reading a file that may be a trap, removing
 * a directory only while it is empty, the real name of a directory in one call instead of one for each above it, and a look
 * at all of these at once.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { errnoOf, FileFailed } from "./fileFailed.ts"

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

/** What an entry is itself, where it may be a link. */
export interface EntryFacts {
  readonly path: string
  readonly type: "Directory" | "SymbolicLink" | "Other"
  readonly uid: number
  readonly mode: number
}

export interface PosixOperations {
  /** Looks at each; the answers stand in the order of the paths. `ENOENT` means that there is none. */
  readonly lookAt: (
    paths: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<Result.Result<EntryFacts, FileFailed>>, FileFailed>
  /**
   * Opens without following a link and without waiting for the other end of a FIFO; closed with the scope. Fails with
   * `FileFailed`; `ELOOP` means a link.
   */
  readonly openUntrusted: (path: string) => Effect.Effect<UntrustedFile, FileFailed, Scope.Scope>
  /** The name without links. Fails with `FileFailed`. */
  readonly realPath: (path: string) => Effect.Effect<string, FileFailed>
  /** Fails with `FileFailed`, code `ENOTEMPTY`, rather than remove what is inside. */
  readonly removeEmptyDirectory: (path: string) => Effect.Effect<void, FileFailed>
}

const failure = (operation: string, path: string) => (error: unknown) =>
  new FileFailed({ operation, path, code: errnoOf(error) })

const attempt = <A>(operation: string, path: string, run: () => Promise<A>) =>
  Effect.tryPromise({
    try: run,
    catch: failure(operation, path)
  })

const look = (path: string): Promise<Result.Result<EntryFacts, FileFailed>> =>
  fs.lstat(path).then(
    (stat) => {
      const type = stat.isDirectory() ? "Directory" : stat.isSymbolicLink() ? "SymbolicLink" : "Other"
      return Result.succeed({ path, type, uid: stat.uid, mode: stat.mode })
    },
    (error) => Result.fail(failure("inspect", path)(error))
  )

const readOnly = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)

/** The operations of `node:fs`. Needs no layer; a test replaces them to make them fail. */
export class Posix extends Context.Reference<PosixOperations>("effect-messaging/Posix", {
  defaultValue: () => ({
    lookAt: (paths) => Effect.promise(() => Promise.all(paths.map(look))),
    openUntrusted: (path) =>
      Effect.map(
        Effect.acquireRelease(
          attempt("open", path, () => fs.open(path, readOnly)),
          (file) => Effect.ignore(attempt("close", path, () => file.close()))
        ),
        (file) => ({
          inspect: Effect.map(
            attempt("inspect", path, () => file.stat()),
            (stat) => ({ isRegular: stat.isFile(), uid: stat.uid, mode: stat.mode })
          ),
          read: Effect.fnUntraced(function*(maxBytes: number) {
            const buffer = new Uint8Array(maxBytes)
            const { bytesRead } = yield* attempt("read", path, () => file.read(buffer, 0, maxBytes, 0))
            return buffer.subarray(0, bytesRead)
          })
        })
      ),
    // Unlike that of `node:fs`, this is the system's own.
    realPath: (path) => attempt("resolve", path, () => fs.realpath(path)),
    removeEmptyDirectory: (path) => attempt("remove", path, () => fs.rmdir(path))
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

/**
 * The two file operations that `effect/FileSystem` lacks, as one replaceable value: reading a file that may be a trap,
 * and removing a directory only while it is empty.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { errnoOf, FileFailed } from "./privateFiles.ts"

export interface OpenedFile {
  readonly isRegular: boolean
  readonly uid: number
  readonly mode: number
  readonly bytes: Uint8Array
}

export interface PosixOperations {
  /**
   * Opens without following a link and without waiting for the other end of a FIFO, then reads at most `maxBytes`
   * plus one. What is not a regular file is not read. Fails with `FileFailed`; `ELOOP` means a link.
   */
  readonly readUntrusted: (path: string, maxBytes: number) => Effect.Effect<OpenedFile, FileFailed>
  /** Fails with `FileFailed`, code `ENOTEMPTY`, rather than remove what is inside. */
  readonly removeEmptyDirectory: (path: string) => Effect.Effect<void, FileFailed>
}

const attempt = <A>(operation: string, path: string, run: () => Promise<A>) =>
  Effect.tryPromise({
    try: run,
    catch: (error) => new FileFailed({ operation, path, code: errnoOf(error) })
  })

const readOnly = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)

/** The operations of `node:fs`. Needs no layer; a test replaces them to make them fail. */
export class Posix extends Context.Reference<PosixOperations>("effect-messaging/Posix", {
  defaultValue: () => ({
    readUntrusted: (path, maxBytes) =>
      Effect.acquireUseRelease(
        attempt("open", path, () => fs.open(path, readOnly)),
        (file) =>
          Effect.gen(function*() {
            const stat = yield* attempt("inspect", path, () => file.stat())
            const opened = { isRegular: stat.isFile(), uid: stat.uid, mode: stat.mode }
            if (!opened.isRegular) return { ...opened, bytes: new Uint8Array() }
            const buffer = new Uint8Array(maxBytes + 1)
            const { bytesRead } = yield* attempt("read", path, () => file.read(buffer, 0, buffer.length, 0))
            return { ...opened, bytes: buffer.subarray(0, bytesRead) }
          }),
        (file) => Effect.ignore(attempt("close", path, () => file.close()))
      ),
    removeEmptyDirectory: (path) => attempt("remove", path, () => fs.rmdir(path))
  })
}) {}

/** A file operation that failed, and why the system says so. */
import type { PlatformError } from "effect/PlatformError"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/** A file operation failed; `code` is the errno, such as `EACCES`. */
export class FileFailed extends Schema.TaggedError<FileFailed>()("FileFailed", {
  /** What was tried, such as `write`. */
  operation: Schema.String,
  /** The file or directory. */
  path: Schema.String,
  /** The errno (`errno(3)`). */
  code: Schema.String
}) {
  override get message() {
    return `cannot ${this.operation} ${this.path}: ${this.code}`
  }
}

export const errnoOf = (error: unknown): string =>
  Predicate.hasProperty(error, "code") && Predicate.isString(error.code) ? error.code : "UNKNOWN"

/** For `Effect.mapError` after a call of `FileSystem`. */
export const failed = (operation: string, path: string) => (error: PlatformError): FileFailed => {
  const code = errnoOf(error.reason.cause)
  return new FileFailed({ operation, path, code: code === "UNKNOWN" ? error.reason._tag : code })
}

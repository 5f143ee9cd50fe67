import { Effect } from "effect"
import { systemError } from "effect/PlatformError"

/** What a method of the file system fails with where the system answers with that errno. */
export const fileFails = (method: string, code: string) =>
  Effect.fail(systemError({
    _tag: "Unknown",
    module: "FileSystem",
    method,
    cause: Object.assign(new Error(code), { code })
  }))

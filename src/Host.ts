/**
 * What the operating system says about this process, as one replaceable value.
 *
 * Everything else in the library asks here instead of `node:process`, so the rules for Linux, macOS and Windows are
 * all computed, and tested, on whichever machine runs the tests.
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as os from "node:os"

/** What the system says about this process. */
export interface HostFacts {
  /** Such as `linux`, `darwin` or `win32`. */
  readonly platform: NodeJS.Platform
  /** The user's numeric id; none on Windows, where the checks of owner and mode do not apply. */
  readonly uid: Option.Option<number>
  /** The number of this process. */
  readonly pid: number
  /** Such as `24.1.0`. */
  readonly nodeVersion: string
  /** The directory for temporary files, by the name that the environment gives it. */
  readonly tmpdir: string
  /** The user's home. */
  readonly homedir: string
  /** The working directory, or nothing when it has been deleted; published, so that people can tell peers apart. */
  readonly cwd: string
  /** The live environment. Children inherit what is set here; only `Messaging` writes to it. */
  readonly environment: Record<string, string | undefined>
}

const workingDirectory = () => {
  try {
    return process.cwd()
  } catch {
    return ""
  }
}

/** The facts about this process. Needs no layer; override it with `Effect.provideService` in tests. */
export class Host extends Context.Reference<HostFacts>("effect-messaging/Host", {
  defaultValue: () => ({
    platform: process.platform,
    uid: Option.fromNullishOr(process.getuid?.()),
    pid: process.pid,
    nodeVersion: process.versions.node,
    tmpdir: os.tmpdir(),
    homedir: os.homedir(),
    cwd: workingDirectory(),
    environment: process.env
  })
}) {}

/** What can be wrong with an installation, told apart, each with the command that mends it. */
import type { FileFailed } from "../internal/fileFailed.ts"
import type { DirectoryNotPrivate } from "../internal/privateFiles.ts"

export type Check =
  | "node"
  | "directories"
  | "path length"
  | "variable"
  | "capability"
  | "round trip"
  | "stale endpoints"
  | "peers"

export type Problem =
  | "missing"
  | "stale"
  | "foreign owner"
  | "too broad"
  | "too long"
  | "not permitted"
  /** It is there, is the user's own, and is not what it should be. */
  | "not usable"
  /** The other side answered, and said no; or said nothing. */
  | "refused"

export interface Finding {
  readonly check: Check
  readonly problem?: Problem | undefined
  readonly text: string
  /** A command for a shell. */
  readonly remedy?: string | undefined
}

export const ok = (check: Check, text: string): Finding => ({ check, text })

export const fault = (check: Check, problem: Problem, text: string, remedy: string): Finding => ({
  check,
  problem,
  text,
  remedy
})

/** A word for a shell. */
export const quoted = (word: string): string =>
  /^[\w./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`

const deniedCodes = new Set(["EACCES", "EPERM", "EROFS"])

export const isDenied = (code: string): boolean => deniedCodes.has(code)

/** Where no command of one's own mends it: only whoever runs the sandbox can, and this shows who that is. */
export const permit = (path: string): string => `ls -ld ${quoted(path)}`

export const denied = (check: Check, path: string, code: string, remedy: string): Finding =>
  fault(
    check,
    "not permitted",
    `the system does not permit to use ${path} (${code}): a sandbox, or somebody else's directory`,
    remedy
  )

/** `place` is what was to be used: a fault above it is mended where it is. */
export const directoryFault = (
  check: Check,
  place: string,
  uid: number,
  error: DirectoryNotPrivate | FileFailed
): Finding => {
  const name = quoted(error.path)
  if (error._tag === "FileFailed") {
    return isDenied(error.code)
      ? denied(
        check,
        error.path,
        error.code,
        error.code === "EACCES" ? `sudo install -d -m 700 -o ${uid} ${quoted(place)}` : permit(error.path)
      )
      : fault(check, "not usable", error.message, permit(error.path))
  }
  switch (error.problem) {
    case "foreign owner":
      return fault(
        check,
        "foreign owner",
        `${error.path} belongs to another user`,
        error.path === place ? `sudo mv ${name} ${quoted(`${error.path}.foreign`)}` : `sudo chown ${uid} ${name}`
      )
    case "open to others":
      return fault(check, "too broad", `${error.path} is open to other users`, `chmod 700 ${name}`)
    case "writable by others":
      return fault(check, "too broad", `${error.path} can be written to by other users`, `chmod go-w ${name}`)
    case "a link":
    case "not a directory":
      return fault(
        check,
        "not usable",
        `${error.path} is ${error.problem === "a link" ? "a link" : "not a directory"}`,
        `mv ${name} ${quoted(`${error.path}.old`)}`
      )
  }
}

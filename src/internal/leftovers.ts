/**
 * Names of what exists for a moment only, while something is published, and stays when the process is killed in that
 * moment. By its name it is told from what an application keeps in the same directory.
 */
import * as crypto from "node:crypto"

/** A capability before it has its name. The pid says who is writing it. */
export const temporaryName = (file: string, pid: number): string =>
  `${file}.${pid}-${crypto.randomBytes(8).toString("hex")}.tmp`

/** The pid in the name of a temporary capability, or undefined when it is none. */
export const pidOfTemporary = (name: string): number | undefined => {
  const found = /^[0-9a-f]{64}\.json\.(\d{1,10})-[0-9a-f]{16}\.tmp$/.exec(name)?.[1]
  return found === undefined ? undefined : Number(found)
}

/**
 * A name for binding, other than `taken`: it is in use for a moment, in a private directory, and never longer than the
 * final one may be, which has `room` bytes.
 */
export const stagingName = (room: number, taken: string): string => {
  const digits = crypto.randomBytes(4).toString("hex")
  const name = room > digits.length ? `.${digits}` : digits.slice(0, Math.max(1, room))
  return name === taken ? stagingName(room, taken) : name
}

/** A socket before it has its name; shorter where the path leaves no room, and then not told from others. */
export const isStagingName = (name: string): boolean => /^\.[0-9a-f]{8}$/.test(name)

/**
 * Whether a process with this pid has certainly ended. The pid may have gone to another process since; then what it
 * left stays until that one has ended as well.
 */
export const hasEnded = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH"
  }
}

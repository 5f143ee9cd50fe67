/**
 * Keeps what Node has compiled, for the next start. Whoever can write to that directory decides what the next start runs,
 * so it is not the one that Node would take, below the temporary directory: it is below the user's home, made for the
 * user alone, and not used where anybody else but root could replace it or a directory above it.
 */
import * as fs from "node:fs"
import * as module from "node:module"
import * as path from "node:path"

export interface Facts {
  /** None on Windows, whose owners and modes are not looked at; nothing is kept there. */
  readonly uid: number | undefined
  readonly environment: Readonly<Record<string, string | undefined>>
}

const openBits = 0o077
const writableBits = 0o022
const stickyBit = 0o1000

/** Makes it if it is missing. Throws where it, or one above it, is not safe; never makes anything below such a one. */
const ensure = (directory: string, uid: number): fs.Stats => {
  const above = path.dirname(directory)
  if (above !== directory) ensure(above, uid)
  const found = fs.lstatSync(directory, { throwIfNoEntry: false })
  if (found === undefined) fs.mkdirSync(directory, { mode: 0o700 })
  const stats = found ?? fs.lstatSync(directory)
  const isWritable = (stats.mode & writableBits) !== 0 && (stats.mode & stickyBit) === 0
  if (!stats.isDirectory() || (stats.uid !== uid && stats.uid !== 0) || isWritable) throw new Error(directory)
  return stats
}

/** The directory, which then exists; none where there is no safe place for it. */
export const directory = ({ environment, uid }: Facts): string | undefined => {
  const { HOME: home, XDG_CACHE_HOME: cache } = environment
  if (uid === undefined || home === undefined || !path.isAbsolute(home)) return undefined
  try {
    // A home may be reached by links; what they lead to is what is looked at, and used.
    const base = cache !== undefined && path.isAbsolute(cache) ? cache : path.join(fs.realpathSync(home), ".cache")
    const own = path.join(base, "effect-messaging")
    const stats = ensure(own, uid)
    return stats.uid === uid && (stats.mode & openBits) === 0 ? own : undefined
  } catch {
    return undefined
  }
}

/** Does nothing where Node has been told which directory to take, or to take none. */
export const enable = (): void => {
  const { NODE_COMPILE_CACHE: chosen, NODE_DISABLE_COMPILE_CACHE: disabled } = process.env
  if (chosen !== undefined || disabled !== undefined) return
  const own = directory({ uid: process.getuid?.(), environment: process.env })
  if (own !== undefined) module.enableCompileCache(own)
}

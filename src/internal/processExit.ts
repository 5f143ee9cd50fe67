/**
 * The last word of a process that ends while an endpoint is open: by `process.exit`, or by an exception or a rejection
 * that nobody caught. Node gives it one synchronous moment, so everything here is synchronous and never throws. A signal
 * that nobody handles leaves no such moment; what is then left is for a sweep.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import * as fs from "node:fs"

/** Runs `cleanUp` if the process ends while the scope is open; the latest first, as scopes are released. */
export const onProcessExit = (cleanUp: () => void) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      // Node warns of a leak beyond a number of listeners. These are as many as there are open endpoints, so the number
      // is raised for as long as they are there. Zero stands for any number.
      const raise = process.getMaxListeners() > 0 ? 1 : 0
      process.setMaxListeners(process.getMaxListeners() + raise)
      process.prependListener("exit", cleanUp)
      return raise
    }),
    (raise) =>
      Effect.sync(() => {
        process.off("exit", cleanUp)
        process.setMaxListeners(Math.max(0, process.getMaxListeners() - raise))
      })
  )

const attempt = <A>(run: () => A): A | undefined => {
  try {
    return run()
  } catch {
    return undefined
  }
}

/** Removes the entry while it is still this inode. */
export const removeSameInode = (path: string, own: FileSystem.File.Info): void =>
  void attempt(() => {
    const { dev, ino } = fs.lstatSync(path, { bigint: true })
    if (dev === own.dev && Option.contains(own.ino, ino)) fs.unlinkSync(path)
  })

export const removeEmptyDirectory = (path: string): void => void attempt(() => fs.rmdirSync(path))

const readOnly = fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0) | (fs.constants.O_NONBLOCK ?? 0)

/** Removes a regular file of at most `maxBytes` whose text is still one's own. */
export const removeOwnText = (path: string, maxBytes: number, isOwn: (text: string) => boolean): void =>
  void attempt(() => {
    const file = fs.openSync(path, readOnly)
    try {
      if (!fs.fstatSync(file).isFile()) return
      const buffer = Buffer.alloc(maxBytes)
      const bytes = fs.readSync(file, buffer, 0, maxBytes, 0)
      if (isOwn(buffer.toString("utf8", 0, bytes))) fs.unlinkSync(path)
    } finally {
      fs.closeSync(file)
    }
  })

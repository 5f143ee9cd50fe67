/** The C programs, compiled into a temporary directory where there is a compiler. */
import { spawnSync } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const compile = (name: string, directory: string): string | undefined => {
  const source = fileURLToPath(new URL(`../native/${name}.c`, import.meta.url))
  const { error, status, stderr } = spawnSync("gcc", ["-O2", "-o", path.join(directory, name), source], {
    encoding: "utf8"
  })
  if (error !== undefined) return `no C compiler: ${error.message}`
  return status === 0 ? undefined : `gcc ended with ${status}: ${stderr.trim()}`
}

/** Compiles both; returns why that cannot be, or undefined. */
export const compileAll = (directory: string): string | undefined =>
  compile("server", directory) ?? compile("load", directory)

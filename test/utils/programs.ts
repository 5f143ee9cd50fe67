/**
 * The programs that tests run as processes: those of test/fixtures, and the command line. Each is bundled first, since it
 * then starts in a quarter of the time, and once for all test files of a run: test/utils/programDirectory.ts makes the
 * place.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { bundle } from "../../scripts/bundle.ts"

export const root = fileURLToPath(new URL("../..", import.meta.url))

const place = process.env["MESSAGING_TEST_PROGRAMS"]

/** Two test files may build the same one at once; what is there is whole. */
const built = async (name: string, build: (directory: string) => Promise<unknown>): Promise<string> => {
  if (place === undefined) throw new Error("MESSAGING_TEST_PROGRAMS is not set: run the tests with vitest")
  const directory = path.join(place, name)
  if (fs.existsSync(directory)) return directory
  const making = `${directory}.${process.pid}`
  await build(making)
  try {
    fs.renameSync(making, directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOTEMPTY") throw error
    fs.rmSync(making, { recursive: true })
  }
  return directory
}

/** The path of a program of test/fixtures. */
export const fixture = async (name: string): Promise<string> => {
  const directory = await built(name, async (directory) => {
    const build = await rolldown({ cwd: root, input: `test/fixtures/${name}.ts`, platform: "node" })
    await build.write({ dir: directory, format: "esm" })
    await build.close()
    fs.writeFileSync(path.join(directory, "package.json"), `{"type":"module"}`)
  })
  return path.join(directory, `${name}.js`)
}

/** The path of the command line, as it is published. */
export const commandLine = async (): Promise<string> => {
  const directory = await built("cli", async (directory) => {
    await bundle(directory)
    fs.writeFileSync(path.join(directory, "package.json"), `{"type":"module"}`)
  })
  return path.join(directory, "bin.js")
}

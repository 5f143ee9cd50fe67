/** Programs for the rows about start-up: one file with everything in it, or one that imports the library's files. */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { Plugin } from "rolldown"

const source = new URL("../../src/", import.meta.url)

/** The programs import from `src`, for their types; this sends them to the library under test. */
const library = (url: string): Plugin => {
  const extension = path.extname(new URL(url).pathname)
  return {
    name: "library-under-test",
    resolveId: (specifier) => {
      const [, name] = /^\.\.\/\.\.\/src\/(.*)\.ts$/.exec(specifier) ?? []
      return name === undefined ? undefined : fileURLToPath(new URL(`${name}${extension}`, url))
    }
  }
}

/** Leaves every import where it is, by its absolute path. */
const external: Plugin = {
  name: "external",
  resolveId: {
    order: "pre",
    async handler(specifier, importer) {
      if (importer === undefined || specifier.startsWith("node:")) return undefined
      const resolved = await this.resolve(specifier, importer, { skipSelf: true })
      return resolved === null ? undefined : { id: resolved.id, external: "absolute" }
    }
  }
}

/**
 * Writes `name` of `programs/` to `directory` and returns its path. Rolldown comes with vitest; where it does not, this
 * fails.
 */
export const bundle = async (name: string, kind: "bundled" | "imports", libraryUrl: string, directory: string) => {
  const { rolldown } = await import("rolldown")
  const build = await rolldown({
    input: fileURLToPath(new URL(`../programs/${name}.ts`, import.meta.url)),
    platform: "node",
    // Effect and the library are resolved as from the library's own place.
    cwd: fileURLToPath(new URL("..", source)),
    plugins: [library(libraryUrl), ...(kind === "imports" ? [external] : [])]
  })
  const { output } = await build.generate({ format: "esm", minify: kind === "bundled", codeSplitting: false })
  const file = path.join(directory, `${name}-${kind}.mjs`)
  fs.writeFileSync(file, output[0].code)
  return file
}

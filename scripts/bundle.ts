/**
 * The command line with what it needs of `effect` inside: a start then reads three files instead of some three hundred,
 * and does not depend on which `effect` is installed beside it. The library itself is not bundled; it shares `effect` with
 * the application that uses it.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { rolldown } from "rolldown"

const root = join(import.meta.dirname, "..")

/** The package a module comes from, or nothing for one of ours. */
const packageOf = (id: string): string | undefined => {
  const [, inside] = /.*[\\/]node_modules[\\/](.+)$/.exec(id) ?? []
  const [scope = "", name = ""] = inside?.split(/[\\/]/) ?? []
  return inside === undefined ? undefined : scope.startsWith("@") ? `${scope}/${name}` : scope
}

const licenceOf = (name: string) => {
  const directory = join(root, "node_modules", name)
  const { version } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as { version: string }
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt"].map((file) => join(directory, file)).find(existsSync)
  if (file === undefined) throw new Error(`${name}, which the command line contains, has no licence file`)
  return `${name} ${version}\n\n${readFileSync(file, "utf8").trim()}\n`
}

/** Writes `bin.js`, what it loads, and the licences of what is in them into `directory`. */
export const bundle = async (directory: string) => {
  const build = await rolldown({
    cwd: root,
    input: "src/cli/bin.ts",
    platform: "node",
    // package.json promises that no module of the library has side effects; those of the command line are its purpose.
    treeshake: { moduleSideEffects: [{ test: /[\\/]src[\\/]cli[\\/]/, sideEffects: true }] }
  })
  const { output } = await build.write({
    dir: directory,
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "[name].js",
    minify: true
  })
  await build.close()
  const modules = output.flatMap((chunk) => chunk.type === "chunk" ? chunk.moduleIds : [])
  const packages = [...new Set(modules.map(packageOf))].filter((name) => name !== undefined).sort()
  writeFileSync(join(directory, "THIRD-PARTY.txt"), packages.map(licenceOf).join("\n----\n\n"))
  chmodSync(join(directory, "bin.js"), 0o755)
  return { packages, files: output.map(({ fileName }) => fileName) }
}

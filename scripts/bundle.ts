/**
 * The command line with what it needs of `effect` inside: a start then reads a few files instead of some three hundred,
 * and does not depend on which `effect` is installed beside it. The library itself is not bundled; it shares `effect` with
 * the application that uses it.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Plugin, rolldown } from "rolldown"
import { annotate } from "./pure.ts"

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

const pure: Plugin = {
  name: "pure",
  transform: { filter: { id: /[\\/]src[\\/].*\.ts$/ }, handler: (code) => annotate(code, "ts") }
}

/**
 * What a start loads, each with all that it needs: `bin.js` loads one of the others, and no more of `effect` than that
 * command uses. Pieces that they shared would hold what any of them uses.
 */
const entries = ["bin", "main", "plainMain"]

const apart: Plugin = {
  name: "apart",
  resolveId: (specifier, importer) => {
    const [, name = ""] = /^\.\/(\w+)\.ts$/.exec(specifier) ?? []
    return importer !== undefined && entries.includes(name) ? { id: `./${name}.js`, external: true } : undefined
  }
}

/** For the width of characters that are not ASCII `effect` makes a segmenter as it is loaded: a tenth of a start. */
const segmenter: Plugin = {
  name: "segmenter",
  transform: {
    filter: { id: /[\\/]effect[\\/]dist[\\/]cli[\\/]CliOutput\.js$/ },
    handler: (code) => {
      const eager = /new (Intl\.Segmenter\(undefined, \{\s*granularity: "grapheme"\s*\}\))/
      if (!eager.test(code)) throw new Error("effect makes its segmenter differently: look at scripts/bundle.ts")
      return code.replace(eager, "{ segment: (text) => new $1.segment(text) }")
    }
  }
}

const builtin = (name: string) => `process.getBuiltinModule?.("${name}")`

/**
 * What makes a file quicker to load. An import of a module of Node's reads all that it exports, and so loads what some of
 * that stands for, such as the streams of files; `bin` is loaded by a Node too old to have the other way, and says so. Text
 * with no character beyond ASCII needs no decoding.
 */
const quicker = (code: string): string => {
  const changed = code
    .replace(/import\*as ([\w$]+) from"(node:[\w/]+)";/g, (_, all, name) => `const ${all}=${builtin(name)};`)
    .replace(
      /import\{([^}]+)\}from"(node:[\w/]+)";/g,
      (_, some, name) => `const{${some.replaceAll(" as ", ":")}}=${builtin(name)};`
    )
    .replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
  if (/from"node:/.test(changed)) throw new Error("an import of a module of Node's has a form not seen before")
  return changed
}

/** Writes the entries and the licences of what is in them into `directory`. What is `external` stays out. */
export const bundle = async (directory: string, external: Array<RegExp> = []) => {
  const outputs = []
  for (const entry of entries) {
    const build = await rolldown({
      cwd: root,
      input: `src/cli/${entry}.ts`,
      platform: "node",
      external,
      plugins: [apart, pure, segmenter],
      // package.json promises that no module of the library has side effects; those of the command line are its purpose.
      treeshake: { moduleSideEffects: [{ test: /[\\/]src[\\/]cli[\\/]/, sideEffects: true }] }
    })
    const { output } = await build.write({
      dir: directory,
      format: "esm",
      entryFileNames: "[name].js",
      minify: true,
      codeSplitting: false
    })
    await build.close()
    outputs.push(...output)
  }
  const modules = outputs.flatMap((chunk) => chunk.type === "chunk" ? chunk.moduleIds : [])
  const packages = [...new Set(modules.map(packageOf))].filter((name) => name !== undefined).sort()
  writeFileSync(join(directory, "THIRD-PARTY.txt"), packages.map(licenceOf).join("\n----\n\n"))
  for (const { fileName } of outputs) {
    const file = join(directory, fileName)
    writeFileSync(file, quicker(readFileSync(file, "utf8")))
  }
  chmodSync(join(directory, "bin.js"), 0o755)
  return { packages, files: outputs.map(({ fileName }) => fileName) }
}

/**
 * Packs the library and looks at the tarball as a user meets it: what is in it, what it imports, how its types resolve,
 * whether both compilers take them, and whether the first examples of the README, the program and the shell command, run.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { installed, pack, type Packed, root, run } from "./compat/packed.ts"

const allowed =
  /^(dist\/.+\.(js|d\.ts|map)|src\/(?!cli\/).+\.ts|package\.json|README\.md|PROTOCOL\.md|SECURITY\.md|CONTRIBUTING\.md|CHANGELOG\.md|LICENSE|dist\/cli\/THIRD-PARTY\.txt)$/

/** The sources stay because the maps name them; those of the command line have no maps, since it is bundled. */
const checkContents = ({ files }: Packed) => {
  const unexpected = files.filter((path) => !allowed.test(path))
  if (unexpected.length > 0) throw new Error(`the package holds ${unexpected.join(", ")}`)
}

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly exports: Record<string, unknown>
  readonly peerDependencies: Record<string, string>
}

const imported = /\bfrom "([\w@.:/-]+)"|\b(?:import|require)(?:\s*\(\s*["'`]| ["'])([\w@.:/-]+)["'`]/g
/** Minified, and with import statements of effect's own in its texts, which have a space there. */
const importedMinified = /\bfrom"([\w@.:/-]+)"|\b(?:import|require)(?:\(["'`]|["'])([\w@.:/-]+)["'`]/g

/** Nothing at run time but Node, `effect` and `@effect/platform-node`; the command line has what it needs inside. */
const checkImports = ({ files, library }: Packed) => {
  const named = ["dependencies", "optionalDependencies", "bundleDependencies"].filter((key) => key in manifest)
  if (named.length > 0) throw new Error(`package.json has ${named.join(", ")}`)
  const peers = Object.keys(manifest.peerDependencies)
  if (peers.sort().join() !== "@effect/platform-node,effect") throw new Error(`the peers are ${peers.join(", ")}`)
  let count = 0
  for (const file of files.filter((path) => /^dist\/.+\.(js|d\.ts)$/.test(path))) {
    const text = readFileSync(join(library, file), "utf8")
    const isBundled = file.startsWith("dist/cli/")
    const own = isBundled ? /^(node:|\.)/ : /^(node:|\.\.?\/|effect\/|@effect\/platform-node\/)/
    for (const [, fixed, dynamic = ""] of text.matchAll(isBundled ? importedMinified : imported)) {
      const specifier = fixed ?? dynamic
      count++
      if (!own.test(specifier)) throw new Error(`${file} of the package imports ${specifier}`)
    }
  }
  if (count < 100) throw new Error(`only ${count} imports were found in the package`)
  return count
}

/** Types as each kind of consumer resolves them. The profile leaves CommonJS and old resolution out: there is no such build. */
const checkTypes = ({ tarball }: Packed) => run("attw", [tarball, "--profile", "esm-only", "--format", "ascii"])

/** A program that imports every public module, and the README's, with the declarations of all libraries checked. */
const checkCompilers = ({ project }: Packed) => {
  const modules = Object.keys(manifest.exports).filter((key) => key !== "./package.json")
  const imports = modules.map((key, at) => `import * as M${at} from "effect-messaging${key.slice(1)}"\n`)
  writeFileSync(
    join(project, "everything.ts"),
    `${imports.join("")}export const all = [${modules.map((_, at) => `M${at}`).join(", ")}]\n`
  )
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        module: "NodeNext",
        target: "ES2022",
        lib: ["ES2023", "DOM"],
        types: ["node"],
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        noEmit: true
      },
      files: ["example.mts", "everything.ts"]
    })
  )
  const older = installed("typescript-5.9", "compiler")
  return [join(root, "node_modules/typescript/bin/tsc"), join(older, "bin/tsc")].map((compiler) => {
    run(process.execPath, [compiler, "-p", "tsconfig.json"], project)
    return run(process.execPath, [compiler, "--version"]).trim().replace("Version", "TypeScript")
  })
}

const checkExamples = ({ environment, project }: Packed, shell: string) => {
  const output = run(process.execPath, ["example.mts"], project)
  if (!output.includes("hello")) throw new Error(`the README's example printed ${JSON.stringify(output)}`)
  const env = environment(process.execPath)
  const help = run("effect-messaging", ["--help"], project, env)
  if (!help.includes("listen")) throw new Error("the command line of the package does not run")
  const received = run("sh", ["-c", shell], project, env)
  if (!/ uds-1 text from unknown: tests passed$/m.test(received)) {
    throw new Error(`the README's shell example printed ${JSON.stringify(received)}`)
  }
}

const readme = readFileSync(join(root, "README.md"), "utf8")
const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1]
const shell = /### From a shell\n\n```sh\n([\s\S]*?)```/.exec(readme)?.[1]
if (example === undefined || shell === undefined) throw new Error("README.md has no example")

const packed = pack()
try {
  writeFileSync(join(packed.project, "example.mts"), example)
  checkContents(packed)
  const imports = checkImports(packed)
  checkTypes(packed)
  const compilers = checkCompilers(packed)
  checkExamples(packed, shell)
  process.stdout.write(
    `package: ${packed.files.length} files, ${packed.unpackedSize} bytes; ${imports} imports, of Node and the peers only; ` +
      `types resolve; ${compilers.join(" and ")} take them; the README's examples ran\n`
  )
} finally {
  packed.remove()
}

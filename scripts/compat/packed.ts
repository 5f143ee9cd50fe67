/** The package as its users get it: packed, and unpacked into an empty project. */
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"

export const root = join(import.meta.dirname, "../..")

export const run = (
  command: string,
  args: ReadonlyArray<string>,
  cwd: string = root,
  env: NodeJS.ProcessEnv = process.env
) => {
  const { error, status, stderr, stdout } = spawnSync(command, args, { cwd, env, encoding: "utf8" })
  if (status === 0) return stdout
  throw new Error(`${command} ${args.join(" ")} ended with ${status ?? String(error)}\n${stdout}${stderr}`)
}

/** What `npm ci` puts into `compat/`, which the library itself does not need; the runtimes take a gigabyte. */
export const installed = (name: string, kind: "compiler" | "runtime"): string => {
  const directory = join(root, "compat/node_modules", name)
  if (!existsSync(directory)) {
    const omit = kind === "compiler" ? ["--omit=optional"] : []
    run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", ...omit], join(root, "compat"))
  }
  return directory
}

export interface Packed {
  /** A project that has the package, its peers and nothing else. */
  readonly project: string
  readonly tarball: string
  readonly files: ReadonlyArray<string>
  readonly unpackedSize: number
  /** Where the package is in it. */
  readonly library: string
  /** For the package's commands, run by `runtime`: no variable of this process but what finds programs. */
  readonly environment: (runtime: string) => NodeJS.ProcessEnv
  readonly remove: () => void
}

/** `dist` must be built. The peers are the ones of this checkout: nothing is downloaded, and one copy of effect is used. */
export const pack = (): Packed => {
  const project = mkdtempSync(join(tmpdir(), "package-"))
  const [packed] = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", project])) as [
    { filename: string; files: Array<{ path: string }>; unpackedSize: number }
  ]
  const modules = join(project, "node_modules")
  const library = join(modules, "effect-messaging")
  mkdirSync(library, { recursive: true })
  run("tar", ["xf", packed.filename, "-C", library, "--strip-components=1"], project)
  for (const name of ["effect", "@effect", "@types"]) symlinkSync(join(root, "node_modules", name), join(modules, name))
  // As npm links it, which installs nothing here.
  mkdirSync(join(modules, ".bin"))
  symlinkSync("../effect-messaging/dist/cli/bin.js", join(modules, ".bin", "effect-messaging"))
  writeFileSync(join(project, "package.json"), "{ \"type\": \"module\" }")
  return {
    project,
    tarball: join(project, packed.filename),
    files: packed.files.map(({ path }) => path),
    unpackedSize: packed.unpackedSize,
    library,
    environment: (runtime) => ({
      PATH: [join(modules, ".bin"), dirname(runtime), process.env["PATH"]].join(delimiter),
      HOME: project,
      TMPDIR: project,
      NO_COLOR: "1"
    }),
    remove: () => rmSync(project, { recursive: true, force: true })
  }
}

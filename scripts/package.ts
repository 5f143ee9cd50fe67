/**
 * Packs the library, installs the tarball into an empty project as a user would, and there type-checks and runs the
 * first examples of the README, the program and the shell command. Fails when the tarball holds what it should not.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"

const allowed =
  /^(dist\/.+\.(js|d\.ts|map)|src\/.+\.ts|package\.json|README\.md|PROTOCOL\.md|SECURITY\.md|CONTRIBUTING\.md|CHANGELOG\.md|LICENSE|dist\/cli\/THIRD-PARTY\.txt)$/

const run = (
  command: string,
  args: ReadonlyArray<string>,
  cwd = process.cwd(),
  env: NodeJS.ProcessEnv = process.env
) => {
  const { status, stderr, stdout } = spawnSync(command, args, { cwd, env, encoding: "utf8" })
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}\n${stdout}${stderr}`)
  return stdout
}

const project = mkdtempSync(join(tmpdir(), "package-"))
try {
  const [packed] = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", project])) as [
    { filename: string; files: Array<{ path: string }>; unpackedSize: number }
  ]
  const unexpected = packed.files.filter(({ path }) => !allowed.test(path)).map(({ path }) => path)
  if (unexpected.length > 0) throw new Error(`the package holds ${unexpected.join(", ")}`)

  // The peers are the ones of this checkout: nothing is downloaded, and one copy of effect is used.
  mkdirSync(join(project, "node_modules", "effect-messaging"), { recursive: true })
  run("tar", ["xf", packed.filename, "-C", "node_modules/effect-messaging", "--strip-components=1"], project)
  for (const name of ["effect", "@effect", "@types"]) {
    symlinkSync(join(process.cwd(), "node_modules", name), join(project, "node_modules", name))
  }

  const example = /```ts\n([\s\S]*?)```/.exec(readFileSync("README.md", "utf8"))?.[1]
  if (example === undefined) throw new Error("README.md has no example")
  writeFileSync(join(project, "package.json"), "{ \"type\": \"module\" }")
  writeFileSync(join(project, "example.ts"), example)
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
      files: ["example.ts"]
    })
  )
  run(join(process.cwd(), "node_modules", ".bin", "tsc"), ["-p", "tsconfig.json"], project)
  const output = run(process.execPath, ["example.ts"], project)
  if (!output.includes("hello")) throw new Error(`the README's example printed ${JSON.stringify(output)}`)
  const shell = /### From a shell\n\n```sh\n([\s\S]*?)```/.exec(readFileSync("README.md", "utf8"))?.[1]
  if (shell === undefined) throw new Error("README.md has no shell example")
  // As npm links it, which installs nothing here.
  mkdirSync(join(project, "node_modules", ".bin"))
  symlinkSync("../effect-messaging/dist/cli/bin.js", join(project, "node_modules", ".bin", "effect-messaging"))
  const env = {
    PATH: [join(project, "node_modules", ".bin"), dirname(process.execPath), process.env["PATH"]].join(delimiter),
    HOME: project,
    TMPDIR: project
  }
  const help = run("effect-messaging", ["--help"], project, env)
  if (!help.includes("listen")) throw new Error("the command line of the package does not run")
  const received = run("sh", ["-c", shell], project, env)
  if (!/ uds-1 text from unknown: tests passed$/m.test(received)) {
    throw new Error(`the README's shell example printed ${JSON.stringify(received)}`)
  }
  process.stdout.write(
    `package: ${packed.files.length} files, ${packed.unpackedSize} bytes; the README's examples ran\n`
  )
} finally {
  rmSync(project, { recursive: true, force: true })
}

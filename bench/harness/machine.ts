/** What was measured, and on what: figures without it mean nothing. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"

const versionOf = (file: URL): string | undefined => {
  try {
    return (JSON.parse(fs.readFileSync(file, "utf8")) as { readonly version: string }).version
  } catch {
    return undefined
  }
}

const output = (command: string, args: ReadonlyArray<string>): string | undefined => {
  const { error, status, stdout } = spawnSync(command, args, { encoding: "utf8" })
  return error === undefined && status === 0 ? stdout.trim() : undefined
}

/** From the manifest beside the code; a package that `bench` lacks may be one of the project. */
const installed = (name: string): string | undefined =>
  versionOf(new URL(`../node_modules/${name}/package.json`, import.meta.url)) ??
    versionOf(new URL(`../../node_modules/${name}/package.json`, import.meta.url))

const packages = [
  "effect",
  "@effect/platform-node",
  "node-ipc",
  "vscode-jsonrpc",
  "zeromq",
  "@grpc/grpc-js",
  "rolldown"
]

export const describe = () => ({
  cpu: os.cpus()[0]?.model ?? "unknown",
  cores: os.cpus().length,
  memoryBytes: os.totalmem(),
  system: `${os.type()} ${os.release()} ${os.arch()}`,
  load: os.loadavg().map((value) => Number(value.toFixed(2))),
  node: process.versions.node,
  packages: Object.fromEntries(packages.flatMap((name) => {
    const version = installed(name)
    return version === undefined ? [] : [[name, version]]
  })),
  compiler: output("gcc", ["-dumpfullversion"]),
  commit: output("git", ["rev-parse", "--short", "HEAD"]),
  /** Whether files differ from that commit. */
  changed: output("git", ["status", "--porcelain", "--untracked-files=no"]) !== ""
})

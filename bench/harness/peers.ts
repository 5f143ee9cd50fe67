/** The libraries that ours is compared with: `bench/package.json` names them, and nothing else needs them. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const directory = fileURLToPath(new URL("..", import.meta.url))

/** Without types: the library's own type check must not need what only the benchmark installs. */
export const importPeer = async <A>(specifier: string): Promise<A> => await import(specifier) as A

const specifiers = ["node-ipc", "vscode-jsonrpc/node", "zeromq", "@grpc/grpc-js"]

const reasonOf = async (specifier: string): Promise<string | undefined> => {
  try {
    await import(specifier)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.split("\n", 1)[0] : String(error)
  }
}

/** Why each peer that cannot be loaded cannot. */
export const missing = async (): Promise<ReadonlyMap<string, string>> => {
  const found = new Map<string, string>()
  for (const specifier of specifiers) {
    const reason = await reasonOf(specifier)
    if (reason !== undefined) found.set(specifier, reason)
  }
  return found
}

/** `npm ci`, without install scripts: none of the peers needs its own. Returns what npm said if it failed. */
export const install = (): string | undefined => {
  const { error, status, stderr } = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: directory,
    encoding: "utf8",
    shell: process.platform === "win32"
  })
  if (status === 0) return undefined
  return error?.message ?? stderr.split("\n").find((line) => line.startsWith("npm error"))
}

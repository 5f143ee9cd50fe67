/** Starts one end of a system in a process of its own, and calls it over the IPC channel. */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Methods, Reply, Request } from "./role.ts"

export interface Options {
  readonly system: string
  readonly directory: string
  /** The library to load where the system is ours: the URL of its index. */
  readonly library: string
  /** Where the compiled C programs are. */
  readonly native: string
  /** Cores the process may use, such as `0` or `0,1`; all of them if undefined. */
  readonly cores?: string | undefined
  readonly nodeOptions?: ReadonlyArray<string> | undefined
}

const entry = fileURLToPath(new URL("role.ts", import.meta.url))

/** Home and temporary directory of its own, so that it meets nobody else's endpoints. */
export const environment = (
  directory: string,
  { library, native }: Pick<Options, "library" | "native">
): NodeJS.ProcessEnv => {
  const { CLAUDE_CODE_MESSAGING_SOCKET: _, XDG_RUNTIME_DIR: __, ...rest } = process.env
  return {
    ...rest,
    TMPDIR: directory,
    HOME: directory,
    CLAUDE_CONFIG_DIR: directory,
    BENCH_LIBRARY: library,
    BENCH_NATIVE: native
  }
}

/** Calls wait for each other: a child does one thing at a time. */
const caller = (child: ChildProcess, name: string) => {
  let last: Promise<unknown> = Promise.resolve()
  const exchange = (request: Request) =>
    new Promise((resolve, reject) => {
      const onExit = (code: number | null, signal: string | null) => {
        child.off("message", onReply)
        if (request.method === "stop") resolve(undefined)
        else reject(new Error(`${name} ended with ${code ?? signal} when asked to ${request.method}`))
      }
      const onReply = (reply: Reply) => {
        child.off("exit", onExit)
        if ("error" in reply) reject(new Error(`${name}, ${request.method}: ${reply.error}`))
        else resolve(reply.value)
      }
      if (!child.connected) return onExit(child.exitCode, child.signalCode)
      child.once("exit", onExit)
      if (request.method !== "stop") child.once("message", onReply)
      // Should the channel close meanwhile, `onExit` tells.
      child.send(request, () => {})
    })
  return (method: Request["method"]) => (...args: ReadonlyArray<unknown>) => {
    const result = last.then(() => exchange({ method, args }))
    last = result.catch(() => {})
    return result
  }
}

export const start = (options: Options): Methods => {
  const node = [...(options.nodeOptions ?? []), entry, options.system]
  const [command, args] = options.cores === undefined
    ? [process.execPath, node]
    : ["taskset", ["-c", options.cores, process.execPath, ...node]]
  const child = spawn(command, args, {
    env: environment(options.directory, options),
    stdio: ["ignore", "inherit", "inherit", "ipc"]
  })
  // A command that cannot be started is as one that ended: the first call says so.
  child.once("error", () => {})
  const call = caller(child, options.system)
  return {
    serve: call("serve"),
    begin: call("begin"),
    end: call("end"),
    connect: call("connect"),
    run: call("run"),
    disconnect: call("disconnect"),
    cpu: call("cpu"),
    memory: call("memory"),
    stop: call("stop")
  } as Methods
}

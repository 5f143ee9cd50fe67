/**
 * One end of a system, in a process of its own: `node role.ts <system>`. Does what the parent asks over the IPC channel,
 * one thing at a time, and ends with the channel.
 */
import {
  drainMillis,
  type Load,
  type Served,
  type ServeOptions,
  type Session,
  type System,
  type Target
} from "./system.ts"

const [name] = process.argv.slice(2)
const system = await import(`../systems/${name}.ts`) as System

let served: Served | undefined
let session: Session | undefined
let draining: NodeJS.Timeout | undefined

const cannot = (what: string): never => {
  throw new Error(`${name} cannot ${what}`)
}

const methods = {
  serve: async (options: ServeOptions) => {
    served = await (system.serve?.(options) ?? cannot("serve"))
    return served.target
  },
  /** A server's turn begins and ends: only then does it drain, so that it costs the others nothing. */
  begin: () => {
    if (served?.drain !== undefined) draining = setInterval(served.drain, drainMillis)
  },
  end: () => {
    clearInterval(draining)
    served?.drain?.()
  },
  connect: async (target: Target, load: Load) => {
    session = await (system.connect?.(target, load) ?? cannot("connect"))
  },
  run: (millis: number) => session?.run(millis) ?? cannot("run before it has connected"),
  disconnect: async () => {
    await session?.close()
    session = undefined
  },
  /** Microseconds of CPU so far, user and system, all threads: garbage collection and compilation count. */
  cpu: () => {
    if (served?.cpuMicros !== undefined) return served.cpuMicros()
    const { system, user } = process.cpuUsage()
    return user + system
  },
  /** Bytes resident after a collection; needs `--expose-gc`. */
  memory: () => {
    if (served?.memoryBytes !== undefined) return served.memoryBytes()
    for (let i = 0; i < 4; i++) globalThis.gc?.()
    return process.memoryUsage.rss()
  },
  stop: async () => {
    clearInterval(draining)
    await session?.close()
    await served?.close()
    process.disconnect()
  }
}

/** What a parent can call, and what comes back. */
export type Methods = {
  readonly [K in keyof typeof methods]: (
    ...args: Parameters<(typeof methods)[K]>
  ) => Promise<Awaited<ReturnType<(typeof methods)[K]>>>
}

export interface Request {
  readonly method: keyof Methods
  readonly args: ReadonlyArray<unknown>
}

export type Reply = { readonly value: unknown } | { readonly error: string }

// The parent is gone, or done: nothing here is worth keeping.
process.once("disconnect", () => process.exit())

process.on("message", async ({ args, method }: Request) => {
  try {
    const call = methods[method] as (...args: ReadonlyArray<unknown>) => unknown
    const value = await call(...args)
    if (process.connected) process.send?.({ value } satisfies Reply)
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.stack ?? error.message : String(error) } satisfies Reply)
  }
})

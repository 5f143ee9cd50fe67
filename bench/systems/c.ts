/** The two C programs: the server that is the physical limit, and the load generator that is none. */
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import type { Load, Sample, Served, ServeOptions, Session, Target } from "../harness/system.ts"

const program = (name: string) => path.join(process.env["BENCH_NATIVE"] ?? "", name)

/** Nanoseconds on a CPU are the first field; see proc_pid_schedstat(5). */
const cpuMicros = ({ pid }: ChildProcess) =>
  Number(fs.readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1_000

const output = (child: ChildProcess) =>
  new Promise<string>((resolve, reject) => {
    let text = ""
    child.stdout?.on("data", (bytes) => {
      text += bytes
      if (text.includes("\n")) resolve(text)
    })
    child.once("error", reject)
    child.once("exit", (code) => reject(new Error(`a C program ended with ${code}`)))
  })

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const socketPath = path.join(directory, "c.sock")
  const child = spawn(program("server"), [socketPath], { stdio: ["ignore", "pipe", "inherit"] })
  process.once("exit", () => child.kill())
  await output(child)
  return {
    target: { socketPath, token: "0".repeat(64) },
    cpuMicros: () => cpuMicros(child),
    close: async () => {
      child.removeAllListeners("exit")
      child.kill()
    }
  }
}

const run = async (target: Target, load: Load, millis: number): Promise<Sample> => {
  const args = [target.socketPath, target.token, load.bytes, load.inFlight, millis].map(String)
  const text = await output(spawn(program("load"), args, { stdio: ["ignore", "pipe", "inherit"] }))
  const [acks = 0, nanos = 0, cpuMicros] = text.split(" ").map(Number)
  return { acks, millis: nanos / 1e6, cpuMicros }
}

export const connect = async (target: Target, load: Load): Promise<Session> => ({
  run: (millis) => run(target, load, millis),
  close: async () => {}
})

/**
 * `listen --json` under a flood, as processes: `send --lines` from a file into it, once with a reader that takes all, once
 * with one that takes 1 MB a second. Prints messages a second, what the listener works for one,
 * and the most memory that it held (VmHWM).
 */
import { spawn } from "node:child_process"
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const bin = join(import.meta.dirname, "..", "dist", "cli", "bin.js")
const count = Number(process.env["MESSAGES"] ?? 500_000)

const home = mkdtempSync(join(tmpdir(), "bench-"))
const env = { ...process.env, CLAUDE_CONFIG_DIR: home, TMPDIR: home, XDG_RUNTIME_DIR: "" }

const memory = (pid: number) => /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "?"

/** Seconds that a process has worked, which unlike the time it took do not depend on what else the machine does. */
const worked = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
  // utime and stime of proc(5), in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) / 100
}

const measure = async (name: string, bytesPerSecond: number, lines: number) => {
  const file = join(home, "lines")
  writeFileSync(file, Array.from({ length: lines }, (_, n) => `message number ${n}`).join("\n"))
  // A pipe of the shell's, as users have it, and not the socket that Node would give.
  const listener = spawn("sh", ["-c", `exec "$0" "$1" listen --json --name me | cat`, process.execPath, bin], {
    env,
    stdio: ["ignore", "pipe", "inherit"]
  })
  let read = 0
  let pid = 0
  let printed = 0
  let first = ""
  listener.stdout.on("data", (chunk: Buffer) => {
    if (pid === 0) {
      first += chunk.toString()
      pid = Number(/"pid":(\d+)/.exec(first)?.[1] ?? 0)
    }
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) printed++
    read += chunk.length
    if (!Number.isFinite(bytesPerSecond)) return
    listener.stdout.pause()
    setTimeout(() => listener.stdout.resume(), chunk.length / bytesPerSecond * 1_000)
  })
  // oxlint-disable-next-line no-unmodified-loop-condition -- what arrives on standard output modifies it
  while (pid === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  const before = memory(pid)
  const workedBefore = worked(pid)
  const input = openSync(file, "r")
  const startedAt = performance.now()
  const sender = spawn(process.execPath, [bin, "send", "--to", "me", "--lines", "--timeout", "1m"], {
    env,
    stdio: [input, "pipe", "inherit"]
  })
  let summary = ""
  sender.stdout?.on("data", (chunk: Buffer) => summary += chunk.toString())
  await new Promise((resolve) => sender.once("close", resolve))
  const seconds = (performance.now() - startedAt) / 1_000
  closeSync(input)
  const after = memory(pid)
  // oxlint-disable-next-line no-unmodified-loop-condition -- as above
  while (printed < lines + 1) await new Promise((resolve) => setTimeout(resolve, 20))
  const micros = (worked(pid) - workedBefore) / lines * 1_000_000
  process.kill(pid, "SIGTERM")
  await new Promise((resolve) => listener.once("close", resolve))
  process.stdout.write(
    `${name}: ${lines} messages, ${Math.round(lines / seconds)} a second, ${
      micros.toFixed(1)
    } µs of listener's work each; ${before} kB before, ${after} kB at most; ` +
      `${printed - 1} printed (${read} bytes)\n  ${summary.replace(home, "").trim()}\n`
  )
}

try {
  await measure("fast reader", Infinity, count)
  await measure("fast reader, twice as much", Infinity, 2 * count)
  await measure("reader of 1 MB a second", 1_000_000, count / 10)
} finally {
  rmSync(home, { recursive: true, force: true })
}

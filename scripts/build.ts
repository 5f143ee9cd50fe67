/** Builds `dist` from nothing, and lets the command line run by its name. */
import { spawnSync } from "node:child_process"
import { chmodSync, rmSync } from "node:fs"

rmSync("dist", { recursive: true, force: true })
const { status } = spawnSync("tsc", ["-p", "tsconfig.build.json"], {
  stdio: "inherit",
  shell: process.platform === "win32"
})
if (status === 0) chmodSync("dist/cli/bin.js", 0o755)
process.exitCode = status ?? 1

/** Builds `dist` from nothing: the library module by module, the command line bundled. */
import { spawnSync } from "node:child_process"
import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { bundle } from "./bundle.ts"
import { annotate } from "./pure.ts"

rmSync("dist", { recursive: true, force: true })
const { status } = spawnSync("tsc", ["-p", "tsconfig.build.json"], {
  stdio: "inherit",
  shell: process.platform === "win32"
})
if (status === 0) {
  for (const file of globSync("dist/**/*.js")) writeFileSync(file, annotate(readFileSync(file, "utf8")))
  await bundle("dist/cli")
}
process.exitCode = status ?? 1

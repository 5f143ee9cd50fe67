/** What the library adds to the bundle of an application: each program minified, and gzipped as well, in KiB. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { bundle } from "./harness/bundle.ts"

const library = new URL("../dist/index.js", import.meta.url).href
const directory = mkdtempSync(join(tmpdir(), "size-"))
const kib = (bytes: number) => (bytes / 1_024).toFixed(0).padStart(8)

try {
  process.stdout.write(`${"KiB".padEnd(40)} minified gzipped\n`)
  for (
    const [name, title] of [
      ["hello", "Effect alone"],
      ["client", "Layers.layerClient()"],
      ["firstAck", "Layers.layer()"]
    ] as const
  ) {
    const code = readFileSync(await bundle(name, "bundled", library, directory))
    process.stdout.write(`${title.padEnd(40)} ${kib(code.length)}${kib(gzipSync(code).length)}\n`)
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}

#!/usr/bin/env node
// Little but the check of the version is loaded before it has passed: an older Node may not even parse the rest.
import { isSupportedNode, unsupportedNode } from "../internal/nodeVersion.ts"
import { enable } from "./compileCache.ts"
import { read } from "./plainSend.ts"

if (isSupportedNode(process.versions.node)) {
  // Of the bundle alone: the sources are four hundred files, and change.
  if (import.meta.url.endsWith(".js")) enable()
  if (read(process.argv.slice(2)) === undefined) await import("./main.ts")
  else await import("./plainMain.ts")
} else {
  process.stderr.write(`effect-messaging: ${unsupportedNode(process.versions.node)}\n`)
  process.exitCode = 1
}

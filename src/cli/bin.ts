#!/usr/bin/env node
// Nothing but the check of the version is loaded before it has passed: an older Node may not even parse the rest.
import { isSupportedNode, unsupportedNode } from "../internal/nodeVersion.ts"

if (isSupportedNode(process.versions.node)) {
  await import("./main.ts")
} else {
  process.stderr.write(`effect-messaging: ${unsupportedNode(process.versions.node)}\n`)
  process.exitCode = 1
}

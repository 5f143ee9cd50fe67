/** Where capability files are: `messaging-capabilities` in the configuration home (PROTOCOL.md section 5.2). */
import * as Effect from "effect/Effect"
import * as path from "node:path"
import { Host } from "../Host.ts"
import { Namespace } from "../Namespace.ts"
import { Posix } from "./posix.ts"

export const make = Effect.gen(function*() {
  const posix = yield* Posix
  const host = yield* Host
  const names = yield* Namespace
  // A home reached through a link is used by its real name; from there on no link is followed.
  const configHome = host.environment[names.configVariable] || path.join(host.homedir, names.configDirectory)
  const directory = Effect.map(
    Effect.orElseSucceed(posix.realPath(configHome), () => path.resolve(host.cwd, configHome)),
    (home) => path.join(home, "messaging-capabilities")
  )
  return { directory }
})

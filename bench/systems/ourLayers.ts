/** The library's layers outside of an Effect program, as the roles need them. */
import { Effect, Exit, Layer, Scope } from "effect"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"

export const build = async <A, E>(layer: Layer.Layer<A, E>) => {
  const scope = Scope.makeUnsafe()
  const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  return { context, close: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}

const directory = () => path.join(process.env["CLAUDE_CONFIG_DIR"] ?? "", "messaging-capabilities")

const capabilityFile = (socketPath: string) =>
  path.join(directory(), `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`)

interface Record {
  readonly socketPath: string
  readonly authToken: string
}

/** From the capability file, as a program finds it that knows the protocol and not the library. */
export const tokenOf = (socketPath: string) =>
  (JSON.parse(fs.readFileSync(capabilityFile(socketPath), "utf8")) as Record).authToken

const write = (record: Record) =>
  fs.writeFileSync(capabilityFile(record.socketPath), JSON.stringify(record), { mode: 0o600 })

/** Leaves in the file what a server of protocol 1 writes, so that clients speak protocol 1. */
export const hideProtocol2 = (socketPath: string) => write({ socketPath, authToken: tokenOf(socketPath) })

/** Capability files of peers that have died. */
export const addPeers = (count: number, near: string) => {
  for (let i = 0; i < count; i++) {
    write({ socketPath: `${near}-${i}`, authToken: crypto.randomBytes(32).toString("hex") })
  }
}

/** A whole endpoint over real sockets, in the temporary host of the test. */
import { Context, Effect, Layer, Option, Redacted } from "effect"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import type { HostFacts } from "../../src/Host.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import { Messaging } from "../../src/Messaging.ts"
import { Peers } from "../../src/Peers.ts"

/** Listens until the scope closes. */
export const listening = Effect.fnUntraced(function*(options?: Layers.Options) {
  const context = yield* Layer.build(Layers.layer(options))
  const messaging = Context.get(context, Messaging)
  return {
    messaging,
    inbox: Context.get(context, Inbox),
    peers: Context.get(context, Peers),
    socketPath: Option.getOrThrow(messaging.address).socketPath
  }
})

/** The token as any program of the user can read it. */
export const tokenOf = (host: HostFacts, socketPath: string): Redacted.Redacted<string> => {
  const name = `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
  const file = path.join(host.homedir, ".claude", "messaging-capabilities", name)
  return Redacted.make(JSON.parse(fs.readFileSync(file, "utf8")).authToken)
}

/** A frame of protocol 1 with its LF. */
export const frame = (message: object, token: Redacted.Redacted<string>): string =>
  `${JSON.stringify({ ...message, meta: { authToken: Redacted.value(token) } })}\n`

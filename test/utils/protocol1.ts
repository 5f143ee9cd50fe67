/**
 * Our endpoints among programs that know protocol 1 only: their capability files have no `protocol` key, so our clients
 * speak protocol 1 to them.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import { Host } from "../../src/Host.ts"
import * as Inbox from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import * as Limits from "../../src/Limits.ts"
import * as Message from "../../src/Message.ts"
import * as Messaging from "../../src/Messaging.ts"
import * as Namespace from "../../src/Namespace.ts"
import * as NodeTransport from "../../src/NodeTransport.ts"
import * as Peers from "../../src/Peers.ts"
import type { Transport } from "../../src/Transport.ts"

/** As `Capability.layer`, but what it publishes holds the two keys of a protocol 1 file. For a host with no variables. */
const files = Layer.effect(
  Capability.Capability,
  Effect.gen(function*() {
    const { homedir } = yield* Host
    const capability = yield* Capability.make
    return Capability.Capability.of({
      ...capability,
      publish: (socketPath, options) =>
        Effect.tap(capability.publish(socketPath, options), () =>
          Effect.sync(() => {
            const file = path.join(homedir, ".claude", "messaging-capabilities", Capability.fileName(socketPath))
            const { authToken } = JSON.parse(fs.readFileSync(file, "utf8")) as { readonly authToken: string }
            fs.writeFileSync(file, JSON.stringify({ socketPath, authToken }))
          }))
    })
  })
)

/** Files and sockets of the host in force. */
export const nodeNetwork1 = Layer.mergeAll(files, NodeTransport.layer).pipe(
  Layer.provide(NodeFileSystem.layer),
  Layer.provideMerge(Namespace.layer(undefined))
)

/** The network without I/O that is in force, and capabilities that do not name a protocol. */
export const memoryNetwork1 = Layer.effect(
  Capability.Capability,
  Effect.map(Capability.Capability, (capability) =>
    Capability.Capability.of({
      ...capability,
      lookup: (socketPath) =>
        Effect.map(capability.lookup(socketPath), (record) => ({ ...record, protocol: Message.protocol1 }))
    }))
).pipe(Layer.provideMerge(Layers.memoryNetwork))

const services = <E, R>(messaging: Layer.Layer<Messaging.Messaging, E, R | Inbox.Inbox | Peers.Peers>) =>
  Layer.provideMerge(
    messaging,
    Layer.mergeAll(Layer.effect(Peers.Peers, Peers.make), Layer.effect(Inbox.Inbox, Inbox.make))
  )

/** An endpoint in `network`, with the options of `Layers.layer`. */
export const endpoint1 =
  <E>(network: Layer.Layer<Capability.Capability | Transport, E>) => (options: Layers.Options = {}) =>
    services(Messaging.layer(options)).pipe(
      Layer.provide(network),
      Layer.provide(Layer.mergeAll(Limits.layer(options.limits), Namespace.layer(options.namespace)))
    )

/** An endpoint in `network` that only sends. */
export const client1 = <E>(network: Layer.Layer<Capability.Capability | Transport, E>) =>
  services(Layer.effect(Messaging.Messaging, Messaging.makeClient)).pipe(Layer.provide(network))

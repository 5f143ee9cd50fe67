/** Endpoints that live as long as a test, and clients whose connections a test can count and lead elsewhere. */
import { NodeFileSystem } from "@effect/platform-node"
import { Context, Effect, Exit, Layer, Option, References, Scope } from "effect"
import * as Capability from "../../src/Capability.ts"
import * as Inbox from "../../src/Inbox.ts"
import type * as Layers from "../../src/Layers.ts"
import * as Limits from "../../src/Limits.ts"
import * as Messaging from "../../src/Messaging.ts"
import * as Namespace from "../../src/Namespace.ts"
import * as NodeTransport from "../../src/NodeTransport.ts"
import * as Peers from "../../src/Peers.ts"
import { Transport } from "../../src/Transport.ts"

export interface Endpoint {
  readonly messaging: Messaging.Messaging["Service"]
  readonly inbox: Inbox.Inbox["Service"]
  readonly socketPath: string
  readonly close: Effect.Effect<void>
}

/** Builds endpoints that end with the scope, or when they are closed. */
export const endpointsOf =
  (layer: (options?: Layers.Options) => Layer.Layer<Messaging.Messaging | Inbox.Inbox, Layers.StartError>) =>
  (options?: Layers.Options): Effect.Effect<Endpoint, Layers.StartError, Scope.Scope> =>
    Effect.gen(function*() {
      const scope = yield* Scope.fork(yield* Scope.Scope)
      const services = yield* Layer.buildWithScope(layer(options), scope)
      const messaging = Context.get(services, Messaging.Messaging)
      return {
        messaging,
        inbox: Context.get(services, Inbox.Inbox),
        socketPath: Option.getOrThrow(messaging.address).socketPath,
        close: Scope.close(scope, Exit.void)
      }
    })

/** The network of real sockets, at the host in force. */
export const nodeNetwork = Layer.mergeAll(Capability.layer, NodeTransport.layer).pipe(
  Layer.provide(NodeFileSystem.layer),
  Layer.provideMerge(Namespace.layer(undefined))
)

export interface DiallerOptions {
  readonly limits?: Limits.Options | undefined
  /** Where a connection to a path really leads. Both ends go on naming the path. */
  readonly via?: ((socketPath: string) => string) | undefined
  /** What the capability of every peer says. */
  readonly protocol?: number | undefined
}

/** A client of `network` that tells how many connections it has made, and how many are open. */
export const makeDialler = Effect.fnUntraced(function*<E>(
  network: Layer.Layer<Capability.Capability | Transport, E>,
  { limits, protocol, via = (socketPath) => socketPath }: DiallerOptions = {}
) {
  let dials = 0
  let open = 0
  const counted = Layer.effect(
    Transport,
    Effect.map(Transport, (transport) =>
      Transport.of({
        ...transport,
        dial: (socketPath) =>
          Effect.tap(
            transport.dial(via(socketPath)),
            () =>
              Effect.acquireRelease(
                Effect.sync(() => {
                  dials++
                  open++
                }),
                () => Effect.sync(() => open--)
              )
          )
      }))
  )
  const told = Layer.effect(
    Capability.Capability,
    Effect.map(Capability.Capability, (capability) =>
      Capability.Capability.of({
        ...capability,
        lookup: (socketPath) =>
          Effect.map(
            capability.lookup(socketPath),
            (record) => protocol === undefined ? record : { ...record, protocol }
          )
      }))
  )
  const services = yield* Layer.build(Messaging.layerClient.pipe(
    Layer.provide(Layer.effect(Peers.Peers, Peers.make)),
    Layer.provide(Layer.mergeAll(counted, told)),
    Layer.provide(network),
    Layer.provide(Limits.layer(limits))
  ))
  return {
    ...Context.get(services, Messaging.Messaging),
    dials: () => dials,
    open: () => open
  }
})

/** Handles what arrives at the endpoint until the test ends. What its handler does wrong is not logged. */
export const handling = <E>(
  { inbox }: Pick<Endpoint, "inbox">,
  handler: Inbox.Handler<E, never>,
  options?: Inbox.ConsumeOptions
) =>
  inbox.consume(handler, options).pipe(
    Effect.provideService(References.MinimumLogLevel, "None"),
    Effect.forkScoped({ startImmediately: true })
  )

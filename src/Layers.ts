/**
 * The library as layers. Composition only.
 *
 * Each function call is a layer of its own: keep the result in a constant to share one endpoint, call again for another.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { AddressError } from "./Address.ts"
import * as Capability from "./Capability.ts"
import { Host } from "./Host.ts"
import * as Inbox from "./Inbox.ts"
import { Interposer } from "./internal/interposer.ts"
import { isSupportedNode, unsupportedNode } from "./internal/nodeVersion.ts"
import * as Limits from "./Limits.ts"
import * as MemoryTransport from "./MemoryTransport.ts"
import * as Messaging from "./Messaging.ts"
import * as Namespace from "./Namespace.ts"
import * as NodeTransport from "./NodeTransport.ts"
import * as Peers from "./Peers.ts"
import { type ListenError, Transport } from "./Transport.ts"

/** This Node is older than the library supports. Nothing has been started. */
export class UnsupportedNode extends Schema.TaggedError<UnsupportedNode>()("UnsupportedNode", {
  /** The version that runs, such as `20.11.1`. */
  version: Schema.String
}) {
  override get message() {
    return unsupportedNode(this.version)
  }
}

/** What a program that only sends can choose. */
export interface ClientOptions {
  /** Names the directories and the environment variable. Default `claude-code`, where protocol 1 programs meet. */
  readonly namespace?: string | undefined
  /** The limits to change. Each default is in `Limits.Values`. */
  readonly limits?: Limits.Options | undefined
}

/** What an endpoint can choose. */
export interface Options extends ClientOptions, Messaging.Options {}

/** Wrong options, or a Node that is too old. */
export type OptionsError = Limits.InvalidLimit | Namespace.InvalidNamespace | UnsupportedNode

/** Whatever keeps an endpoint from starting. Nothing is left behind. */
export type StartError = OptionsError | AddressError | ListenError | Capability.CapabilityError

const settings = (options: ClientOptions) =>
  Layer.mergeAll(Limits.layer(options.limits), Namespace.layer(options.namespace))

const supportedNode = Layer.effectDiscard(Effect.gen(function*() {
  const { nodeVersion } = yield* Host
  if (!isSupportedNode(nodeVersion)) return yield* new UnsupportedNode({ version: nodeVersion })
}))

const interposed = <E, R>(transport: Effect.Effect<Transport["Service"], E, R>) =>
  Effect.flatMap(Interposer, (interposition) => Effect.map(transport, interposition.transport))

const interposedFiles = Effect.flatMap(
  Interposer,
  (interposition) => Effect.map(FileSystem.FileSystem, interposition.fileSystem)
)

// The modules' own layers are constants, and a constant layer is built once per program: two endpoints would share one
// inbox. So each call here makes layers of its own from the modules' constructors.
const node = (options: ClientOptions) =>
  Layer.mergeAll(
    Layer.effect(Capability.Capability, Capability.make),
    Layer.effect(Transport, interposed(NodeTransport.make))
  ).pipe(
    Layer.provide(Layer.effect(FileSystem.FileSystem, interposedFiles).pipe(Layer.provide(NodeFileSystem.layer))),
    Layer.provideMerge(supportedNode),
    Layer.provideMerge(settings(options))
  )

const services = <E, R>(messaging: Layer.Layer<Messaging.Messaging, E, R | Inbox.Inbox | Peers.Peers>) =>
  messaging.pipe(
    Layer.provideMerge(
      Layer.mergeAll(Layer.effect(Peers.Peers, Peers.make), Layer.effect(Inbox.Inbox, Inbox.make))
    )
  )

/**
 * An endpoint that listens at a Unix socket, or a pipe on Windows, publishes its capability and tells its children
 * through the environment variable. Brings the Node platform along. Released when the scope closes. Fails with
 * `StartError`, and then leaves nothing behind.
 */
export const layer = (
  options: Options = {}
): Layer.Layer<Messaging.Messaging | Inbox.Inbox | Peers.Peers, StartError> =>
  services(Messaging.layer(options)).pipe(Layer.provide(node(options)))

/**
 * Sends, pings and lists; listens nowhere and publishes nothing. `address` is none, and the inbox is the program's own.
 * Fails with `OptionsError`.
 */
export const layerClient = (
  options: ClientOptions = {}
): Layer.Layer<Messaging.Messaging | Inbox.Inbox | Peers.Peers, OptionsError> =>
  services(Layer.effect(Messaging.Messaging, Messaging.makeClient)).pipe(Layer.provide(node(options)))

const optional = <A>(config: Config.Config<A>) => Config.withDefault(config, undefined)

/**
 * The options by their own names: `socketPath`, `namespace`, `name`, and `limits` with each limit's name, nested in
 * whatever way the config provider reads (`MESSAGING_LIMITS_MAX_PEERS` with a constant-case provider nested in
 * `messaging`). What is absent has its default.
 */
export const config: Config.Config<Options> = Config.all({
  socketPath: optional(Config.String("socketPath")),
  namespace: optional(Config.String("namespace")),
  name: optional(Config.String("name")),
  limits: Config.nested(
    Config.all({
      maxFrameBytes: optional(Config.Int("maxFrameBytes")),
      maxJsonDepth: optional(Config.Int("maxJsonDepth")),
      maxJsonNodes: optional(Config.Int("maxJsonNodes")),
      maxInboxEntries: optional(Config.Int("maxInboxEntries")),
      maxInboxBytes: optional(Config.Int("maxInboxBytes")),
      maxPeers: optional(Config.Int("maxPeers")),
      maxUnauthenticatedPeers: optional(Config.Int("maxUnauthenticatedPeers")),
      maxUnreadBytes: optional(Config.Int("maxUnreadBytes")),
      maxTotalUnreadBytes: optional(Config.Int("maxTotalUnreadBytes")),
      maxCapabilityBytes: optional(Config.Int("maxCapabilityBytes")),
      maxRemoteErrorBytes: optional(Config.Int("maxRemoteErrorBytes")),
      maxRememberedMessages: optional(Config.Int("maxRememberedMessages")),
      maxInFlightMessages: optional(Config.Int("maxInFlightMessages")),
      maxInFlightBytes: optional(Config.Int("maxInFlightBytes")),
      authenticationTimeout: optional(Config.Duration("authenticationTimeout")),
      maxRefusalDelay: optional(Config.Duration("maxRefusalDelay")),
      idleTimeout: optional(Config.Duration("idleTimeout")),
      frameTimeout: optional(Config.Duration("frameTimeout")),
      writeTimeout: optional(Config.Duration("writeTimeout")),
      closeTimeout: optional(Config.Duration("closeTimeout")),
      sendTimeout: optional(Config.Duration("sendTimeout")),
      connectionTimeout: optional(Config.Duration("connectionTimeout")),
      keepAliveInterval: optional(Config.Duration("keepAliveInterval")),
      rememberTimeout: optional(Config.Duration("rememberTimeout")),
      retryAfter: optional(Config.Duration("retryAfter")),
      watchInterval: optional(Config.Duration("watchInterval")),
      republishInterval: optional(Config.Duration("republishInterval")),
      probeTimeout: optional(Config.Duration("probeTimeout"))
    }),
    "limits"
  )
})

/** As `layer`, with the options read from Effect's `Config`. Fails with `StartError`, and with `ConfigError` as well. */
export const layerConfig = (
  options: Config.Config<Options> = config
): Layer.Layer<Messaging.Messaging | Inbox.Inbox | Peers.Peers, StartError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(options, layer))

/**
 * The network in which the endpoints of `layerMemory` meet. Provide it around a program that builds several of them;
 * each program, and so each test, then has a network of its own.
 */
export const memoryNetwork: Layer.Layer<Capability.Capability | Transport> = Layer.mergeAll(
  Capability.layerMemory,
  MemoryTransport.layer
)

const noEnvironment = Layer.effect(Host, Effect.map(Host, (host) => ({ ...host, environment: {} })))

/**
 * An endpoint without I/O: in-memory sockets, no file, no descriptor, and no environment variable. Every deadline
 * follows the clock in force, so a program can be tested under `TestClock`. Fails with `StartError`: a wrong option, or a
 * path that another endpoint of the same network has.
 */
export const layerMemory = (
  options: Options = {}
): Layer.Layer<Messaging.Messaging | Inbox.Inbox | Peers.Peers, StartError> =>
  services(Messaging.layer(options)).pipe(
    Layer.provide(settings(options)),
    Layer.provide(noEnvironment),
    Layer.provide(Layer.provideMerge(Layer.effect(Transport, interposed(Transport)), memoryNetwork))
  )

/**
 * The endpoint: an address of its own, an inbox behind it, and messages to others.
 *
 * The start takes, in order, the socket path, the capability file and the environment variable, and only then serves;
 * each step is released by the scope in which it was taken, in reverse. So a failed or interrupted start leaves
 * nothing, and closing the scope is the only way to stop.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as crypto from "node:crypto"
import * as Address from "./Address.ts"
import { Capability, type CapabilityError } from "./Capability.ts"
import * as Client from "./Client.ts"
import * as Connection from "./Connection.ts"
import { Host } from "./Host.ts"
import type { Inbox, Size } from "./Inbox.ts"
import { exportVariable } from "./internal/exportedVariable.ts"
import type { Identity } from "./internal/greeting.ts"
import * as metrics from "./internal/metrics.ts"
import { Outboxes } from "./internal/outbox.ts"
import * as peerPool from "./internal/peerPool.ts"
import type { Answer, Until } from "./internal/request.ts"
import * as trace from "./internal/trace.ts"
import { Limits } from "./Limits.ts"
import { type Message, query } from "./Message.ts"
import { InvalidMessage, MessagingError, Timeout } from "./MessagingError.ts"
import { Namespace } from "./Namespace.ts"
import { Peers } from "./Peers.ts"
import { type Listener, type ListenError, Transport } from "./Transport.ts"

/**
 * A peer to reach: the text of an address, a socket path, the name of a live peer if only one has it, or anything that
 * has a socket path, such as a listed peer.
 */
export type To = string | { readonly socketPath: string }

/** The peer's word that it has stored the message. */
export interface Receipt {
  /** Where the peer listens. */
  readonly socketPath: string
  /** The id of the entry in the peer's inbox, where the peer tells it. */
  readonly id: Option.Option<string>
}

/** What a ping tells of a peer. */
export interface Status {
  /** The time from call to answer. */
  readonly roundTrip: Duration.Duration
  /** What is in its inbox, where the peer tells; a protocol 1 peer does not. */
  readonly inbox: Option.Option<Size>
}

/** How `ask` and `ping` wait. */
export interface AskOptions {
  /** From call to answer, absolute. Default: the limit `sendTimeout`, 5 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** Whether to try again, when the peer says, while its inbox is full and the deadline allows. Default false. */
  readonly retryWhenFull?: boolean | undefined
}

/** How `send` waits. */
export interface SendOptions extends AskOptions {
  /** What to wait for: `stored` in the peer's inbox, or `handled` by its handler. Default `stored`. */
  readonly until?: "stored" | "handled" | undefined
}

/** This endpoint's address, and messages to others. */
export class Messaging extends Context.Service<Messaging, {
  /** Where this endpoint listens; none for a client. */
  readonly address: Option.Option<Address.Address>
  /**
   * Resolves when the peer has stored the message in its inbox or, with `until: "handled"`, when its handler has
   * succeeded. The message carries this endpoint's path as `from` unless it has one. A message whose connection is lost
   * is sent again within the deadline, and stored once; to a protocol 1 peer it is not. Fails with `MessagingError`,
   * whose reason says whether the message may have been stored.
   */
  readonly send: (to: To, message: Message, options?: SendOptions) => Effect.Effect<Receipt, MessagingError>
  /**
   * Sends a query and resolves to the answer of the peer's handler. Fails with `MessagingError`: `HandlerFailed` when
   * the handler did, `NotSupported` for a protocol 1 peer, and at once when the peer dies.
   */
  readonly ask: (to: To, query: string | Message, options?: AskOptions) => Effect.Effect<string, MessagingError>
  /** The time from call to answer of a ping. Stores nothing. Fails with `MessagingError`. */
  readonly ping: (to: To, options?: AskOptions) => Effect.Effect<Duration.Duration, MessagingError>
  /** As `ping`, with all that the answer tells. Fails with `MessagingError`. */
  readonly status: (to: To, options?: AskOptions) => Effect.Effect<Status, MessagingError>
}>()("effect-messaging/Messaging") {}

/** What an endpoint that listens can choose. */
export interface Options {
  /** Where to listen. Default: a new path in the user's own directory, which is removed again. */
  readonly socketPath?: string | undefined
  /** By which peers may reach it, and people know it. Default none. */
  readonly name?: string | undefined
  /** Whether clients of protocol 1 are served. Default true. */
  readonly protocol1?: boolean | undefined
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

/** A caller without types may pass anything; what cannot be read cannot be sent. */
const asQuery = (question: string | Message): Effect.Effect<Message, MessagingError> =>
  typeof question === "string" ? Effect.succeed(query(question)) : Effect.try({
    try: (): Message => ({ ...question, type: "query" }),
    catch: () => fail(new InvalidMessage({ problem: "one of its properties throws when it is read" }))
  })

/** Sends for an endpoint, or for a client that has none. Connections last as long as the scope. */
const makeSender = Effect.fnUntraced(function*(own: Identity | undefined) {
  const client = yield* Client.make(own)
  const peers = yield* Peers
  const host = yield* Host
  const limits = yield* Limits

  const named = (name: string) =>
    Effect.mapBoth(peers.named(name), {
      onSuccess: ({ socketPath }) => socketPath,
      onFailure: (error) => error._tag === "NameNotUnique" ? fail(error) : Client.fromCapability(name)(error)
    })
  // The last address that was parsed, since a program that sends much sends much to one peer.
  let parsed: { readonly to: string; readonly socketPath: string } | undefined
  const parse = (to: string): Effect.Effect<string, MessagingError> =>
    Result.match(Address.parse(to, host.platform), {
      onFailure: ({ reason }) => Effect.fail(fail(reason)),
      onSuccess: ({ socketPath }) => {
        parsed = { to, socketPath }
        return Effect.succeed(socketPath)
      }
    })

  const request = <A>(
    name: string,
    to: To,
    message: Message,
    until: Until,
    options: AskOptions | undefined,
    pick: (answer: Answer, socketPath: string) => A
  ): Effect.Effect<A, MessagingError> =>
    trace.span(name, (traceparent) => {
      const { retryWhenFull = false, timeout = limits.sendTimeout } = options ?? {}
      const requestAt = (socketPath: string, left = timeout) =>
        client.request(socketPath, message, { until, timeout: left, retryWhenFull, traceparent }, pick)
      if (parsed !== undefined && to === parsed.to) return requestAt(parsed.socketPath)
      if (typeof to === "string" && Address.isName(to)) {
        return Effect.flatMap(
          Effect.timeoutOrElse(Effect.timed(named(to)), {
            duration: timeout,
            orElse: () => Effect.fail(fail(new Timeout({ socketPath: to, mayBeStored: false })))
          }),
          ([taken, socketPath]) => requestAt(socketPath, Duration.subtract(Duration.fromInputUnsafe(timeout), taken))
        )
      }
      return Effect.flatMap(parse(typeof to === "string" ? to : `${to?.socketPath ?? ""}`), (socketPath) =>
        requestAt(socketPath))
    })

  const status = Effect.fnUntraced(function*(to: To, options?: AskOptions) {
    const before = yield* Clock.monotonicTimeNanos
    const inbox = yield* request("Messaging.ping", to, { type: "ping" }, "pong", options, ({ inbox }) => inbox)
    const roundTrip = Duration.nanos((yield* Clock.monotonicTimeNanos) - before)
    return { roundTrip, inbox: Option.fromNullishOr(inbox) } satisfies Status
  })

  return Messaging.of({
    address: Option.map(Option.fromNullishOr(own), ({ socketPath }) => ({ socketPath })),
    send: (to, message, options) =>
      request(
        "Messaging.send",
        to,
        message,
        options?.until ?? "stored",
        options,
        ({ id }, socketPath): Receipt => ({ socketPath, id })
      ),
    ask: (to, question, options) =>
      Effect.flatMap(
        asQuery(question),
        (message) => request("Messaging.ask", to, message, "answered", options, ({ data }) => data)
      ),
    ping: (to, options) => Effect.map(status(to, options), ({ roundTrip }) => roundTrip),
    status
  })
})

// A sweep may remove the new directory while it is still empty; then another one is taken.
const vanished = ({ reason }: ListenError) =>
  (reason._tag === "FileFailed" && reason.code === "ENOENT") ||
  (reason._tag === "ListenFailed" && (reason.code === "ENOENT" || reason.code === "EACCES"))

/** A listener at the path asked for, or at a new default path. */
const listen: (
  socketPath: string | undefined
) => Effect.Effect<
  { readonly socketPath: string; readonly listener: Listener },
  Address.AddressError | ListenError,
  Scope.Scope | Transport
> = Effect.fnUntraced(function*(socketPath) {
  const transport = yield* Transport
  const host = yield* Host
  const { namespace } = yield* Namespace
  if (socketPath !== undefined) {
    const address = yield* Effect.fromResult(Address.parse(socketPath, host.platform))
    return { socketPath: address.socketPath, listener: yield* transport.listen(address) }
  }
  const { runtimeDirectory, tmpdir } = yield* transport.directories
  const attempt = Effect.gen(function*() {
    const nonce = crypto.randomBytes(Address.nonceDigits / 2).toString("hex")
    const path = yield* Effect.fromResult(Address.defaultPath({ ...host, tmpdir }, namespace, nonce, runtimeDirectory))
    const base = Option.getOrUndefined(path.base)
    return { socketPath: path.socketPath, listener: yield* transport.listen({ socketPath: path.socketPath, base }) }
  })
  return yield* Effect.retry(attempt, {
    while: (error) => error._tag === "ListenError" && vanished(error),
    times: 3
  })
})

/**
 * An endpoint that listens until the scope closes. Fails with `AddressError`, `ListenError` or `CapabilityError`, and
 * then leaves nothing behind.
 */
export const make: (options?: Options) => Effect.Effect<
  Messaging["Service"],
  Address.AddressError | ListenError | CapabilityError,
  Scope.Scope | Capability | Inbox | Peers | Transport
> = Effect.fnUntraced(function*(options: Options = {}) {
  const capability = yield* Capability
  const host = yield* Host
  const limits = yield* Limits
  const { environmentVariable } = yield* Namespace

  const { listener, socketPath } = yield* listen(options.socketPath)
  const { token } = yield* capability.publish(socketPath, { name: options.name })
  yield* exportVariable(host.environment, environmentVariable, socketPath)

  const pool = peerPool.make(limits, yield* metrics.make)
  const outboxes = new Outboxes()
  const connection = yield* Connection.make({ socketPath, token, protocol1: options.protocol1, outboxes })
  yield* listener.run((socket) => pool.run((place) => connection(socket, place))).pipe(
    Effect.tapCause((cause) => Effect.logError("the endpoint stopped accepting connections", cause)),
    Effect.forkScoped({ startImmediately: true })
  )
  // What was answered in the same turn is written before the connections are cut.
  yield* Effect.addFinalizer(() => Effect.sync(() => outboxes.flush()))
  return yield* makeSender({ socketPath, token })
})

/** An endpoint that only sends: no socket, no file, no environment variable. */
export const makeClient: Effect.Effect<
  Messaging["Service"],
  never,
  Capability | Peers | Transport | Scope.Scope
> = makeSender(undefined)

/** As `make`, until the layer is released. Fails with `AddressError`, `ListenError` or `CapabilityError`. */
export const layer = (options?: Options) => Layer.effect(Messaging, make(options))

/** As `makeClient`, until the layer is released. */
export const layerClient = Layer.effect(Messaging, makeClient)

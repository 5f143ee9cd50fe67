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
import type * as Scope from "effect/Scope"
import * as crypto from "node:crypto"
import * as Address from "./Address.ts"
import { Capability, type CapabilityError } from "./Capability.ts"
import * as Client from "./Client.ts"
import * as Connection from "./Connection.ts"
import { Host } from "./Host.ts"
import type { Inbox } from "./Inbox.ts"
import { exportVariable } from "./internal/exportedVariable.ts"
import * as peerPool from "./internal/peerPool.ts"
import { Limits } from "./Limits.ts"
import type { Message } from "./Message.ts"
import { InvalidMessage, MessagingError } from "./MessagingError.ts"
import { Namespace } from "./Namespace.ts"
import { type Listener, type ListenError, Transport } from "./Transport.ts"

/** A peer to reach: the text of an address, a socket path, or anything that has one, such as a listed peer. */
export type To = string | { readonly socketPath: string }

/** The peer's word that it has stored the message. */
export interface Receipt {
  readonly socketPath: string
  /** The id of the entry in the peer's inbox, where the peer tells it. */
  readonly id: Option.Option<string>
}

export interface SendOptions {
  /** From call to answer, absolute. Default: the limit `sendTimeout`, 5 seconds. */
  readonly timeout?: Duration.Input | undefined
}

export class Messaging extends Context.Service<Messaging, {
  /** Where this endpoint listens; none for a client. */
  readonly address: Option.Option<Address.Address>
  /**
   * Resolves when the peer has stored the message in its inbox. The message carries this endpoint's path as `from`
   * unless it has one. Fails with `MessagingError`, whose reason says whether the message may have been stored.
   */
  readonly send: (to: To, message: Message, options?: SendOptions) => Effect.Effect<Receipt, MessagingError>
  /** The time from call to answer of a ping, the connect included. Stores nothing. Fails with `MessagingError`. */
  readonly ping: (to: To, options?: SendOptions) => Effect.Effect<Duration.Duration, MessagingError>
}>()("effect-messaging/Messaging") {}

export interface Options {
  /** Where to listen. Default: a new path in the user's own directory, which is removed again. */
  readonly socketPath?: string | undefined
  /** Shown to people who list peers. */
  readonly name?: string | undefined
}

const fail = (reason: MessagingError["reason"]) => new MessagingError({ reason })

const makeSender = Effect.fnUntraced(function*(address: Option.Option<Address.Address>) {
  const client = yield* Client.make
  const host = yield* Host
  const limits = yield* Limits

  const target = (to: To) =>
    Effect.fromResult(Address.parse(typeof to === "string" ? to : `${to?.socketPath ?? ""}`, host.platform)).pipe(
      Effect.mapBoth({ onSuccess: ({ socketPath }) => socketPath, onFailure: ({ reason }) => fail(reason) })
    )

  const own = Option.getOrUndefined(address)?.socketPath
  /** A caller without types may pass anything; what cannot be read cannot be sent. */
  const withFrom = (message: Message) =>
    Effect.try({
      try: (): Message => own === undefined || message.from !== undefined ? message : { ...message, from: own },
      catch: () => fail(new InvalidMessage({ problem: "one of its properties throws when it is read" }))
    })

  const request = Effect.fnUntraced(function*(to: To, message: Message, options: SendOptions | undefined) {
    const socketPath = yield* target(to)
    const reply = yield* client.request(socketPath, message, options?.timeout ?? limits.sendTimeout)
    return { socketPath, reply }
  })

  return Messaging.of({
    address,
    send: Effect.fn("Messaging.send")(function*(to, message, options) {
      const { reply, socketPath } = yield* request(to, yield* withFrom(message), options)
      const id = reply.meta?.["id"]
      return { socketPath, id: typeof id === "string" ? Option.some(id) : Option.none() }
    }),
    ping: Effect.fn("Messaging.ping")(function*(to, options) {
      const before = yield* Clock.monotonicTimeNanos
      yield* request(to, { type: "ping" }, options)
      return Duration.nanos((yield* Clock.monotonicTimeNanos) - before)
    })
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
  Scope.Scope | Capability | Inbox | Transport
> = Effect.fnUntraced(function*(options: Options = {}) {
  const capability = yield* Capability
  const host = yield* Host
  const limits = yield* Limits
  const { environmentVariable } = yield* Namespace

  const { listener, socketPath } = yield* listen(options.socketPath)
  const { token } = yield* capability.publish(socketPath, { name: options.name })
  yield* exportVariable(host.environment, environmentVariable, socketPath)

  const pool = peerPool.make(limits)
  const connection = yield* Connection.make({ socketPath, token })
  yield* listener.run((socket) => pool.run((admit) => connection(socket, admit))).pipe(
    Effect.tapCause((cause) => Effect.logError("the endpoint stopped accepting connections", cause)),
    Effect.forkScoped({ startImmediately: true })
  )
  return yield* makeSender(Option.some({ socketPath }))
})

/** An endpoint that only sends: no socket, no file, no environment variable. */
export const makeClient: Effect.Effect<Messaging["Service"], never, Capability | Transport> = makeSender(Option.none())

export const layer = (options?: Options) => Layer.effect(Messaging, make(options))

export const layerClient = Layer.effect(Messaging, makeClient)

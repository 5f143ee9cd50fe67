/** The library at both ends: `Layers.layer` behind the socket, and `Messaging.send` in as many fibers as are in flight. */
import { Context, Duration, Effect, Option } from "effect"
import { repeatEffect } from "../harness/driveEffect.ts"
import {
  inboxLimits,
  type Load,
  message,
  type Served,
  type ServeOptions,
  type Session,
  type Target
} from "../harness/system.ts"
import { load as loadLibrary } from "../library.ts"
import { addPeers, build, hideProtocol2, tokenOf } from "./ourLayers.ts"

const { Inbox, Layers, Messaging } = await loadLibrary()

/** More than the turns of all others take. */
const betweenTurns = Duration.minutes(5)

type Sender = typeof Messaging.Messaging.Service

/** Takes the oldest until as many are left as are to wait. */
const takeDownTo = (inbox: typeof Inbox.Inbox.Service, waiting: number) =>
  Effect.gen(function*() {
    const { entries } = yield* inbox.size
    for (let i = waiting; i < entries; i++) yield* inbox.take
  })

export const serve = async ({ answers, peers = 0, protocol1, waiting = 0 }: ServeOptions): Promise<Served> => {
  // Only what the rows exceed on purpose; every check and deadline stays on, and so do metrics and filtered logs.
  const limits = {
    maxInboxEntries: inboxLimits.entries,
    maxInboxBytes: inboxLimits.bytes,
    maxPeers: 4_096,
    maxUnauthenticatedPeers: 4_096,
    idleTimeout: betweenTurns
  }
  const { close, context } = await build(Layers.layer({ limits }))
  const inbox = Context.get(context, Inbox.Inbox)
  const { socketPath } = Option.getOrThrow(Context.get(context, Messaging.Messaging).address)
  const token = tokenOf(socketPath)
  if (protocol1 === true) hideProtocol2(socketPath)
  addPeers(peers, socketPath)
  for (let i = 0; i < waiting; i++) Effect.runSync(inbox.offer({ type: "text", data: "waiting" }))
  if (answers === true) Effect.runFork(inbox.consume(() => Effect.succeed("ok")))
  const all = Effect.asVoid(inbox.drain)
  const drain = waiting === 0 ? all : takeDownTo(inbox, waiting)
  return {
    target: { socketPath, token },
    ...(answers === true ? {} : { drain: () => Effect.runSync(drain) }),
    close
  }
}

export const connect = async (target: Target, load: Load): Promise<Session> => {
  const clients = await Promise.all(
    Array.from(
      { length: load.connections },
      () => build(Layers.layerClient({ limits: { connectionTimeout: betweenTurns } }))
    )
  )
  const senders = clients.map(({ context }) => Context.get(context, Messaging.Messaging))
  const data = message(load.bytes)
  const text = { type: "text" as const, data }
  const one = (sender: Sender): Effect.Effect<unknown, unknown> =>
    load.ask === true ? sender.ask(target.socketPath, data) : sender.send(target.socketPath, text)
  return repeatEffect(load, senders.map(one), async () => {
    for (const { close } of clients) await close()
  })
}

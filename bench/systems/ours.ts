/** The library at both ends: `Layers.layer` behind the socket, and `Messaging.send` in as many fibers as are in flight. */
import { Context, Effect, Exit, Layer, Option, Scope } from "effect"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { shareOf, summarize } from "../harness/drive.ts"
import {
  drainMillis,
  inboxLimits,
  type Load,
  message,
  type Sample,
  type Served,
  type ServeOptions,
  type Session,
  type Target
} from "../harness/system.ts"
import { load as loadLibrary } from "../library.ts"

const { Inbox, Layers, Messaging } = await loadLibrary()

/** From the capability file, as a program finds it that knows the protocol and not the library. */
const tokenOf = (socketPath: string) => {
  const name = `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
  const file = path.join(process.env["CLAUDE_CONFIG_DIR"] ?? "", "messaging-capabilities", name)
  return (JSON.parse(fs.readFileSync(file, "utf8")) as { readonly authToken: string }).authToken
}

const build = async <A, E>(layer: Layer.Layer<A, E>) => {
  const scope = Scope.makeUnsafe()
  const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  return { context, close: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}

export const serve = async ({ drains, waiting = 0 }: ServeOptions): Promise<Served> => {
  const { close, context } = await build(
    Layers.layer({
      limits: { maxInboxEntries: inboxLimits.entries, maxInboxBytes: inboxLimits.bytes, maxPeers: 4_096 }
    })
  )
  const inbox = Context.get(context, Inbox.Inbox)
  const { socketPath } = Option.getOrThrow(Context.get(context, Messaging.Messaging).address)
  for (let i = 0; i < waiting; i++) Effect.runSync(inbox.offer({ type: "text", data: "waiting" }))
  const timer = drains === false ? undefined : setInterval(() => {
    if (waiting === 0) Effect.runSync(inbox.drain)
    else Effect.runSync(takeDownTo(inbox, waiting))
  }, drainMillis)
  return {
    target: { socketPath, token: tokenOf(socketPath) },
    close: () => {
      clearInterval(timer)
      return close()
    }
  }
}

/** Takes the oldest until as many are left as are to wait. */
const takeDownTo = (inbox: typeof Inbox.Inbox.Service, waiting: number) =>
  Effect.gen(function*() {
    const { entries } = yield* inbox.size
    for (let i = waiting; i < entries; i++) yield* inbox.take
  })

export const connect = async (target: Target, load: Load): Promise<Session> => {
  const clients = await Promise.all(Array.from({ length: load.connections }, () => build(Layers.layerClient())))
  const services = clients.map(({ context }) => Context.get(context, Messaging.Messaging))
  // The connection is made by the first message; that one is not measured.
  for (const messaging of services) await Effect.runPromise(messaging.ping(target.socketPath))
  const text = { type: "text" as const, data: message(load.bytes) }

  const run = (millis: number): Effect.Effect<Sample, unknown> =>
    Effect.gen(function*() {
      const latencies: Array<number> | undefined = load.inFlight === 1 ? [] : undefined
      let acks = 0
      let elapsed = 0
      const start = performance.now()
      setTimeout(() => {
        elapsed = performance.now() - start
      }, millis)
      const one = (messaging: typeof Messaging.Messaging.Service) =>
        Effect.gen(function*() {
          // oxlint-disable-next-line no-unmodified-loop-condition -- the timer above modifies it
          while (elapsed === 0) {
            const sentAt = latencies === undefined ? 0 : performance.now()
            yield* messaging.send(target.socketPath, text)
            if (elapsed === 0) acks++
            latencies?.push((performance.now() - sentAt) * 1_000)
          }
        })
      const fibers = services.flatMap((messaging) => Array.from({ length: shareOf(load) }, () => one(messaging)))
      yield* Effect.all(fibers, { concurrency: "unbounded", discard: true })
      return { acks, millis: elapsed, latencies: latencies && summarize(latencies) }
    })

  return {
    run: (millis) => Effect.runPromise(run(millis)),
    close: async () => {
      for (const { close } of clients) await close()
    }
  }
}

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Metric } from "effect"
import { defaults, Limits } from "../src/Limits.ts"
import { frame, ping, serve, type ServeOptions, text } from "./utils/memoryPeer.ts"
import { auth, greet, request, serveProven2 } from "./utils/protocol2.ts"

const one = Effect.provideService(Limits, { ...defaults, maxInboxEntries: 1 })
const ownRegistry = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** Every counter that is not zero, by name and reason. */
const counters = Effect.map(Metric.snapshot, (all) =>
  Object.fromEntries(all.flatMap(({ attributes, id, state }) => {
    const count = Number((state as { readonly count?: number | bigint }).count ?? 0)
    const name = [id.replace("effect_messaging_", ""), ...Object.values(attributes ?? {})].join(" ")
    return count === 0 ? [] : [[name, count]]
  })))

/** What is told at the end of the turn has been told. */
const turns = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("Connection counts", () => {
  it.effect.each<{ readonly what: string; readonly sent: string; readonly options?: ServeOptions }>([
    { what: "unauthorized", sent: "{}\n" },
    { what: "invalid", sent: "null\n" },
    { what: "invalid", sent: frame({ type: "shout" }) },
    { what: "too-large", sent: `${" ".repeat(65_537)}\n` },
    { what: "too-many", sent: ping, options: { admit: () => false } },
    { what: "full", sent: text("a") + text("b") }
  ])("a connection of protocol 1 that ends as $what: %#", ({ options, sent, what }) =>
    Effect.gen(function*() {
      const { peer, session } = yield* serve(options)
      yield* Effect.forkScoped(peer.write(sent))
      yield* peer.rest
      yield* peer.hangUp
      yield* Fiber.await(session)
      const refusals = Object.fromEntries(
        Object.entries(yield* counters).filter(([name]) => name.startsWith("refused"))
      )
      assert.deepStrictEqual(refusals, { [`refused ${what}`]: 1 })
    }).pipe(one, ownRegistry))

  it.effect("a peer of protocol 2 that there is no room for", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* serve({ admit: () => false })
      const { nonce } = yield* greet(peer)
      yield* peer.write(auth(nonce))
      yield* Fiber.await(session)
      assert.deepStrictEqual(yield* counters, { "refused too-many": 1 })
    }).pipe(ownRegistry))

  it.effect("messages of protocol 1 and their bytes without the line end", () =>
    Effect.gen(function*() {
      const { peer } = yield* serve()
      yield* peer.write(text("a") + text("é"))
      yield* peer.line
      yield* peer.line
      yield* turns
      assert.deepStrictEqual(yield* counters, {
        messages_accepted: 2,
        bytes_accepted: Buffer.byteLength(text("a") + text("é")) - 2
      })
    }).pipe(ownRegistry))

  it.effect("messages of protocol 2 that are stored, sent again, and refused", () =>
    Effect.gen(function*() {
      const { peer } = yield* serveProven2()
      yield* peer.write(request("a") + request("a") + request("b"))
      for (let n = 0; n < 3; n++) yield* peer.line
      yield* turns
      assert.deepStrictEqual(yield* counters, {
        messages_accepted: 1,
        bytes_accepted: request("a").length - 1,
        duplicates: 1,
        "refused full": 1
      })
    }).pipe(one, ownRegistry))
})

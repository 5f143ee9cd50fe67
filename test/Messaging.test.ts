import { it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Layers from "../src/Layers.ts"
import * as Messaging from "../src/Messaging.ts"
import * as Peers from "../src/Peers.ts"
import { messagingSuite } from "./suites/messaging.ts"
import { client1, endpoint1, memoryNetwork1 } from "./utils/protocol1.ts"
import { withTempHost } from "./utils/tempHost.ts"

messagingSuite("the in-memory network", {
  protocol: 2,
  test: it.effect,
  around: Effect.provide(Layers.memoryNetwork),
  layer: Layers.layerMemory,
  layerClient: Layer.effect(Messaging.Messaging, Messaging.makeClient).pipe(
    Layer.provide(Layer.effect(Peers.Peers, Peers.make)),
    Layer.provide(Layers.memoryNetwork)
  )
})

messagingSuite("the in-memory network, by protocol 1", {
  protocol: 1,
  test: it.effect,
  around: (body) => withTempHost(() => Effect.provide(body, Layers.memoryNetwork)),
  layer: endpoint1(memoryNetwork1),
  layerClient: client1(memoryNetwork1)
})

import { it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Layers from "../src/Layers.ts"
import * as Messaging from "../src/Messaging.ts"
import { messagingSuite } from "./suites/messaging.ts"

messagingSuite("the in-memory network", {
  test: it.effect,
  around: Effect.provide(Layers.memoryNetwork),
  layer: Layers.layerMemory,
  layerClient: Layer.provide(Layer.effect(Messaging.Messaging, Messaging.makeClient), Layers.memoryNetwork)
})

import { it } from "@effect/vitest"
import * as Layers from "../../src/Layers.ts"
import { messagingSuite } from "../suites/messaging.ts"
import { withTempHost } from "../utils/tempHost.ts"

messagingSuite("real sockets", {
  test: it.live,
  around: (body) => withTempHost(() => body),
  layer: Layers.layer,
  layerClient: Layers.layerClient()
})

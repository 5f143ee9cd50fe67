import { it } from "@effect/vitest"
import * as Layers from "../../src/Layers.ts"
import { messagingSuite } from "../suites/messaging.ts"
import { client1, endpoint1, nodeNetwork1 } from "../utils/protocol1.ts"
import { withTempHost } from "../utils/tempHost.ts"

messagingSuite("real sockets", {
  protocol: 2,
  test: it.live,
  around: (body) => withTempHost(() => body),
  layer: Layers.layer,
  layerClient: Layers.layerClient()
})

messagingSuite("real sockets, by protocol 1", {
  protocol: 1,
  test: it.live,
  around: (body) => withTempHost(() => body),
  layer: endpoint1(nodeNetwork1),
  layerClient: client1(nodeNetwork1)
})

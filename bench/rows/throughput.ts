/** Acknowledged messages per second with 256 in flight, on one connection. */
import type { Contender } from "../harness/turns.ts"

export const inFlight = 256

export const contenders: ReadonlyArray<Contender> = [
  { name: "floor", server: "floor", client: "floor" },
  { name: "tuned floor", server: "tuned", client: "tuned" },
  { name: "ours, both ends", server: "ours", client: "ours" },
  { name: "our server, plain client", server: "ours", client: "floor" },
  { name: "ours, one at a time", server: "ours", client: "ours", load: { inFlight: 1 } }
]

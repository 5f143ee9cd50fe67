/** The floor: what one would write with `node:net` and no library, checks included. Everything is a ratio to it. */
import { matchesToken, servePlain } from "./plain.ts"
import { connectPlain } from "./plainClient.ts"
import { protocol1 } from "./wire.ts"

export const serve = servePlain({
  makeMatcher: matchesToken,
  ack: (id, ts) => `${JSON.stringify({ type: "response", data: "ok", ts, meta: { id } })}\n`,
  onePerChunk: false
})

export const connect = connectPlain(protocol1)

/**
 * The tuned floor: the plain server with everything known to make it faster. The token is compared once for each distinct
 * value of a connection, a chunk has one timestamp, and an ack is a template.
 */
import { matchesToken, servePlain } from "./plain.ts"

export const serve = servePlain({
  makeMatcher: (token) => {
    const matches = matchesToken(token)
    // A peer that has proved to know the token learns nothing from a comparison with it.
    let proven: string | undefined
    return (given) => {
      if (given === proven) return true
      if (!matches(given)) return false
      proven = given
      return true
    }
  },
  ack: (id, ts) => `{"type":"response","data":"ok","ts":"${ts}","meta":{"id":"${id}"}}\n`,
  onePerChunk: true
})

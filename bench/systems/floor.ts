/** The floor: what one would write with `node:net` and no library, checks included. Everything is a ratio to it. */
import * as net from "node:net"
import { drive, type Link } from "../harness/drive.ts"
import { type Load, message, type Session, type Target } from "../harness/system.ts"
import { matchesToken, servePlain } from "./plain.ts"

export const serve = servePlain({
  makeMatcher: matchesToken,
  ack: (id, ts) => `${JSON.stringify({ type: "response", data: "ok", ts, meta: { id } })}\n`,
  onePerChunk: false
})

/** One connection that sends frames of protocol 1 and parses each ack. One write for all that are sent at once. */
export const openLink = (target: Target, bytes: number): Promise<Link> =>
  new Promise((resolve, reject) => {
    const data = message(bytes)
    const socket = net.createConnection(target.socketPath)
    let rest = ""
    const link: Link = {
      send: (count) => {
        let frames = ""
        for (let i = 0; i < count; i++) {
          frames += `${JSON.stringify({ type: "text", data, meta: { authToken: target.token } })}\n`
        }
        socket.write(frames)
      },
      onAcks: () => {},
      close: () =>
        new Promise((resolve) => {
          socket.once("close", () => resolve())
          socket.destroy()
        })
    }
    socket.setEncoding("utf8")
    socket.on("data", (text: string) => {
      const buffered = rest + text
      let acks = 0
      let start = 0
      for (let end = buffered.indexOf("\n"); end !== -1; end = buffered.indexOf("\n", start)) {
        const reply = JSON.parse(buffered.slice(start, end)) as { readonly type: string; readonly data: string }
        if (reply.type !== "response") throw new Error(`instead of an ack: ${reply.data}`)
        acks++
        start = end + 1
      }
      rest = buffered.slice(start)
      link.onAcks(acks)
    })
    socket.once("error", reject)
    socket.once("connect", () => resolve(link))
  })

export const connect = (target: Target, load: Load): Promise<Session> => drive(load, () => openLink(target, load.bytes))

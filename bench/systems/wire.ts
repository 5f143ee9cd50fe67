/** The two protocols as a client without the library speaks them, written from PROTOCOL.md. */
import * as crypto from "node:crypto"
import * as net from "node:net"
import type { Target } from "../harness/system.ts"

/** Calls `onLine` for each line that arrives, then `onChunk` with their number. */
export const readLines = (
  socket: net.Socket,
  onLine: (line: string) => void,
  onChunk: (lines: number) => void = () => {}
) => {
  let rest = ""
  socket.setEncoding("utf8")
  socket.on("data", (text: string) => {
    const buffered = rest + text
    let lines = 0
    let start = 0
    for (let end = buffered.indexOf("\n"); end !== -1; end = buffered.indexOf("\n", start)) {
      onLine(buffered.slice(start, end))
      lines++
      start = end + 1
    }
    rest = buffered.slice(start)
    onChunk(lines)
  })
}

export const dial = (socketPath: string): Promise<net.Socket> =>
  new Promise((resolve, reject) => {
    const socket = net.createConnection(socketPath)
    socket.once("error", reject)
    socket.once("connect", () => {
      socket.off("error", reject)
      socket.on("error", () => socket.destroy())
      resolve(socket)
    })
  })

export const hangUp = (socket: net.Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.once("close", () => resolve())
    socket.destroy()
  })

/** One protocol from a client's side. */
export interface Protocol {
  /** What is said first; absent where there is no handshake. */
  readonly hello?: ((target: Target) => Handshake) | undefined
  readonly frame: (target: Target, data: string) => string
}

export interface Handshake {
  readonly first: string
  /** What to answer to the server's first line. Throws unless the server has proved itself. */
  readonly answer: (line: string) => string
}

export const protocol1: Protocol = {
  frame: ({ token }, data) => `${JSON.stringify({ type: "text", data, meta: { authToken: token } })}\n`
}

interface Challenge {
  readonly nonce: string
  readonly proof: string
}

const idPrefix = crypto.randomBytes(12).toString("hex")
let nextId = 1

export const protocol2: Protocol = {
  hello: ({ socketPath, token }) => {
    const nonce = crypto.randomBytes(32).toString("hex")
    const prove = (role: string, serverNonce: string) =>
      crypto.createHmac("sha256", token).update([role, socketPath, "", nonce, serverNonce].join("\n")).digest("hex")
    return {
      first: `${JSON.stringify({ type: "hello", protocol: 2, nonce })}\n`,
      answer: (line) => {
        const challenge = JSON.parse(line) as Challenge
        if (challenge.proof !== prove("server", challenge.nonce)) throw new Error("the server did not prove itself")
        return `${JSON.stringify({ type: "auth", proof: prove("client", challenge.nonce) })}\n`
      }
    }
  },
  frame: (_, data) => `${JSON.stringify({ type: "text", data, meta: { messageId: `${idPrefix}-${nextId++}` } })}\n`
}

export const expectAck = (line: string) => {
  const reply = JSON.parse(line) as { readonly type: string; readonly data: string }
  if (reply.type !== "response") throw new Error(`instead of an ack: ${reply.data}`)
}

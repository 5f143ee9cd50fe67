/**
 * The handshake of protocol 2 as a plain server would do it, with `node:net` and `node:crypto` alone and nothing else: no
 * inbox, no bounds, no deadlines. What its second round trip costs no server saves.
 */
import * as crypto from "node:crypto"
import * as net from "node:net"
import * as path from "node:path"
import type { Served, ServeOptions } from "../harness/system.ts"
import { readLines } from "./wire.ts"

interface Frame {
  readonly type: string
  readonly nonce?: string
  readonly proof?: string
  readonly meta?: { readonly messageId?: string }
}

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const token = crypto.randomBytes(32).toString("hex")
  const socketPath = path.join(directory, "handshake.sock")
  const prove = (role: string, clientNonce: string, serverNonce: string) =>
    crypto.createHmac("sha256", token).update([role, socketPath, "", clientNonce, serverNonce].join("\n")).digest("hex")
  const open = new Set<net.Socket>()
  let stored = 0

  const onLine = (conn: net.Socket) => {
    let clientNonce: string | undefined
    let serverNonce = ""
    let isProven = false
    return (line: string) => {
      const frame = JSON.parse(line) as Frame
      if (clientNonce === undefined) {
        clientNonce = frame.nonce ?? ""
        serverNonce = crypto.randomBytes(32).toString("hex")
        const proof = prove("server", clientNonce, serverNonce)
        conn.write(`${JSON.stringify({ type: "challenge", nonce: serverNonce, proof })}\n`)
      } else if (isProven) {
        const meta = { id: `uds-${++stored}`, messageId: frame.meta?.messageId }
        conn.write(`${JSON.stringify({ type: "response", data: "ok", ts: new Date().toISOString(), meta })}\n`)
      } else {
        const [given, expected] = [
          Buffer.from(frame.proof ?? ""),
          Buffer.from(prove("client", clientNonce, serverNonce))
        ]
        isProven = given.length === expected.length && crypto.timingSafeEqual(given, expected)
        if (!isProven) conn.destroy()
      }
    }
  }
  const server = net.createServer((conn) => {
    open.add(conn)
    conn.once("close", () => open.delete(conn))
    conn.on("error", () => conn.destroy())
    readLines(conn, onLine(conn))
  })
  await new Promise<void>((resolve) => server.listen(socketPath, 1_024, resolve))
  return {
    target: { socketPath, token },
    close: async () => {
      for (const conn of open) conn.destroy()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

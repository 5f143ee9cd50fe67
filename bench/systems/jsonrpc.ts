/** vscode-jsonrpc over a Unix socket: requests with its header framing. No token, no bounds. */
import * as net from "node:net"
import * as path from "node:path"
import { repeat } from "../harness/drive.ts"
import { importPeer } from "../harness/peers.ts"
import { type Load, message, type Served, type ServeOptions, type Session, type Target } from "../harness/system.ts"
import { dial, hangUp } from "./wire.ts"

interface MessageConnection {
  readonly listen: () => void
  readonly dispose: () => void
  readonly sendRequest: (method: string, params: unknown) => Promise<unknown>
  readonly onRequest: (method: string, handler: (params: unknown) => unknown) => void
}

interface JsonRpc {
  readonly createMessageConnection: (reader: unknown, writer: unknown) => MessageConnection
  readonly StreamMessageReader: new(socket: net.Socket) => unknown
  readonly StreamMessageWriter: new(socket: net.Socket) => unknown
}

const rpc = await importPeer<JsonRpc>("vscode-jsonrpc/node")

const over = (socket: net.Socket) =>
  rpc.createMessageConnection(new rpc.StreamMessageReader(socket), new rpc.StreamMessageWriter(socket))

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const socketPath = path.join(directory, "jsonrpc.sock")
  let entries: Array<unknown> = []
  let nextId = 1
  const server = net.createServer((socket) => {
    socket.on("error", () => socket.destroy())
    const connection = over(socket)
    connection.onRequest("send", (params) => {
      entries.push(params)
      return { id: `uds-${nextId++}`, ts: new Date().toISOString() }
    })
    connection.listen()
  })
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  return {
    target: { socketPath, token: "" },
    drain: () => {
      entries = []
    },
    close: async () => {
      server.close()
    }
  }
}

export const connect = async (target: Target, load: Load): Promise<Session> => {
  const socket = await dial(target.socketPath)
  const connection = over(socket)
  connection.listen()
  const params = { type: "text", data: message(load.bytes) }
  const session = repeat(load, () => connection.sendRequest("send", params))
  return {
    ...session,
    close: async () => {
      connection.dispose()
      await hangUp(socket)
    }
  }
}

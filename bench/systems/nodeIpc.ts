/** node-ipc over a Unix socket, with its own framing and JSON, and an event for the ack. No token, no bounds. */
import * as path from "node:path"
import { drive, type Link } from "../harness/drive.ts"
import { importPeer } from "../harness/peers.ts"
import { type Load, message, type Served, type ServeOptions, type Session, type Target } from "../harness/system.ts"

interface Connection {
  readonly on: (event: string, handler: (data: unknown) => void) => void
  readonly emit: (event: string, data: unknown) => void
}

interface Ipc {
  readonly config: { id: string; silent: boolean; retry: number; unlink: boolean }
  readonly serve: (socketPath: string, ready: () => void) => void
  readonly server: {
    readonly start: () => void
    readonly stop: () => void
    readonly on: (event: string, handler: (data: unknown, socket: unknown) => void) => void
    readonly emit: (socket: unknown, event: string, data: unknown) => void
  }
  readonly connectTo: (id: string, socketPath: string, ready: () => void) => void
  readonly disconnect: (id: string) => void
  readonly of: Record<string, Connection>
}

const load = async () => {
  const { default: { IPC } } = await importPeer<{ readonly default: { readonly IPC: new() => Ipc } }>("node-ipc")
  const ipc = new IPC()
  ipc.config.silent = true
  return ipc
}

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const ipc = await load()
  const socketPath = path.join(directory, "ipc.sock")
  let entries: Array<unknown> = []
  let nextId = 1
  await new Promise<void>((resolve) => {
    ipc.serve(socketPath, resolve)
    ipc.server.on("message", (data, socket) => {
      entries.push(data)
      ipc.server.emit(socket, "ack", { id: `uds-${nextId++}`, ts: new Date().toISOString() })
    })
    ipc.server.start()
  })
  return {
    target: { socketPath, token: "" },
    drain: () => {
      entries = []
    },
    close: async () => ipc.server.stop()
  }
}

const openLink = async ({ socketPath }: Target, bytes: number): Promise<Link> => {
  const ipc = await load()
  await new Promise<void>((resolve) => ipc.connectTo("server", socketPath, resolve))
  const server = ipc.of["server"]
  if (server === undefined) throw new Error("node-ipc did not connect")
  const data = message(bytes)
  const link: Link = {
    send: (count) => {
      for (let i = 0; i < count; i++) server.emit("message", { type: "text", data })
    },
    onAcks: () => {},
    close: async () => ipc.disconnect("server")
  }
  server.on("ack", () => link.onAcks(1))
  return link
}

export const connect = (target: Target, load: Load): Promise<Session> => drive(load, () => openLink(target, load.bytes))

/** gRPC over a Unix socket with JSON for its messages: one call that streams both ways. No token, no bounds. */
import * as path from "node:path"
import { drive, type Link } from "../harness/drive.ts"
import { importPeer } from "../harness/peers.ts"
import { type Load, message, type Served, type ServeOptions, type Session, type Target } from "../harness/system.ts"

interface Call {
  readonly on: (event: string, handler: (message: unknown) => void) => void
  readonly write: (message: unknown) => void
  readonly end: () => void
}

interface Grpc {
  readonly Server: new(options: object) => {
    readonly addService: (definition: object, handlers: Record<string, (call: Call) => void>) => void
    readonly bindAsync: (address: string, credentials: unknown, done: (error: Error | null) => void) => void
    readonly forceShutdown: () => void
  }
  readonly ServerCredentials: { readonly createInsecure: () => unknown }
  readonly credentials: { readonly createInsecure: () => unknown }
  readonly makeGenericClientConstructor: (
    definition: object,
    name: string
  ) => new(address: string, credentials: unknown, options: object) => {
    readonly send: () => Call
    readonly close: () => void
  }
}

const { default: grpc } = await importPeer<{ readonly default: Grpc }>("@grpc/grpc-js")

const serialize = (value: unknown) => Buffer.from(JSON.stringify(value))
const deserialize = (bytes: Buffer): unknown => JSON.parse(bytes.toString())
const definition = {
  send: {
    path: "/bench.Inbox/send",
    requestStream: true,
    responseStream: true,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize
  }
}

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const socketPath = path.join(directory, "grpc.sock")
  const server = new grpc.Server({})
  let entries: Array<unknown> = []
  let nextId = 1
  server.addService(definition, {
    send: (call) => {
      call.on("data", (message) => {
        entries.push(message)
        call.write({ id: `uds-${nextId++}`, ts: new Date().toISOString() })
      })
      call.on("end", () => call.end())
      call.on("error", () => {})
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socketPath}`, grpc.ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
  return {
    target: { socketPath, token: "" },
    drain: () => {
      entries = []
    },
    close: async () => server.forceShutdown()
  }
}

const Client = grpc.makeGenericClientConstructor(definition, "Inbox")

const openLink = async ({ socketPath }: Target, bytes: number): Promise<Link> => {
  const client = new Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {})
  const call = client.send()
  const text = { type: "text", data: message(bytes) }
  const link: Link = {
    send: (count) => {
      for (let i = 0; i < count; i++) call.write(text)
    },
    onAcks: () => {},
    close: async () => {
      call.end()
      client.close()
    }
  }
  call.on("data", () => link.onAcks(1))
  call.on("error", (error) => {
    throw error
  })
  return link
}

export const connect = (target: Target, load: Load): Promise<Session> => drive(load, () => openLink(target, load.bytes))

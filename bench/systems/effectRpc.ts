/** Effect's own rpc over a Unix socket with newline-delimited JSON: as its documentation sets it up, tracing on. */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { Context, Effect, Layer, Schema } from "effect"
import { Rpc, RpcClient, type RpcClientError, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import * as events from "node:events"
import * as path from "node:path"
import { repeatEffect } from "../harness/driveEffect.ts"
import { type Load, message, type Served, type ServeOptions, type Session, type Target } from "../harness/system.ts"
import { build } from "./ourLayers.ts"

// Its fibers wait for a full socket with listeners of their own each, which Node would warn of again and again.
events.EventEmitter.defaultMaxListeners = 0

class Api extends RpcGroup.make(
  Rpc.make("send", { payload: { type: Schema.String, data: Schema.String }, success: Schema.String })
) {}

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const socketPath = path.join(directory, "rpc.sock")
  let entries: Array<unknown> = []
  let nextId = 1
  const handlers = Api.toLayer({
    send: (payload) =>
      Effect.sync(() => {
        entries.push(payload)
        return `uds-${nextId++}`
      })
  })
  const { close } = await build(
    RpcServer.layer(Api).pipe(
      Layer.provide(handlers),
      Layer.provide(RpcServer.layerProtocolSocketServer),
      Layer.provide([NodeSocketServer.layer({ path: socketPath }), RpcSerialization.layerNdjson])
    )
  )
  return {
    target: { socketPath, token: "" },
    drain: () => {
      entries = []
    },
    close
  }
}

class Client
  extends Context.Service<Client, RpcClient.FromGroup<typeof Api, RpcClientError.RpcClientError>>()("bench/RpcClient")
{}

const client = ({ socketPath }: Target) =>
  Layer.effect(Client, RpcClient.make(Api)).pipe(
    Layer.provide(RpcClient.layerProtocolSocket()),
    Layer.provide([NodeSocket.layerNet({ path: socketPath }), RpcSerialization.layerNdjson])
  )

export const connect = async (target: Target, load: Load): Promise<Session> => {
  const clients = await Promise.all(Array.from({ length: load.connections }, () => build(client(target))))
  const payload = { type: "text", data: message(load.bytes) }
  const sends = clients.map(({ context }) => Context.get(context, Client).send(payload))
  return repeatEffect(load, sends, async () => {
    for (const { close } of clients) await close()
  })
}

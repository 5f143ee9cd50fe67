/** Servers of `node:net` alone that answer a call and then neither hang up nor fall silent. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import * as net from "node:net"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { Messaging } from "../../src/Messaging.ts"
import { nodeNetwork } from "../utils/endpoints.ts"
import { hmac } from "../utils/judge.ts"
import { nodeNetwork1 } from "../utils/protocol1.ts"
import { descriptors, settled } from "../utils/resources.ts"
import { withTempHost } from "../utils/tempHost.ts"

const line = (value: unknown) => `${JSON.stringify(value)}\n`
const sockets = () => descriptors()["socket"] ?? 0

/** Acks every message, keeps its side open for ever, and goes on sending frames that mean nothing. */
const listen = (socketPath: string, token: string) => {
  const open = new Set<net.Socket>()
  return Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer({ allowHalfOpen: true }, (socket) => {
        open.add(socket)
        const drip = setInterval(() => socket.write(line({ type: "text", data: "still here" })), 10)
        socket.on("error", () => {}).once("close", () => clearInterval(drip))
        let rest = ""
        socket.setEncoding("utf8").on("data", (text: string) => {
          const lines = `${rest}${text}`.split("\n")
          rest = lines.pop() ?? ""
          for (const { from = "", meta = {}, nonce, type } of lines.map((_) => JSON.parse(_))) {
            if (type === "hello") {
              const proof = hmac(token, ["server", socketPath, from, nonce, "7".repeat(64)])
              socket.write(line({ type: "challenge", nonce: "7".repeat(64), proof }))
            } else if (type !== "auth") {
              socket.write(line({ type: "response", data: "ok", meta: { id: "uds-1", messageId: meta.messageId } }))
            }
          }
        })
      })
      server.listen(socketPath, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of open) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
}

/** The server learns that the client has gone when it next writes, a hundred times a second; a leak lasts 20 s. */
const assertOpen = (expected: number) =>
  Effect.andThen(Effect.sleep(5), Effect.sync(sockets)).pipe(
    Effect.repeat({ until: (now) => now === expected, times: 4_000 }),
    Effect.map((now) => assert.strictEqual(now, expected, "open sockets"))
  )

describe("a server that stays half-open after its ack and drips other frames", () => {
  it.live.each([{ protocol: 1, rounds: 50 }, { protocol: 2, rounds: 10 }])(
    "leaves the client no descriptor, by protocol $protocol",
    ({ protocol, rounds }) =>
      withTempHost((host) =>
        Effect.gen(function*() {
          const socketPath = path.join(host.tmpdir, "half-open.sock")
          const network = yield* Layer.build(protocol === 1 ? nodeNetwork1 : nodeNetwork)
          const { token } = yield* Context.get(network, Capability.Capability).publish(socketPath)
          const before = sockets()
          yield* Effect.scoped(Effect.gen(function*() {
            yield* listen(socketPath, Redacted.value(token))
            const listening = sockets()
            for (let round = 0; round < rounds; round++) {
              // The connection is kept for the next message, so the client goes each time.
              yield* Effect.scoped(Effect.gen(function*() {
                const { send } = Context.get(yield* Layer.build(Layers.layerClient()), Messaging)
                yield* send(socketPath, Message.text("heard?"))
              }))
              // The drip ends the server's side of a connection whose other side is destroyed.
              yield* assertOpen(listening)
            }
          }))
          assert.strictEqual(yield* settled(sockets, before), before)
        })
      )
  )
})

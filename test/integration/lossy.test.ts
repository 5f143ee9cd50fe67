import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as net from "node:net"
import * as path from "node:path"
import type { HostFacts } from "../../src/Host.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { endpointsOf, makeDialler, nodeNetwork } from "../utils/endpoints.ts"
import { withTempHost } from "../utils/tempHost.ts"

const isAck = (line: string) => line.includes("\"data\":\"ok\"")

/** Calls `each` with every whole line, its LF included. */
const lines = (socket: net.Socket, each: (line: string) => void) => {
  let partial = ""
  socket.setEncoding("utf8")
  socket.on("data", (text: string) => {
    const parts = (partial + text).split("\n")
    partial = parts.pop() ?? ""
    for (const line of parts) each(`${line}\n`)
  })
}

/**
 * Stands between a client and `target`, drops every third ack, and cuts: every tenth connection in the middle of its
 * handshake, and any other as soon as every message on it has been acked and an ack was dropped, since a client waits for
 * an ack as long as its connection lasts.
 */
const lossyProxy = (target: string, socketPath: string) =>
  Effect.gen(function*() {
    const told = { connections: 0, acks: 0, dropped: 0 }
    const sockets = new Set<net.Socket>()
    const server = net.createServer((near) => {
      const far = net.createConnection(target)
      const cut = () => {
        near.destroy()
        far.destroy()
      }
      for (const socket of [near, far]) {
        sockets.add(socket)
        socket.on("error", cut)
        socket.on("close", () => {
          sockets.delete(socket)
          cut()
        })
      }
      const isTenth = ++told.connections % 10 === 0
      let [waiting, lost] = [0, 0]
      lines(near, (line) => {
        if (isTenth && line.includes("\"auth\"")) return cut()
        if (line.includes("\"messageId\"")) waiting++
        far.write(line)
      })
      lines(far, (line) => {
        if (isAck(line)) {
          waiting--
          if (++told.acks % 3 === 0) {
            told.dropped++
            lost++
          } else near.write(line)
          // Flushed first, so that an ack that was not dropped arrives.
          if (lost > 0 && waiting === 0) near.end(cut)
        } else near.write(line)
      })
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(socketPath, () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    return told
  })

const endpoint = endpointsOf(Layers.layer)

/** A client of an endpoint that it reaches through the proxy only. */
const makeLossy = Effect.fnUntraced(function*(host: HostFacts, messages: number) {
  const bob = yield* endpoint({ limits: { maxInboxEntries: messages, maxInboxBytes: 1_000 * messages } })
  const proxyPath = path.join(host.tmpdir, "proxy.sock")
  const told = yield* lossyProxy(bob.socketPath, proxyPath)
  const alice = yield* makeDialler(nodeNetwork, { via: () => proxyPath })
  return { alice, bob, told }
})

const check = (
  behaviour: string,
  body: (host: HostFacts) => Effect.Effect<void, unknown, Scope.Scope>
) => it.live(behaviour, () => withTempHost(body))

const timeout = "1 hour"

describe("through a proxy that loses acks and connections", () => {
  check("stores each of 10,000 messages once, and every sender hears of it", (host) =>
    Effect.gen(function*() {
      const sent = Array.from({ length: 10_000 }, (_, n) => `message ${n}`)
      const { alice, bob, told } = yield* makeLossy(host, sent.length)
      const receipts = yield* Effect.forEach(
        sent,
        (data) => alice.send(bob.socketPath, Message.text(data), { timeout }),
        { concurrency: 500 }
      )
      const stored = yield* bob.inbox.drain
      assert.sameMembers(stored.map(({ message }) => message.data), sent)
      const ids = new Map(stored.map(({ id, message }) => [message.data, id]))
      assert.deepStrictEqual(
        receipts.map(({ id }) => id.pipe((option) => option._tag === "Some" ? option.value : undefined)),
        sent.map((data) => ids.get(data))
      )
      assert.isAbove(told.dropped, 3_000)
      assert.isAbove(told.connections, 10)
    }))

  check("keeps the order of one fiber across reconnections", (host) =>
    Effect.gen(function*() {
      const sent = Array.from({ length: 150 }, (_, n) => `message ${n}`)
      const { alice, bob, told } = yield* makeLossy(host, sent.length)
      yield* Effect.forEach(sent, (data) => alice.send(bob.socketPath, Message.text(data), { timeout }))
      assert.deepStrictEqual((yield* bob.inbox.drain).map(({ message }) => message.data), sent)
      assert.isAbove(told.connections, 50)
    }))
})

/** Many messages at once to a peer of protocol 1, over one connection of real sockets. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, type Scope } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import type { HostFacts } from "../../src/Host.ts"
import type { Options } from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { ConnectionLost, InboxFull, MessagingError } from "../../src/MessagingError.ts"
import { endpointsOf, makeDialler } from "../utils/endpoints.ts"
import { endpoint1, nodeNetwork1 } from "../utils/protocol1.ts"
import { withTempHost } from "../utils/tempHost.ts"

const endpoint = (options?: Options) => endpointsOf(endpoint1(nodeNetwork1))(options)
const dialler = makeDialler(nodeNetwork1)

const check = (behaviour: string, body: (host: HostFacts) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(behaviour, () => withTempHost(body))

const texts = (entries: ReadonlyArray<{ readonly message: Message.Message }>) => entries.map((_) => _.message.data)
const count = (n: number) => Array.from({ length: n }, (_, i) => `message ${i}`)
const dataOf = (line: string) => (JSON.parse(line) as { readonly data: string }).data

const ignore = () => {}

/**
 * A protocol 1 server of `node:net` alone, published for the clients of this host. `onRead` gets the lines that one read
 * brought; `reads` keeps them, for each connection.
 */
const server = Effect.fnUntraced(function*(
  { homedir }: HostFacts,
  onRead: (socket: net.Socket, lines: ReadonlyArray<string>, connection: number) => void
) {
  const socketPath = path.join(homedir, "peer", "s")
  yield* Effect.sync(() => fs.mkdirSync(path.dirname(socketPath), { mode: 0o700 }))
  const capability = Context.get(yield* Layer.build(nodeNetwork1), Capability.Capability)
  yield* capability.publish(socketPath)
  const reads: Array<Array<ReadonlyArray<string>>> = []
  const sockets = new Set<net.Socket>()
  const listening = net.createServer((socket) => {
    const connection = reads.push([]) - 1
    sockets.add(socket)
    let partial = ""
    socket.setEncoding("utf8").on("error", ignore).on("close", () => sockets.delete(socket))
    socket.on("data", (text: string) => {
      const lines = (partial + text).split("\n")
      partial = lines.pop() ?? ""
      reads[connection]?.push(lines)
      onRead(socket, lines, connection)
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      listening.listen(socketPath, () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        listening.close(() => resume(Effect.void))
      })
  )
  return { socketPath, reads }
})

const ack = (n: number) => `{"type":"response","data":"ok","meta":{"id":"uds-${n}"}}\n`

describe("messages at once to a peer of protocol 1", () => {
  check("go over one connection, in one write, in order, and each gets its own ack", (host) =>
    Effect.gen(function*() {
      let n = 0
      const { reads, socketPath } = yield* server(host, (socket, lines) => {
        socket.write(lines.map(() => ack(++n)).join(""))
      })
      const alice = yield* dialler
      // So that the connection is there.
      yield* alice.send(socketPath, Message.text("first"))
      const sent = count(200)
      const receipts = yield* Effect.forEach(sent, (data) => alice.send(socketPath, Message.text(data)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(receipts.map(({ id }) => id), sent.map((_, i) => Option.some(`uds-${i + 2}`)))
      assert.deepStrictEqual(reads.map((reads) => reads.map((lines) => lines.map(dataOf))), [[["first"], sent]])
      assert.strictEqual(alice.dials(), 1)
    }))

  check("are stored in order by an endpoint of ours", () =>
    Effect.gen(function*() {
      const [alice, bob] = [yield* dialler, yield* endpoint()]
      const sent = count(1_000)
      yield* Effect.forEach(sent, (data) => alice.send(bob.socketPath, Message.text(data)), {
        concurrency: "unbounded",
        discard: true
      })
      assert.deepStrictEqual(texts(yield* bob.inbox.drain), sent)
      assert.strictEqual(alice.dials(), 1)
    }))

  for (const retryWhenFull of [false, true]) {
    check(
      `lose none but the one that finds the inbox full${retryWhenFull ? ", also where it may be asked again" : ""}`,
      (host) =>
        Effect.gen(function*() {
          // Refuses every tenth frame it has not looked at before, and hangs up, as PROTOCOL.md 3.4 says.
          const stored: Array<string> = []
          const refused: Array<string> = []
          const { reads, socketPath } = yield* server(host, (socket, lines) => {
            if (socket.writableEnded) return
            for (const line of lines) {
              if ((stored.length + refused.length) % 10 === 9) {
                refused.push(dataOf(line))
                socket.end("{\"type\":\"error\",\"data\":\"inbox full\"}\n")
                return
              }
              stored.push(dataOf(line))
              socket.write(ack(stored.length))
            }
          })
          const alice = yield* dialler
          const sent = count(95)
          const exits = yield* Effect.forEach(
            sent,
            (data) => Effect.exit(alice.send(socketPath, Message.text(data), { retryWhenFull })),
            { concurrency: "unbounded" }
          )
          const full = Exit.fail(
            new MessagingError({ reason: new InboxFull({ socketPath, retryAfter: Option.none() }) })
          )
          // By protocol 1 a full inbox does not say when there is room.
          assert.deepStrictEqual(
            exits,
            sent.map((data) => {
              const at = stored.indexOf(data)
              return at === -1 ? full : Exit.succeed({ socketPath, id: Option.some(`uds-${at + 1}`) })
            })
          )
          assert.deepStrictEqual(stored, sent.filter((_, i) => i % 10 !== 9))
          assert.deepStrictEqual(refused, sent.filter((_, i) => i % 10 === 9))
          assert.strictEqual(reads.length, 10)
        })
    )

    check(
      `are stored once each, or refused, by an endpoint of ours that fills up${
        retryWhenFull ? ", also where it may be asked again" : ""
      }`,
      () =>
        Effect.gen(function*() {
          const [alice, bob] = [yield* dialler, yield* endpoint({ limits: { maxInboxEntries: 20 } })]
          const taken: Array<string | undefined> = []
          const sent = count(200)
          const outcomes = yield* Effect.forEach(sent, (data) =>
            alice.send(bob.socketPath, Message.text(data), { retryWhenFull, timeout: "20 seconds" }).pipe(
              Effect.matchEffect({
                onSuccess: () =>
                  Effect.succeed("stored"),
                // Whoever finds it full makes room for the others.
                onFailure: ({ reason }) =>
                  Effect.as(Effect.map(bob.inbox.drain, (entries) => taken.push(...texts(entries))), reason._tag)
              })
            ), { concurrency: "unbounded" })
          taken.push(...texts(yield* bob.inbox.drain))
          assert.deepStrictEqual(
            taken,
            sent.filter((_, i) =>
              outcomes[i] === "stored"
            )
          )
          assert.sameMembers([...new Set(outcomes)], ["stored", "InboxFull"])
        })
    )
  }

  check("fail in doubt when the peer dies midway, and are not sent again", (host) =>
    Effect.gen(function*() {
      const { reads, socketPath } = yield* server(host, (socket, lines, connection) => {
        if (connection > 0) return void socket.write(lines.map((_, n) => ack(n)).join(""))
        // The second write is answered in part, with the connection reset behind it.
        if (lines.length > 1) {
          socket.end(lines.slice(0, 30).map((_, n) => ack(n)).join(""))
          socket.destroySoon()
        } else socket.write(ack(0))
      })
      const alice = yield* dialler
      yield* alice.send(socketPath, Message.text("first"))
      const sent = count(100)
      const exits = yield* Effect.forEach(
        sent,
        (data) => Effect.exit(alice.send(socketPath, Message.text(data))),
        { concurrency: "unbounded" }
      )
      const lost = Exit.fail(new MessagingError({ reason: new ConnectionLost({ socketPath, mayBeStored: true }) }))
      assert.deepStrictEqual(exits.slice(0, 30).map(Exit.isSuccess), count(30).map(() => true))
      assert.deepStrictEqual(exits.slice(30), count(70).map(() => lost))
      yield* alice.send(socketPath, Message.text("last"))
      assert.deepStrictEqual(reads.map((reads) => reads.flat().map(dataOf)), [["first", ...sent], ["last"]])
    }))
})

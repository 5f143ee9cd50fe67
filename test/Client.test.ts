import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { HostFacts } from "../src/Host.ts"
import { Interposer } from "../src/internal/interposer.ts"
import * as Layers from "../src/Layers.ts"
import * as Message from "../src/Message.ts"
import { Messaging } from "../src/Messaging.ts"
import { noting } from "./utils/carrying.ts"
import { endpointsOf } from "./utils/endpoints.ts"
import { withTempHost } from "./utils/tempHost.ts"

const token = "0123456789abcdef".repeat(4)

/** Publishes a capability of protocol 1, as another program would. */
const publish = (host: HostFacts, socketPath: string) => {
  const directory = path.join(host.homedir, ".claude", "messaging-capabilities")
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
  const name = `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
  fs.writeFileSync(path.join(directory, name), JSON.stringify({ socketPath, authToken: token }), { mode: 0o600 })
}

/** Acks whatever comes, and keeps it. */
const eavesdropper = (socketPath: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: net.Server; readonly heard: Array<string> }>((resume) => {
      const heard: Array<string> = []
      const server = net.createServer((conn) => {
        conn.on("error", () => {})
        conn.on("data", (bytes) => {
          heard.push(String(bytes))
          conn.end("{\"type\":\"response\",\"data\":\"ok\",\"meta\":{\"id\":\"uds-1\"}}\n")
        })
      })
      server.listen(socketPath, () => resume(Effect.succeed({ server, heard })))
    }),
    ({ server }) => Effect.sync(() => server.close())
  )

describe("a token of protocol 1", () => {
  it.live("is sent to a socket that only this user can have put there", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const socketPath = path.join(host.homedir, "s")
        publish(host, socketPath)
        const { heard } = yield* eavesdropper(socketPath)
        yield* (yield* Messaging).send(socketPath, Message.text("a"))
        assert.include(heard.join(""), token)
      }).pipe(Effect.provide(Layers.layerClient()))
    ))

  it.live("is not sent where somebody else could have put the socket", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const open = path.join(host.homedir, "open")
        fs.mkdirSync(open)
        fs.chmodSync(open, 0o777)
        const socketPath = path.join(open, "s")
        publish(host, socketPath)
        const { heard } = yield* eavesdropper(socketPath)
        const error = yield* Effect.flip((yield* Messaging).send(socketPath, Message.text("a")))
        assert.strictEqual(error.reason._tag, "PeerUntrusted")
        assert.include(error.message, "writable by others")
        assert.deepStrictEqual(heard, [])
      }).pipe(Effect.provide(Layers.layerClient()))
    ))
})

describe("the ids of requests", () => {
  /** The ids that each path was told, in order, by the endpoints of the test. */
  const withIds = <A, E, R>(
    test: (idsTold: (socketPath: string) => ReadonlyArray<string>) => Effect.Effect<A, E, R>
  ) => {
    const told = new Map<string, Array<string>>()
    return Effect.updateService(
      test((socketPath) => {
        const text = told.get(socketPath)?.join("") ?? ""
        return [...text.matchAll(/"messageId":"([^"]+)"/g)].map(([, id = ""]) => id)
      }),
      Interposer,
      (interposer) => ({
        ...interposer,
        transport: (real) => ({
          ...real,
          dial: (socketPath) =>
            Effect.map(real.dial(socketPath), (socket) => {
              const { noted, writes } = noting(socket)
              told.set(socketPath, writes)
              return noted
            })
        })
      })
    )
  }

  it.effect("tell a peer nothing of those that another is told", () =>
    withIds((idsTold) =>
      Effect.gen(function*() {
        const make = endpointsOf(Layers.layerMemory)
        const [alice, bob, carol] = [yield* make(), yield* make(), yield* make()]
        for (const { socketPath } of [bob, carol, bob]) yield* alice.messaging.send(socketPath, Message.text("a"))
        const [first = "", second = ""] = idsTold(bob.socketPath)
        const stem = first.slice(0, first.lastIndexOf("-"))
        assert.match(stem, /^[0-9a-f]{24}$/)
        assert.isTrue(second.startsWith(stem))
        const [other = ""] = idsTold(carol.socketPath)
        assert.isFalse(other.startsWith(stem))
      }).pipe(Effect.provide(Layers.memoryNetwork))
    ))
})

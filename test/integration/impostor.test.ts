/**
 * Who stands between: a server that is not the one whose capability file names it, and a recorder that hears everything
 * and says it again. Both are `node:net` alone.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Queue, References } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import type { HostFacts } from "../../src/Host.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import type * as Limits from "../../src/Limits.ts"
import * as Message from "../../src/Message.ts"
import { Messaging } from "../../src/Messaging.ts"
import { type MessagingError, PeerUntrusted, Timeout, Unauthorized } from "../../src/MessagingError.ts"
import { nodeNetwork } from "../utils/endpoints.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { withTempHost } from "../utils/tempHost.ts"

const ignore = () => {}

/** A server of `node:net` alone; its connections are destroyed with the scope. */
const listenRaw = (socketPath: string, onConnection: (socket: net.Socket) => void) => {
  const sockets = new Set<net.Socket>()
  return Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer({ allowHalfOpen: true }, (socket) => {
        sockets.add(socket)
        socket.on("error", ignore)
        onConnection(socket)
      })
      server.listen(socketPath, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
}

const endpoint = Effect.fnUntraced(function*(limits?: Limits.Options) {
  const services = yield* Layer.build(Layers.layer({ limits }))
  const messaging = Context.get(services, Messaging)
  return {
    ...messaging,
    inbox: Context.get(services, Inbox),
    socketPath: Option.getOrThrow(messaging.address).socketPath
  }
})

/** Every token that is published at the host. */
const tokensOf = ({ homedir }: HostFacts): ReadonlyArray<string> => {
  const directory = path.join(homedir, ".claude", "messaging-capabilities")
  return fs.readdirSync(directory).map((name) =>
    (JSON.parse(fs.readFileSync(path.join(directory, name), "utf8")) as { readonly authToken: string }).authToken
  )
}

type Frame = Record<string, unknown>
const framesOf = (text: string): ReadonlyArray<Frame> =>
  text.split("\n").filter((line) => line !== "").map((line): Frame => JSON.parse(line))

const hex64 = /^[0-9a-f]{64}$/
const message = Message.text("for the right ears only")

const quietly = Effect.provideService(References.MinimumLogLevel, "None")

describe("an impostor", () => {
  /** An endpoint, and a rogue at a published path that gives `answer` to the first frame of each connection. */
  const withRogue = <A, E, R>(
    answer: (hello: Frame, socket: net.Socket) => string,
    use: (rogue: {
      readonly host: HostFacts
      readonly alice: Messaging["Service"] & { readonly socketPath: string }
      readonly socketPath: string
      /** What it was sent on a connection, once that has ended. */
      readonly heard: Effect.Effect<string>
      /** The same of all connections that have ended. */
      readonly heardAll: Effect.Effect<ReadonlyArray<string>>
    }) => Effect.Effect<A, E, R>
  ) =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const socketPath = path.join(host.tmpdir, "rogue.sock")
        const heard = yield* Queue.unbounded<string>()
        yield* listenRaw(socketPath, (socket) => {
          let received = ""
          let answered = false
          socket.setEncoding("utf8").on("data", (text: string) => {
            received += text
            if (answered || !received.includes("\n")) return
            answered = true
            const [hello = {}] = framesOf(received)
            socket.write(answer(hello, socket))
          })
          socket.once("end", () => socket.end())
          socket.once("close", () => Queue.offerUnsafe(heard, received))
        })
        yield* Effect.flatMap(Capability.Capability, (_) => _.publish(socketPath)).pipe(Effect.provide(nodeNetwork))
        return yield* use({
          host,
          alice: yield* endpoint(),
          socketPath,
          heard: Queue.take(heard),
          heardAll: Queue.takeAll(heard)
        })
      })
    )

  /** It has learned a nonce and who is calling. */
  const assertOnlyHello = (heard: string, from: string, host: HostFacts) => {
    const [hello = {}, ...others] = framesOf(heard)
    assert.deepStrictEqual(others, [])
    assert.deepStrictEqual(Object.keys(hello), ["type", "protocol", "nonce", "from"])
    assert.deepInclude(hello, { type: "hello", protocol: 2, from })
    assert.match(String(hello["nonce"]), hex64)
    for (const token of tokensOf(host)) assert.notInclude(heard, token)
    assert.notInclude(heard, message.data ?? "")
  }

  const line = (value: unknown) => `${JSON.stringify(value)}\n`
  const someHex = "0123456789abcdef".repeat(4)

  it.live.each<{ readonly what: string; readonly answer: (hello: Frame) => string }>([
    { what: "a proof it has made up", answer: () => line({ type: "challenge", nonce: someHex, proof: someHex }) },
    {
      what: "the client's nonce for everything",
      answer: ({ nonce }) => line({ type: "challenge", nonce, proof: nonce })
    },
    { what: "no proof", answer: () => line({ type: "challenge", nonce: someHex }) },
    { what: "an empty proof", answer: () => line({ type: "challenge", nonce: someHex, proof: "" }) },
    { what: "a short nonce", answer: () => line({ type: "challenge", nonce: "0", proof: someHex }) },
    { what: "the hello itself", answer: line },
    { what: "an ack", answer: () => line({ type: "response", data: "ok", meta: { id: "uds-1" } }) },
    { what: "a pong", answer: () => line({ type: "pong" }) },
    { what: "an empty object", answer: () => "{}\n" },
    { what: "an error of another kind", answer: () => line({ type: "error", data: "inbox full" }) },
    {
      what: "a made-up proof and an ack at once",
      answer: () => line({ type: "challenge", nonce: someHex, proof: someHex }) + line({ type: "response", data: "ok" })
    },
    { what: "what is no JSON", answer: () => "who is there?\n" },
    { what: "a line longer than a frame", answer: () => `${"x".repeat(70_000)}\n` }
  ])(
    "that answers $what is not trusted, and has heard nothing but hello",
    ({ answer }) =>
      withRogue(answer, ({ alice, heard, host, socketPath }) =>
        Effect.gen(function*() {
          const { reason } = yield* Effect.flip(alice.send(socketPath, message))
          assertOnlyHello(yield* heard, alice.socketPath, host)
          assert.instanceOf(reason, PeerUntrusted)
          assert.strictEqual(reason.socketPath, socketPath)
        }))
  )

  it.live.each<{
    readonly what: string
    readonly call: (_: Messaging["Service"], to: string) => Effect.Effect<unknown, MessagingError>
  }>([
    { what: "a ping", call: (_, to) => _.ping(to) },
    { what: "a question", call: (_, to) => _.ask(to, message) },
    { what: "a message with a receipt", call: (_, to) => _.send(to, message, { until: "handled" }) }
  ])("does not hear $what", ({ call }) =>
    withRogue(
      () => line({ type: "challenge", nonce: someHex, proof: someHex }),
      ({ alice, heard, host, socketPath }) =>
        Effect.gen(function*() {
          const { reason } = yield* Effect.flip(call(alice, socketPath))
          assertOnlyHello(yield* heard, alice.socketPath, host)
          assert.instanceOf(reason, PeerUntrusted)
        })
    ))

  it.live("that refuses the client has heard nothing but hello", () =>
    withRogue(
      () => line({ type: "error", data: "unauthorized" }),
      ({ alice, heard, host, socketPath }) =>
        Effect.gen(function*() {
          const { reason } = yield* Effect.flip(alice.send(socketPath, message))
          assertOnlyHello(yield* heard, alice.socketPath, host)
          assert.deepStrictEqual(reason, new Unauthorized({ socketPath }))
        })
    ))

  it.live("that hangs up has heard nothing but hello, however often it is tried", () =>
    withRogue((_, socket) => {
      socket.destroy()
      return ""
    }, ({ alice, heardAll, host, socketPath }) =>
      Effect.gen(function*() {
        const { reason } = yield* Effect.flip(alice.send(socketPath, message, { timeout: "300 millis" }))
        for (const text of yield* heardAll) assertOnlyHello(text, alice.socketPath, host)
        assert.deepStrictEqual(reason, new Timeout({ socketPath, mayBeStored: false }))
      })))
})

describe("a recorder", () => {
  interface Recording {
    client: string
    server: string
  }

  /** Takes the place of a live server: passes everything on, and keeps it. */
  const record = Effect.fnUntraced(function*(socketPath: string) {
    const real = `${socketPath}-`
    fs.renameSync(socketPath, real)
    const ended = yield* Queue.unbounded<Recording>()
    /** When set, what it answers instead of passing anything on. */
    let instead: string | undefined
    yield* listenRaw(socketPath, (near) => {
      const recording: Recording = { client: "", server: "" }
      near.once("close", () => Queue.offerUnsafe(ended, recording))
      if (instead !== undefined) {
        near.write(instead)
        near.on("data", (chunk) => recording.client += chunk.toString())
        near.once("end", () => near.end())
        return
      }
      const far = net.createConnection({ path: real, allowHalfOpen: true })
      far.on("error", ignore)
      near.on("data", (chunk) => {
        recording.client += chunk.toString()
        far.write(chunk)
      })
      far.on("data", (chunk) => {
        recording.server += chunk.toString()
        near.write(chunk)
      })
      near.once("end", () => far.end())
      far.once("end", () => near.end())
      near.once("close", () => far.destroy())
    })
    return {
      real,
      ended: Queue.take(ended),
      answerInstead: (text: string) => void (instead = text)
    }
  })

  /** A client with a server of its own, which keeps no connection that it does not use. */
  const setup = Effect.gen(function*() {
    const [alice, bob] = [yield* endpoint({ connectionTimeout: "1 millis" }), yield* endpoint({ maxRefusalDelay: 1 })]
    return { alice, bob, recorder: yield* record(bob.socketPath) }
  })

  const count = 1_000

  it.live("learns nothing from 1,000 handshakes that would let it in", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const { alice, bob, recorder } = yield* setup
        const recordings: Array<Recording> = []
        for (let n = 0; n < count; n++) {
          yield* alice.send(bob.socketPath, message)
          const { sender } = yield* bob.inbox.take
          assert.deepStrictEqual(sender, { address: alice.socketPath, verified: true })
          recordings.push(yield* recorder.ended)
        }

        const nonces = new Set<unknown>()
        const proofs = new Set<unknown>()
        const tokens = tokensOf(host)
        assert.strictEqual(tokens.length, 2)
        for (const { client, server } of recordings) {
          for (const token of tokens) assert.notInclude(client + server, token)
          const [hello = {}, auth = {}, text = {}, ...others] = framesOf(client)
          const [challenge = {}, ack = {}] = framesOf(server)
          assert.deepStrictEqual(others, [])
          assert.deepStrictEqual(Object.keys(hello), ["type", "protocol", "nonce", "from"])
          assert.deepStrictEqual(Object.keys(challenge), ["type", "nonce", "proof"])
          assert.deepStrictEqual(Object.keys(auth), ["type", "proof", "fromProof"])
          assert.deepInclude(text, { ...message, from: alice.socketPath })
          assert.strictEqual(ack["type"], "response")
          for (const nonce of [hello["nonce"], challenge["nonce"]]) {
            assert.match(String(nonce), hex64)
            nonces.add(nonce)
          }
          for (const proof of [challenge["proof"], auth["proof"], auth["fromProof"]]) {
            assert.match(String(proof), hex64)
            proofs.add(proof)
          }
        }
        assert.strictEqual(nonces.size, 2 * count)
        assert.strictEqual(proofs.size, 3 * count)

        yield* Effect.forEach(recordings, ({ client }) =>
          Effect.scoped(Effect.gen(function*() {
            const peer = yield* connectRaw(recorder.real)
            yield* peer.write(client)
            const [challenge = "", refusal = "", ...others] = yield* peer.rest
            assert.deepStrictEqual(others, [])
            const { nonce, type } = JSON.parse(challenge) as Frame
            assert.strictEqual(type, "challenge")
            nonces.add(nonce)
            assert.deepInclude(JSON.parse(refusal), { type: "error", data: "unauthorized" })
          })), { concurrency: 16, discard: true })
        assert.strictEqual(nonces.size, 3 * count)
        assert.deepStrictEqual(yield* bob.inbox.size, { entries: 0, bytes: 0 })
      })
    ).pipe(quietly))

  it.live("cannot pass for the server with what the server has said", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { alice, bob, recorder } = yield* setup
        yield* alice.send(bob.socketPath, message)
        const { server } = yield* recorder.ended
        recorder.answerInstead(server)
        const { reason } = yield* Effect.flip(alice.send(bob.socketPath, message))
        assert.instanceOf(reason, PeerUntrusted)
        const { client } = yield* recorder.ended
        assert.deepStrictEqual(framesOf(client).map(({ type }) => type), ["hello"])
      })
    ))

  it.live("does not learn the answer to a challenge of its own", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const { alice, bob, recorder } = yield* setup
        // Another connection's challenge, fresh from the real server, for a nonce that is not the client's.
        const peer = yield* connectRaw(recorder.real)
        yield* peer.write(`${JSON.stringify({ type: "hello", protocol: 2, nonce: "0".repeat(64) })}\n`)
        recorder.answerInstead(`${yield* peer.line}\n`)
        const { reason } = yield* Effect.flip(alice.send(bob.socketPath, message))
        assert.instanceOf(reason, PeerUntrusted)
        const { client } = yield* recorder.ended
        assert.deepStrictEqual(framesOf(client).map(({ type }) => type), ["hello"])
      })
    ))
})

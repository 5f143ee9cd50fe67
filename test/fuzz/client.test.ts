/**
 * A client among servers that answer with valid replies made wrong, over real sockets. What a server has said is read a
 * second time, so that a call succeeds only where the server has rightly said so.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer, Option, Redacted, References, type Scope } from "effect"
import { Buffer } from "node:buffer"
import * as net from "node:net"
import * as path from "node:path"
import * as Capability from "../../src/Capability.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { type AskOptions, makeClient, Messaging } from "../../src/Messaging.ts"
import { MessagingError } from "../../src/MessagingError.ts"
import * as Peers from "../../src/Peers.ts"
import { makeRandom, seed, sized } from "../utils/effort.ts"
import { nodeNetwork } from "../utils/endpoints.ts"
import { type Fields, hmac, judgeLine, messageOf } from "../utils/judge.ts"
import { biting, makeMutator, type Mutator } from "../utils/mutate.ts"
import { nodeNetwork1 } from "../utils/protocol1.ts"
import { descriptors, settled, tick } from "../utils/resources.ts"
import { withTempHost } from "../utils/tempHost.ts"

const ignore = () => {}
const ts = "2026-01-01T00:00:00.000Z"

/** Frames as the client must read them: until one that ends the connection. */
class Reading {
  ended = false
  #rest: Buffer = Buffer.alloc(0)

  read(bytes: Uint8Array, onFrame: (fields: Fields) => void): void {
    const all = Buffer.concat([this.#rest, bytes])
    let start = 0
    for (let end = all.indexOf(10); end !== -1 && !this.ended; end = all.indexOf(10, start)) {
      const line = judgeLine(all.subarray(start, end))
      start = end + 1
      if (line._tag === "Bad") this.ended = true
      if (line._tag === "Frame") onFrame(line.fields)
    }
    this.#rest = all.subarray(start)
    if (this.#rest.length > 65_536) this.ended = true
  }
}

/** A server of `node:net` alone; `onFrame` gets each frame of a connection, `onEnd` its end. */
const listen = (
  socketPath: string,
  onConnection: (socket: net.Socket) => (frame: Fields) => void
) => {
  const sockets = new Set<net.Socket>()
  return Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer((socket) => {
        sockets.add(socket)
        const reading = new Reading()
        const onFrame = onConnection(socket)
        socket.on("error", ignore).on("data", (bytes) => reading.read(bytes, onFrame))
        socket.once("close", () => sockets.delete(socket))
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

type Options = AskOptions & { readonly timeout: number }
type Call = (messaging: Messaging["Service"], options: AskOptions) => Effect.Effect<unknown, MessagingError>

const call = {
  stored: (socketPath: string, data: string): Call => (_, options) =>
    Effect.map(_.send(socketPath, Message.text(data), options), ({ id }) => Option.getOrElse(id, () => "none")),
  handled: (socketPath: string, data: string): Call => (_, options) =>
    Effect.map(_.send(socketPath, Message.text(data), { ...options, until: "handled" }), () => "handled"),
  answered: (socketPath: string, data: string): Call => (_, options) => _.ask(socketPath, data, options),
  pong: (socketPath: string): Call => (_, options) => Effect.as(_.ping(socketPath, options), "pong")
}

/** Started after the call and due after its deadline: however busy the process is, the call has ended by then. */
const pastDeadline = ({ timeout }: Options) =>
  Effect.sleep(timeout + 50).pipe(
    Effect.andThen(Effect.repeat(tick, { times: 100 })),
    Effect.andThen(Effect.die(`a call has passed its deadline of ${timeout} ms`))
  )

/** How a call ended: with a value or an error of ours, in time. */
const outcomeOf = Effect.fnUntraced(function*(messaging: Messaging["Service"], call: Call, options: Options) {
  const exit = yield* Effect.raceFirst(Effect.exit(call(messaging, options)), pastDeadline(options))
  if (Exit.isSuccess(exit)) return { value: exit.value, reason: undefined }
  assert.deepStrictEqual(exit.cause.reasons.map(({ _tag }) => _tag), ["Fail"], Cause.pretty(exit.cause))
  const error = Cause.squash(exit.cause)
  assert.instanceOf(error, MessagingError)
  if (error.reason._tag === "Rejected") {
    assert.isAtMost(Buffer.byteLength(error.reason.text), 256)
    assert.notMatch(error.reason.text, /\p{Cc}|\p{Cf}|\p{Cs}/u)
  }
  return { value: undefined, reason: error.reason._tag }
})

/** Runs a test with the rogues' token, and at its end an endpoint whose inbox is still empty and that holds nothing. */
const withRogues = <A, E, R>(
  protocol: 1 | 2,
  count: number,
  use: (setup: {
    readonly rogues: ReadonlyArray<{ readonly socketPath: string; readonly token: string }>
    /** A client with connections of its own. */
    readonly client: Effect.Effect<Messaging["Service"], never, Scope.Scope>
    /** An endpoint for one batch of calls; then it has released everything, and was told nothing. */
    readonly batch: (
      run: (messaging: Messaging["Service"]) => Effect.Effect<void>
    ) => Effect.Effect<void, Layers.StartError | MessagingError>
  }) => Effect.Effect<A, E, R>
) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const unhandled: Array<unknown> = []
      const onUnhandled = (reason: unknown) => unhandled.push(reason)
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("unhandledRejection", onUnhandled)),
        () => Effect.sync(() => process.off("unhandledRejection", onUnhandled))
      )
      const network = yield* Layer.build(protocol === 1 ? nodeNetwork1 : nodeNetwork)
      const capability = Context.get(network, Capability.Capability)
      const rogues = yield* Effect.forEach(
        Array.from({ length: count }, (_, i) => `${host.tmpdir}/${i}.sock`),
        (at) => Effect.map(capability.publish(at), ({ token }) => ({ socketPath: at, token: Redacted.value(token) }))
      )
      const honest = Context.get(
        yield* Layer.build(Layers.layer({ socketPath: path.join(host.tmpdir, "honest", "honest.sock") })),
        Messaging
      )
      return yield* use({
        rogues,
        client: makeClient.pipe(
          Effect.provideServiceEffect(Peers.Peers, Peers.make),
          Effect.provideContext(network)
        ),
        batch: (run) =>
          Effect.gen(function*() {
            const sockets = () => descriptors()["socket"] ?? 0
            const before = sockets()
            yield* Effect.scoped(Effect.gen(function*() {
              const services = yield* Layer.build(Layers.layer({ limits: { maxInFlightMessages: 100_000 } }))
              const messaging = Context.get(services, Messaging)
              yield* run(messaging)
              yield* messaging.ping(Option.getOrThrow(honest.address))
              assert.deepStrictEqual(yield* Context.get(services, Inbox).drain, [])
            }))
            assert.deepStrictEqual(unhandled, [])
            assert.strictEqual(yield* settled(sockets, before), before, "open sockets")
          })
      })
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
  )

/** The server ends the connection with it. */
const isLastWord = (fields: Fields) => fields["type"] === "error" && !Object.hasOwn(fields, "meta")

const makeReplies = ({ below, chance, pick }: Mutator, socketPath: string) => {
  const reply = (type: string, data: string | undefined, meta: object) => ({
    type,
    ...(data === undefined ? {} : { data }),
    ...(type === "pong" ? { from: socketPath } : {}),
    ts,
    meta
  })
  const entry = () => `uds-${below(1e6)}`
  /** What a server may say of a request, and some things that it may not. */
  return (messageId: string) => {
    const about = chance(0.7) ? messageId : pick([...biting, "no-such-id", "x".repeat(64)])
    return pick([
      () => reply("response", "ok", { id: entry(), messageId: about }),
      () => reply("response", "ok", { id: entry(), messageId: about, duplicate: true }),
      () => reply("response", "handled", { messageId: about }),
      () => reply("error", "failed", { messageId: about }),
      () => reply("response", `answer ${below(1e6)}`, { inReplyTo: about }),
      () => reply("error", "failed", { inReplyTo: about }),
      () => reply("error", "inbox full", { messageId: about, retryAfter: below(50) }),
      () => reply("pong", undefined, { messageId: about }),
      () => reply("text", "hello?", { messageId: about, inReplyTo: about }),
      () => reply("error", "\u001b[31m a remote error \u202e".repeat(below(100)), { messageId: about })
    ])()
  }
}

/** A request as its server knows it: by the call, and by what stands in the frame. */
interface Asked {
  readonly name: string
  readonly type: unknown
}

describe("a client fuzzed over real sockets", () => {
  /** What many calls wait for in vain. Much less, and on a busy machine next to none would be answered in time. */
  const patience = sized(1_000, 250)
  const inputs2 = sized(25_000, 1_250_000)

  it.live(`of protocol 2 believes none of ${inputs2} mutated replies that is not rightly one`, () =>
    withRogues(2, 16, ({ batch, rogues }) =>
      Effect.gen(function*() {
        let inputs = 0
        // What was rightly said, by request. Only these may be the value of a call.
        const rights = new Map<string, Set<string>>()
        const idsByData = new Map<string, string>()
        const pings = new Set<string>()
        const note = (id: string, right: string) => rights.set(id, (rights.get(id) ?? new Set()).add(right))

        const hear = (reading: Reading, fields: Fields) => {
          const message = messageOf(fields)
          const { data = "", meta, type } = message ?? {}
          if (isLastWord(fields)) reading.ended = true
          if (typeof meta !== "object" || meta === null || Array.isArray(meta)) return
          const { id, inReplyTo, messageId } = meta as Fields
          const about = typeof inReplyTo === "string" ? inReplyTo : messageId
          if (typeof about !== "string") return
          if (type === "pong") note(about, "pong")
          if (type === "response" && typeof id === "string") note(about, `stored ${id}`)
          else if (type === "response") note(about, about === inReplyTo ? `answered ${data}` : "handled")
        }

        for (const [i, { socketPath, token }] of rogues.entries()) {
          const mutator = makeMutator(makeRandom(seed + i))
          const { chance, cut, mutate, plain } = mutator
          const replyTo = makeReplies(mutator, socketPath)
          yield* listen(socketPath, (socket) => {
            const reading = new Reading()
            const write = (bytes: Buffer) => {
              if (!reading.ended) reading.read(bytes, (fields) => hear(reading, fields))
              for (const piece of chance(0.1) ? cut(bytes) : [bytes]) socket.write(piece)
            }
            /** Ending the connection ends the calls of all, so most of what would do so is not said. */
            const endsIt = (bytes: Buffer) => {
              const trial = new Reading()
              trial.read(bytes, (fields) => {
                if (isLastWord(fields)) trial.ended = true
              })
              return trial.ended || bytes.at(-1) !== 10
            }
            let challenged = false
            return (frame) => {
              if (frame["type"] === "hello") {
                const { from = "", nonce } = frame
                const ownNonce = "7".repeat(64)
                const proof = hmac(token, ["server", socketPath, String(from), String(nonce), ownNonce])
                const challenge = { type: "challenge", nonce: ownNonce, proof }
                if (challenged || chance(0.1)) inputs++
                socket.write(chance(0.1) ? mutate(challenge) : plain(challenge))
                challenged = true
                return
              }
              if (frame["type"] === "auth") return
              const { data, meta, type } = frame
              const id = String((meta as Fields)["messageId"])
              if (type === "ping") pings.add(id)
              else idsByData.set(String(data), id)
              for (let n = mutator.below(6); n > 0; n--) {
                const bytes = mutate(replyTo(id))
                if (endsIt(bytes) && !chance(0.02)) continue
                inputs++
                write(bytes)
              }
              // A duplicate, the right one, or nothing.
              if (!chance(0.7)) return
              const honest = { id: "uds-1", messageId: id }
              write(plain(
                type === "ping"
                  ? { type: "pong", ts, meta: honest }
                  : { type: "response", data: "ok", ts, meta: honest }
              ))
              write(plain({ type: "response", data: "handled", ts, meta: { messageId: id } }))
              write(plain({ type: "response", data: `to ${data}`, ts, meta: { inReplyTo: id } }))
            }
          })
        }

        const { below, chance, pick } = makeMutator(makeRandom())
        const ends: Record<string, number> = {}
        let pongs = 0
        for (let n = 0; inputs < inputs2;) {
          const calls = Array.from({ length: 1_000 }, () => {
            const { socketPath } = pick(rogues)
            const data = `call ${n++}`
            const until = pick(["stored", "handled", "answered", "pong"] as const)
            return {
              data,
              until,
              run: call[until](socketPath, data),
              options: { timeout: patience, retryWhenFull: chance(0.5) }
            }
          })
          yield* batch((messaging) =>
            Effect.forEach(calls, ({ data, options, run, until }) =>
              // Started at different times, so that links are lost and made under all of them.
              Effect.delay(outcomeOf(messaging, run, options), below(50)).pipe(Effect.map(({ reason, value }) => {
                ends[reason ?? until] = (ends[reason ?? until] ?? 0) + 1
                if (reason !== undefined) {
                  return
                }
                if (until === "pong") {
                  pongs++
                  return
                }
                const said = rights.get(idsByData.get(data) ?? "") ?? new Set()
                const right = until === "stored"
                  ? (id: string) => id === `stored ${String(value)}`
                  : (id: string) => id === (until === "handled" ? "handled" : `answered ${String(value)}`)
                assert.isTrue([...said].some(right), `${until} ${String(value)} of ${[...said].join(", ")}`)
              })), { concurrency: "unbounded", discard: true })
          )
        }
        assert.isAtMost(pongs, [...pings].filter((id) => rights.get(id)?.has("pong")).length)
        // The fuzz is worth nothing when nothing, or everything, gets through.
        for (const end of ["stored", "handled", "answered", "pong", "Timeout", "HandlerFailed", "Rejected"]) {
          assert.isAbove(ends[end] ?? 0, 10, end)
        }
      })))

  const inputs1 = sized(15_000, 750_000)

  it.live(`of protocol 1 makes of ${inputs1} mutated replies what the protocol says`, () =>
    withRogues(1, 16, ({ batch, client, rogues }) =>
      Effect.gen(function*() {
        let inputs = 0
        // To these the server does not hang up.
        const mute = "mute"
        // Each rogue has one client at a time: its calls that have not ended yet, in order; and what those that have must
        // have ended with.
        const groups = new Map<string, Array<string>>()
        const expected = new Map<string, string>()
        let late = 0

        for (const [i, { socketPath }] of rogues.entries()) {
          const mutator = makeMutator(makeRandom(seed + 100 + i))
          const { below, chance, cut, mutate, pick, plain } = mutator
          /** Answers what stands in `unanswered`, frames by name and type, and hangs up. */
          const answer = (socket: net.Socket, unanswered: Array<Asked>, group: Array<string>) => {
            const reading = new Reading()
            let refused = false
            let answered = false
            const endFirst = (end: (asked: Asked) => string) => {
              const first = unanswered.shift()
              if (first === undefined) return
              group.splice(group.indexOf(first.name), 1)
              expected.set(first.name, end(first))
            }
            const endAll = (end: string) => {
              while (unanswered.length > 0) endFirst(() => end)
            }
            const hear = (message: Fields) => {
              const { data: text, type } = message
              const meta = message["meta"] as Fields | undefined
              if (type === "response" || (type === "pong" && unanswered[0]?.type === "ping")) {
                answered = true
                endFirst((asked) =>
                  asked.type === "ping" ? "pong" : typeof meta?.["id"] === "string" ? meta["id"] : "none"
                )
              } else if (type === "error" && !refused) {
                if (text === "unauthorized") {
                  endAll("Unauthorized")
                  reading.ended = true
                } // One that has waited in vain has looked at nothing that crosses its last word.
                else if (!answered || text !== "idle timeout") {
                  endFirst(() => text === "inbox full" ? "InboxFull" : "Rejected")
                }
                refused = true
              }
            }
            const write = (bytes: Buffer) => {
              const hadEnded = reading.ended
              if (!hadEnded) {
                reading.read(bytes, (fields) => {
                  const message = messageOf(fields)
                  if (message !== undefined && !reading.ended) hear(message)
                })
              }
              if (reading.ended && !hadEnded && !refused) endFirst(() => "InvalidReply")
              for (const piece of chance(0.1) ? cut(bytes) : [bytes]) socket.write(piece)
            }
            for (let n = below(8 * unanswered.length); n > 0; n--) {
              inputs++
              write(mutate(pick([
                { type: "pong", from: socketPath, ts },
                { type: "response", data: "ok", ts, meta: { id: `uds-${below(100)}` } },
                { type: "text", data: "not yet" },
                { type: "text", data: "not yet" },
                { type: "text", data: "not yet" },
                { type: "query", data: "grüße 😀", meta: { list: [{ a: null }, 1] } },
                { type: "error", data: pick(["unauthorized", "inbox full", "invalid frame"]), ts },
                { type: "error", data: "\u001b[31m a remote error \u202e".repeat(below(100)), ts }
              ])))
            }
            for (const type of unanswered.map(({ type }) => type)) {
              const wanted = type === "ping" ? "pong" : "response"
              if (chance(0.8)) write(plain({ type: wanted, data: "ok", ts, meta: { id: "uds-1" } }))
            }
            // Nothing behind a refusal has been looked at, so it comes again.
            if (!refused) endAll("ConnectionLost")
          }
          yield* listen(socketPath, (socket) => {
            const frames: Array<Fields> = []
            const group = groups.get(socketPath) ?? []
            return (frame) => {
              frames.push(frame)
              if (frames.length !== group.length) return
              const unanswered = frames.map(({ data, type }, at) => ({ name: group[at] ?? "", type, data }))
              // A mute one that has given up is followed by another client.
              if (unanswered.some(({ data, name }) => data !== undefined && data !== name)) return void late++
              answer(socket, unanswered, group)
              if (!String(frame["data"]).startsWith(mute)) socket.end()
            }
          })
        }

        const { below, chance, pick } = makeMutator(makeRandom())
        const ends: Record<string, number> = {}
        let together = 0
        for (let n = 0; inputs < inputs1;) {
          const runClient = Effect.fnUntraced(function*(socketPath: string) {
            const isMute = chance(0.2)
            const calls = Array.from({ length: isMute || chance(0.5) ? 1 : 2 + below(5) }, () => {
              const until = isMute ? "stored" : pick(["stored", "stored", "stored", "pong"] as const)
              const data = `${isMute ? mute : "call"} ${n++}`
              return { data, until, run: call[until](socketPath, data) }
            })
            groups.set(socketPath, calls.map(({ data }) => data))
            const messaging = yield* client
            yield* Effect.forEach(calls, ({ data, run, until }) =>
              Effect.map(outcomeOf(messaging, run, { timeout: isMute ? 150 : 30_000 }), ({ reason, value }) => {
                ends[reason ?? until] = (ends[reason ?? until] ?? 0) + 1
                // Its server does not hang up.
                if (isMute && reason === "Timeout") {
                  return
                }
                if (calls.length > 1) {
                  together++
                }
                assert.strictEqual(reason ?? value, expected.get(data), data)
              }), { concurrency: "unbounded", discard: true })
          }, Effect.scoped)
          yield* batch(() =>
            Effect.forEach(rogues, ({ socketPath }) =>
              Effect.repeat(runClient(socketPath), { times: 24 }), {
              concurrency: "unbounded",
              discard: true
            })
          )
        }
        assert.isBelow(late, 100)
        assert.isAbove(together, 1_000)
        for (const end of ["stored", "pong", "Timeout", "ConnectionLost", "InvalidReply", "Rejected", "InboxFull"]) {
          assert.isAbove(ends[end] ?? 0, 10, end)
        }
      })))
})

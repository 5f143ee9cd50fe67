/**
 * A server among peers that send valid frames made wrong, over real sockets. Each connection is judged by a second
 * reading of the protocol: every reply, every entry, and nothing besides.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, References } from "effect"
import type * as Inbox from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import { Messaging } from "../../src/Messaging.ts"
import { makeRandom, seed, sized } from "../utils/effort.ts"
import { type Endpoint, type Fields, Judge } from "../utils/judge.ts"
import { makeMutator, type Mutator } from "../utils/mutate.ts"
import { connectRaw } from "../utils/rawPeer.ts"
import { descriptors, settled, tick } from "../utils/resources.ts"
import { withServer } from "../utils/server.ts"

const inputs = sized(60_000, 3_000_000)
const perBatch = 5_000
const atOnce = 64
/** Inputs on a connection that none of them ends. */
const perConnection = 60

const requestOf = ({ below, chance, pick }: Mutator, n: number, own: Fields): Fields => ({
  type: chance(0.02)
    ? pick(["hello", "auth"])
    : pick(["text", "notification", "query", "ping", "response", "error", "pong"]),
  ...(chance(0.8) ? { data: pick(["ok", "failed", `grüße ${n} 😀`, "x".repeat(below(200))]) } : {}),
  ...(chance(0.2) ? { from: "/somewhere/else.sock", ts: "2026-01-01T00:00:00.000Z" } : {}),
  meta: { ...own, ...(chance(0.3) ? { receipt: "handled", list: [1, { a: null }] } : {}) }
})

/** What one connection sends, in two parts, since the second one's proof depends on the answer to the first. */
class Script {
  readonly judge: Judge
  inputs = 0
  readonly from: string | undefined
  readonly #mutator: Mutator
  readonly #endpoint: Endpoint
  readonly #protocol: 1 | 2
  readonly #ordinal: number

  constructor(endpoint: Endpoint, ordinal: number) {
    this.judge = new Judge(endpoint)
    this.#endpoint = endpoint
    this.#ordinal = ordinal
    this.#mutator = makeMutator(makeRandom(seed + Math.imul(ordinal, 0x9e3779b1)))
    this.#protocol = this.#mutator.chance(0.4) ? 1 : 2
    // Message ids are remembered by sender.
    this.from = this.#protocol === 1 ? undefined : `/fuzz/${ordinal}`
  }

  #say(frame: unknown, mutation: number, out: Array<Buffer>): void {
    const { chance, mutate, plain } = this.#mutator
    const isMutated = chance(mutation)
    if (isMutated) this.inputs++
    const bytes = isMutated ? mutate(frame) : plain(frame)
    this.judge.read(bytes)
    out.push(bytes)
  }

  opening(): Array<Buffer> {
    const out: Array<Buffer> = []
    if (this.#protocol === 2) {
      this.#say({ type: "hello", protocol: 2, nonce: "5".repeat(64), from: this.from }, 0.1, out)
    }
    return out
  }

  rest(): Array<Array<Buffer>> {
    const { chance, pick } = this.#mutator
    const { judge } = this
    const out: Array<Buffer> = []
    const auth = () => {
      const proof = judge.serverNonce === undefined ? "0".repeat(64) : judge.proofOf("client", judge.serverNonce)
      return { type: "auth", proof, ...(chance(0.1) ? { fromProof: pick([proof, "", "x"]) } : {}) }
    }
    // Now and then a request comes before the proof.
    if (this.#protocol === 2 && !chance(0.01)) this.#say(auth(), 0.1, out)
    for (let n = 0; !judge.ended && n < perConnection; n++) {
      const own: Fields = this.#protocol === 1
        ? { authToken: this.#endpoint.token }
        : { messageId: `${this.#ordinal}-${chance(0.1) ? 0 : n}` }
      this.#say(requestOf(this.#mutator, n, own), 0.9, out)
    }
    // What comes behind an error is not read.
    for (let n = 0; n < 2; n++) {
      this.#say(
        { type: "text", data: "late", meta: { messageId: `late${n}`, authToken: this.#endpoint.token } },
        0,
        out
      )
    }
    return out.map((bytes) => chance(0.1) ? this.#mutator.cut(bytes) : [bytes])
  }
}

const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** A reply as the judge writes it. `ids` are those of the entries, as they are told. */
const normal = (line: string, judge: Judge, ids: Array<string>): unknown => {
  const reply = JSON.parse(line)
  if (reply.type === "challenge") {
    assert.deepStrictEqual(reply, {
      type: "challenge",
      nonce: reply.nonce,
      proof: judge.proofOf("server", reply.nonce)
    })
    return { type: "challenge" }
  }
  const { meta, ts, ...others } = reply
  assert.match(ts, iso)
  if (typeof others.data === "string") others.data = others.data.replace(/\(\d+\)$/, "(#)")
  if (meta === undefined) return others
  if (reply.type === "pong") {
    const { inbox, ...asked } = meta
    assert.deepStrictEqual(Object.keys(inbox), ["entries", "bytes"])
    for (const count of Object.values(inbox)) assert.isTrue(Number.isSafeInteger(count) && Number(count) >= 0)
    return { ...others, meta: asked }
  }
  if (typeof meta.id !== "string") return { ...others, meta }
  if (meta.duplicate !== true) ids.push(meta.id)
  return { ...others, meta: { ...meta, id: `#${ids.indexOf(meta.id)}` } }
}

/** Runs one script over a connection of its own; tells how the server's word was and which entries it made. */
const converse = Effect.fnUntraced(function*(endpoint: Endpoint, ordinal: number) {
  const script = new Script(endpoint, ordinal)
  const { judge } = script
  const peer = yield* connectRaw(endpoint.socketPath)
  const said: Array<string> = []
  for (const bytes of script.opening()) yield* peer.write(bytes)
  if (judge.awaitsNonce && !judge.ended) {
    const challenge = yield* peer.line
    if (challenge !== undefined) {
      said.push(challenge)
      judge.serverNonce = JSON.parse(challenge).nonce
    }
  }
  for (const pieces of script.rest()) {
    for (const [i, piece] of pieces.entries()) {
      // Pieces that are to arrive one by one.
      if (i > 0) yield* tick
      yield* peer.write(piece)
    }
  }
  yield* peer.end
  said.push(...yield* peer.rest)
  const ids: Array<string> = []
  const which = `connection ${ordinal} of seed ${seed}`
  assert.deepStrictEqual(said.map((line) => normal(line, judge, ids)), judge.replies, which)
  return { ids, inputs: script.inputs, judge, which }
}, Effect.scoped)

type Conversation = Effect.Success<ReturnType<typeof converse>>

/** The inbox holds what the acks tell of, and nothing else. */
const assertStored = (entries: ReadonlyArray<Inbox.Entry>, conversations: ReadonlyArray<Conversation>) => {
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  for (const { ids, judge, which } of conversations) {
    assert.deepStrictEqual(ids.map((id) => byId.get(id)?.message as unknown), judge.stored, which)
    for (const id of ids) {
      assert.isFalse(byId.get(id)?.sender.verified, which)
      byId.delete(id)
    }
  }
  assert.deepStrictEqual([...byId.values()].map(({ message }) => message), [])
}

describe("a server fuzzed over real sockets", () => {
  it.live(`answers ${inputs} mutated frames as the protocol says, stores no others, and keeps nothing`, () => {
    const problems: Array<unknown> = []
    const keepErrors = Logger.make(({ logLevel, message }) => {
      if (logLevel === "Error" || logLevel === "Fatal") problems.push(message)
    })
    const onUnhandled = (reason: unknown) => problems.push(reason)
    return withServer((server) =>
      Effect.gen(function*() {
        yield* Effect.acquireRelease(
          Effect.sync(() => process.on("unhandledRejection", onUnhandled)),
          () => Effect.sync(() => process.off("unhandledRejection", onUnhandled))
        )
        const healthy = yield* Effect.provide(Messaging, yield* Layer.build(Layers.layerClient()))
        yield* healthy.ping(server.socketPath)
        const before = descriptors()["socket"] ?? 0
        let ordinal = 0
        for (let done = 0; done < inputs;) {
          const conversations: Array<Conversation> = []
          for (const target = done + perBatch; done < Math.min(target, inputs);) {
            const some = yield* Effect.forEach(
              Array.from({ length: atOnce }, () => ordinal++),
              (n) => converse(server, n),
              { concurrency: "unbounded" }
            )
            for (const { inputs } of some) done += inputs
            conversations.push(...some)
          }
          assertStored(yield* server.inbox.drain, conversations)
          yield* healthy.ping(server.socketPath)
          const sockets = () => descriptors()["socket"] ?? 0
          assert.strictEqual(yield* settled(sockets, before), before, "open sockets")
          assert.deepStrictEqual(problems, [])
        }
      }), {
      maxInboxEntries: 1_000_000,
      maxInboxBytes: 1_000_000_000,
      maxRefusalDelay: 1,
      maxUnauthenticatedPeers: 2 * atOnce
    }).pipe(
      Effect.provide(Logger.layer([keepErrors])),
      Effect.provideService(References.MinimumLogLevel, "Error")
    )
  })
})

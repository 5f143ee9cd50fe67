/**
 * Protocol 2 as a peer speaks it, written from PROTOCOL.md section 4 with `node:crypto` alone, so that its tests owe
 * nothing to the code they test.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as crypto from "node:crypto"
import { type MemoryPeer, serve, type ServeOptions, socketPath, token } from "./memoryPeer.ts"

export const clientNonce = "5".repeat(64)

export interface Challenge {
  readonly type: string
  readonly nonce: string
  readonly proof: string
}

export interface Claims {
  readonly from?: string | undefined
  /** What the proof of `from` is made with; without it there is none. */
  readonly fromToken?: string | undefined
  /** What the client's own proof is made with. */
  readonly key?: string | undefined
}

export const hmac = (key: string, role: string, serverNonce: string, from = "") =>
  crypto.createHmac("sha256", key).update([role, socketPath, from, clientNonce, serverNonce].join("\n")).digest("hex")

export const line = (value: unknown): string => `${JSON.stringify(value)}\n`

export const hello = (fields: Record<string, unknown> = {}): string =>
  line({ type: "hello", protocol: 2, nonce: clientNonce, ...fields })

export const auth = (serverNonce: string, { from, fromToken, key = token }: Claims = {}): string =>
  line({
    type: "auth",
    proof: hmac(key, "client", serverNonce, from),
    fromProof: fromToken === undefined ? undefined : hmac(fromToken, "client", serverNonce, from)
  })

/** Says hello and reads the challenge. */
export const greet = Effect.fnUntraced(function*(peer: Pick<MemoryPeer, "write" | "line">, from?: string) {
  yield* peer.write(hello({ from }))
  return JSON.parse((yield* peer.line) ?? "null") as Challenge
})

/** The whole handshake. */
export const shake = Effect.fnUntraced(function*(peer: Pick<MemoryPeer, "write" | "line">, claims: Claims = {}) {
  const challenge = yield* greet(peer, claims.from)
  assert.strictEqual(challenge.proof, hmac(token, "server", challenge.nonce, claims.from))
  yield* peer.write(auth(challenge.nonce, claims))
})

/** A connection whose handshake is done. */
export const serveProven2 = Effect.fnUntraced(function*(options: ServeOptions & Claims = {}) {
  const served = yield* serve(options)
  yield* shake(served.peer, options)
  return served
})

/** One request with its LF; a text unless `fields` say otherwise. */
export const request = (messageId: unknown, fields: Record<string, unknown> = {}): string =>
  line({ type: "text", data: String(messageId), ...fields, meta: { ...fields["meta"] as object, messageId } })
export const ping2 = (messageId: string): string => line({ type: "ping", meta: { messageId } })
export const query = (messageId: string, meta: object = {}): string => request(messageId, { type: "query", meta })
export const withReceipt = (messageId: string): string => request(messageId, { meta: { receipt: "handled" } })

const reply = (type: string, data: string, millis: number, meta: string) =>
  `{"type":"${type}","data":"${data}","ts":"${new Date(millis).toISOString()}","meta":{${meta}}}`

/** The replies of PROTOCOL.md section 4, spelled out, as they are `millis` after the start of the test's clock. */
export const ack2 = (n: number, messageId: string, millis = 0) =>
  reply("response", "ok", millis, `"id":"uds-${n}","messageId":"${messageId}"`)
export const duplicate = (n: number, messageId: string, millis = 0) =>
  reply("response", "ok", millis, `"id":"uds-${n}","messageId":"${messageId}","duplicate":true`)
export const pong2 = (messageId: string, entries: number, bytes: number, millis = 0) =>
  `{"type":"pong","from":"${socketPath}","ts":"${new Date(millis).toISOString()}",` +
  `"meta":{"messageId":"${messageId}","inbox":{"entries":${entries},"bytes":${bytes}}}}`
export const full = (messageId: string, retryAfter = 100, millis = 0) =>
  reply("error", "inbox full", millis, `"messageId":"${messageId}","retryAfter":${retryAfter}`)
export const handled = (messageId: string, millis = 0) =>
  reply("response", "handled", millis, `"messageId":"${messageId}"`)
export const failed = (messageId: string, millis = 0) => reply("error", "failed", millis, `"messageId":"${messageId}"`)
export const answer = (data: string, inReplyTo: string, millis = 0) =>
  reply("response", data, millis, `"inReplyTo":"${inReplyTo}"`)
export const noAnswer = (inReplyTo: string, millis = 0) =>
  reply("error", "failed", millis, `"inReplyTo":"${inReplyTo}"`)

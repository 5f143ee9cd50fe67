/**
 * A second reading of PROTOCOL.md, sections 1 to 4: what a server must make of the bytes of one connection. Written from
 * the text with the platform's own parts, so that it owes nothing to the code it judges.
 */
import * as crypto from "node:crypto"

type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }
export interface Fields {
  readonly [key: string]: Json
}

/** What one line is: nothing, a frame, or the last that is read. */
export type Line =
  | { readonly _tag: "Blank" }
  | { readonly _tag: "Frame"; readonly fields: Fields }
  | { readonly _tag: "Bad"; readonly text: string }

const maxFrameBytes = 65_536
const maxDepth = 64
const invalid: Line = { _tag: "Bad", text: "invalid frame" }
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The value without the keys that never reach an application; undefined when it is nested too deep. */
const clean = (value: Json, depth: number): Json | undefined => {
  if (typeof value !== "object" || value === null) return value
  if (depth === 0) return undefined
  const pairs = Object.entries(value)
    .filter(([key]) => Array.isArray(value) || !["__proto__", "constructor", "prototype"].includes(key))
    .map(([key, item]) => [key, clean(item as Json, depth - 1)] as const)
  if (pairs.some(([, item]) => item === undefined)) return undefined
  return Array.isArray(value) ? pairs.map(([, item]) => item as Json) : Object.fromEntries(pairs) as Fields
}

/** Without its LF. How many bytes of a long line the server says it has seen is its own affair, so `#` stands there. */
export const judgeLine = (line: Uint8Array): Line => {
  if (line.length > maxFrameBytes) return { _tag: "Bad", text: `NDJSON frame exceeded ${maxFrameBytes} bytes (#)` }
  if (line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) return { _tag: "Blank" }
  let value: Json
  try {
    value = JSON.parse(strict.decode(line))
  } catch {
    return invalid
  }
  const cleaned = isFields(value) ? clean(value, maxDepth) : undefined
  return isFields(cleaned) ? { _tag: "Frame", fields: cleaned } : invalid
}

const types = new Set(["text", "notification", "query", "response", "error", "ping", "pong"])
const isFinite = (value: Json): boolean =>
  typeof value === "number"
    ? Number.isFinite(value)
    : typeof value !== "object" || value === null || Object.values(value).every((item) => isFinite(item as Json))
const own = (fields: Fields, key: string): Json | undefined => Object.hasOwn(fields, key) ? fields[key] : undefined

/** The message a frame holds, with the keys of the schema only; undefined when it holds none. */
export const messageOf = (fields: Fields): Fields | undefined => {
  const type = own(fields, "type")
  const meta = own(fields, "meta")
  if (typeof type !== "string" || !types.has(type)) return undefined
  if (["data", "from", "ts"].some((key) => !["string", "undefined"].includes(typeof own(fields, key)))) return undefined
  if (meta !== undefined && !(isFields(meta) && isFinite(meta))) return undefined
  const kept = ["type", "data", "from", "ts", "meta"].filter((key) => Object.hasOwn(fields, key))
  return Object.fromEntries(kept.map((key) => [key, fields[key] as Json]))
}

/** `meta` without what belongs to the protocol; no `meta` when nothing is left. */
const forApplication = (message: Fields, keys: ReadonlyArray<string>): Fields => {
  const { meta, ...rest } = message
  if (!isFields(meta)) return message
  const kept = Object.entries(meta).filter(([key]) => !keys.includes(key))
  return kept.length === 0 ? rest : { ...rest, meta: Object.fromEntries(kept) }
}

export const hmac = (token: string, parts: ReadonlyArray<string>) =>
  crypto.createHmac("sha256", token).update(parts.join("\n")).digest("hex")

export interface Endpoint {
  readonly socketPath: string
  readonly token: string
}

const hex64 = /^[0-9a-f]{64}$/
const matches = (pattern: RegExp, value: Json | undefined) => typeof value === "string" && pattern.test(value)

/**
 * What a server with room for everything says to a connection, and stores. Replies have no `ts`; the ids of entries are
 * those of the connection's own messages, `#0` for the first.
 */
export class Judge {
  readonly replies: Array<unknown> = []
  readonly stored: Array<Fields> = []
  /** The last word has been said. */
  ended = false
  /** Hello was good and the proof of the next frame depends on the server's nonce. */
  awaitsNonce = false
  serverNonce: string | undefined
  #rest: Uint8Array = new Uint8Array(0)
  #hello: Fields | undefined
  #authenticated = false
  #first = true
  readonly #known = new Map<string, number>()
  readonly endpoint: Endpoint

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint
  }

  read(bytes: Uint8Array): void {
    const all = Buffer.concat([this.#rest, bytes])
    let start = 0
    for (let end = all.indexOf(10); end !== -1 && !this.ended; end = all.indexOf(10, start)) {
      this.#judge(judgeLine(all.subarray(start, end)))
      start = end + 1
    }
    this.#rest = all.subarray(start)
    if (!this.ended && this.#rest.length > maxFrameBytes) this.#judge(judgeLine(this.#rest))
  }

  #judge(line: Line): void {
    if (line._tag === "Blank") return
    if (line._tag === "Bad") return this.#end(line.text)
    const isHello = this.#first && own(line.fields, "type") === "hello"
    this.#first = false
    if (isHello) return this.#greet(line.fields)
    if (this.#hello === undefined) return this.#protocol1(line.fields)
    if (!this.#authenticated) return this.#authenticate(line.fields, this.#hello)
    return this.#protocol2(line.fields)
  }

  #end(text: string): void {
    this.ended = true
    this.replies.push({ type: "error", data: text })
  }

  #store(message: Fields, meta: Fields): void {
    this.replies.push({ type: "response", data: "ok", meta: { id: `#${this.stored.length}`, ...meta } })
    this.stored.push(message)
  }

  #protocol1(fields: Fields): void {
    const meta = own(fields, "meta")
    if (!isFields(meta) || own(meta, "authToken") !== this.endpoint.token) return this.#end("unauthorized")
    const message = messageOf(fields)
    if (message === undefined) return this.#end("invalid frame")
    if (message["type"] === "ping") this.replies.push({ type: "pong", from: this.endpoint.socketPath })
    else this.#store(forApplication(message, ["authToken"]), {})
  }

  #greet(fields: Fields): void {
    const from = own(fields, "from")
    const isGood = own(fields, "protocol") === 2 && matches(hex64, own(fields, "nonce")) &&
      (from === undefined || matches(/^[^\p{Cc}]{1,256}$/u, from))
    if (!isGood) return this.#end("invalid frame")
    this.#hello = fields
    this.awaitsNonce = true
    this.replies.push({ type: "challenge" })
  }

  /** What both ends prove that they have heard. */
  proofOf(role: "server" | "client", nonce: string): string {
    const { from = "", nonce: clientNonce } = this.#hello ?? {}
    return hmac(this.endpoint.token, [role, this.endpoint.socketPath, String(from), String(clientNonce), nonce])
  }

  #authenticate(fields: Fields, _hello: Fields): void {
    const fromProof = own(fields, "fromProof")
    const isGood = own(fields, "type") === "auth" && this.serverNonce !== undefined &&
      own(fields, "proof") === this.proofOf("client", this.serverNonce) &&
      (fromProof === undefined || typeof fromProof === "string")
    if (!isGood) return this.#end("unauthorized")
    this.#authenticated = true
  }

  #protocol2(fields: Fields): void {
    const message = messageOf(fields)
    const meta = message?.["meta"]
    const messageId = isFields(meta) ? own(meta, "messageId") : undefined
    if (message === undefined || typeof messageId !== "string" || !/^[\x20-\x7e]{1,64}$/.test(messageId)) {
      return this.#end("invalid frame")
    }
    if (message["type"] === "ping") {
      this.replies.push({ type: "pong", from: this.endpoint.socketPath, meta: { messageId } })
      return
    }
    const known = this.#known.get(messageId)
    if (known !== undefined) {
      const again = { id: `#${known}`, messageId, duplicate: true }
      this.replies.push({ type: "response", data: "ok", meta: again })
      return
    }
    this.#known.set(messageId, this.stored.length)
    this.#store(forApplication(message, ["authToken", "messageId", "receipt", "traceparent"]), { messageId })
  }
}

/**
 * What the conformance tests share: an endpoint of the library on a real socket, the frames a protocol 1 client sends
 * to it, and the replies PROTOCOL.md section 3.4 promises, spelled out by hand.
 */
import { assert } from "@effect/vitest"
import { Effect, Option, type Scope } from "effect"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import type * as Limits from "../../src/Limits.ts"
import { Messaging } from "../../src/Messaging.ts"
import { connectRaw, type RawPeer } from "./rawPeer.ts"
import { withTempHost } from "./tempHost.ts"

export interface Server {
  readonly socketPath: string
  readonly token: string
  readonly inbox: Inbox["Service"]
  readonly connect: Effect.Effect<RawPeer, never, Scope.Scope>
}

/** Runs a test against an endpoint of its own, at a default path below a home of its own. */
export const withServer = <A, E, R>(
  use: (server: Server) => Effect.Effect<A, E, R>,
  limits?: Limits.Options
) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const { address } = yield* Messaging
      const { socketPath } = Option.getOrThrow(address)
      const name = `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
      const file = fs.readFileSync(path.join(host.homedir, ".claude", "messaging-capabilities", name), "utf8")
      const { authToken } = JSON.parse(file) as { readonly authToken: string }
      return yield* use({ socketPath, token: authToken, inbox: yield* Inbox, connect: connectRaw(socketPath) })
    }).pipe(Effect.provide(Layers.layer({ limits })))
  )

/** As `withServer`, for a test that needs one connection. */
export const withPeer = <A, E, R>(
  use: (peer: RawPeer, server: Server) => Effect.Effect<A, E, R>,
  limits?: Limits.Options
) => withServer((server) => Effect.flatMap(server.connect, (peer) => use(peer, server)), limits)

interface Fields {
  readonly [key: string]: unknown
  readonly meta?: Readonly<Record<string, unknown>>
}

/** One frame with its LF; a text unless `fields` say otherwise. */
export const frame = (token: string, fields: Fields = {}): string =>
  `${JSON.stringify({ type: "text", ...fields, meta: { ...fields.meta, authToken: token } })}\n`

export const ping = (token: string): string => frame(token, { type: "ping" })

/** A text frame of exactly `bytes` bytes, its LF not counted. */
export const frameOf = (token: string, bytes: number): string => {
  const empty = frame(token, { data: "" })
  return frame(token, { data: "a".repeat(bytes - (empty.length - 1)) })
}

const iso = String.raw`"ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`

/** A reply as it stands on the wire, except that a well-formed time is replaced by `"ts"`. */
export const timeless = (line: string | undefined): string | undefined => line?.replace(new RegExp(iso), "\"ts\"")

export const pong = (socketPath: string): string => `{"type":"pong","from":"${socketPath}","ts"}`
export const ack = (n: number): string => `{"type":"response","data":"ok","ts","meta":{"id":"uds-${n}"}}`
export const error = (text: string): string => `{"type":"error","data":"${text}","ts"}`

/** The next reply is `expected`. */
export const replied = (peer: RawPeer, expected: string) =>
  Effect.map(peer.line, (line) => assert.strictEqual(timeless(line), expected))

/** The replies up to the server's close are `expected`, and nothing else. */
export const repliedAndClosed = (peer: RawPeer, ...expected: ReadonlyArray<string>) =>
  Effect.map(peer.rest, (lines) => assert.deepStrictEqual(lines.map(timeless), [...expected]))

/** The connection still serves, and has said nothing that the test has not read. */
export const isOpen = (peer: RawPeer, server: Server) =>
  Effect.andThen(peer.write(ping(server.token)), replied(peer, pong(server.socketPath)))

/** The inbox holds nothing. */
export const nothingStored = (server: Server) =>
  Effect.map(server.inbox.drain, (entries) => assert.deepStrictEqual(entries, []))

/**
 * Protocol 2's mutual proof (PROTOCOL.md section 9): each end shows that it can read the server's capability file, and
 * nothing that either says helps anybody else to show it. Pure but for the nonces.
 */
import type * as Redacted from "effect/Redacted"
import { value } from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as crypto from "node:crypto"

const Hex64 = Schema.String.pipe(Schema.check(Schema.isPattern(/^[0-9a-f]{64}$/)))

// Lines separate the parts of what is proved, so no part may hold a line break.
const From = Schema.String.pipe(Schema.check(Schema.isPattern(/^[^\p{Cc}]{1,256}$/u)))

/** The client's first frame. `from` is the path of its own server, if it has one. */
export const Hello = Schema.Struct({
  type: Schema.Literal("hello"),
  protocol: Schema.Literal(2),
  nonce: Hex64,
  from: Schema.optionalKey(From)
})

/** The server's answer: its own nonce, and the proof that it knows its token. */
export const Challenge = Schema.Struct({ type: Schema.Literal("challenge"), nonce: Hex64, proof: Hex64 })

/** The client's proof, and the proof that `from` is its own. */
export const Auth = Schema.Struct({
  type: Schema.Literal("auth"),
  proof: Hex64,
  fromProof: Schema.optionalKey(Schema.String)
})

export const decodeHello = Schema.decodeUnknownResult(Hello)
export const decodeChallenge = Schema.decodeUnknownResult(Challenge)
export const decodeAuth = Schema.decodeUnknownResult(Auth)

/** What both ends saw of the handshake. `path` is the socket path dialled, or published. */
export interface Transcript {
  readonly path: string
  readonly from: string | undefined
  readonly clientNonce: string
  readonly serverNonce: string
}

const nonceBytes = 32

/** 32 random bytes in lower-case hex, for one handshake. */
export const newNonce = (): string => crypto.randomBytes(nonceBytes).toString("hex")

/** As `newNonce`, for many: the system is asked for 128 at once, which takes it little longer than one. */
export const makeNonces = (): () => string => {
  const random = Buffer.alloc(128 * nonceBytes)
  let used = random.length
  return () => {
    if (used === random.length) {
      crypto.randomFillSync(random)
      used = 0
    }
    const from = used
    used += nonceBytes
    const nonce = random.toString("hex", from, used)
    // Nobody else is given it, nor finds it here later.
    random.fill(0, from, used)
    return nonce
  }
}

/** HMAC-SHA256 in lower-case hex, keyed with the characters of the token. */
export const prove = (role: "server" | "client", token: Redacted.Redacted<string>, transcript: Transcript): string =>
  crypto.createHmac("sha256", value(token))
    .update([role, transcript.path, transcript.from ?? "", transcript.clientNonce, transcript.serverNonce].join("\n"))
    .digest("hex")

/** Compares in constant time, as bytes, whole. */
export const isProof = (expected: string, given: string): boolean => {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)]
  return crypto.timingSafeEqual(a, a.length === b.length ? b : a) && a.length === b.length
}

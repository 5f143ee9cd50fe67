import { assert, describe, it } from "@effect/vitest"
import { Redacted, Result } from "effect"
import * as crypto from "node:crypto"
import * as Handshake from "../src/Handshake.ts"

interface Vector extends Handshake.Transcript {
  readonly name: string
  readonly token: string
  /** The token of `from`. */
  readonly fromToken?: string
  readonly serverProof: string
  readonly clientProof: string
  readonly fromProof?: string
}

// Computed by node:crypto from PROTOCOL.md 4.1, and by nothing of this library; the documentation repeats them.
const vectors: ReadonlyArray<Vector> = [
  {
    name: "a client without a server",
    token: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    path: "/run/user/1000/claude-code-socks/4242-00112233445566778899aabbccddeeff/messaging.sock",
    from: undefined,
    clientNonce: "0000000000000000000000000000000000000000000000000000000000000000",
    serverNonce: "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    serverProof: "433942d6cff24bd1a1b91c21e16511b8815961c835b06f8a8b976799883ff474",
    clientProof: "3fd41bfee6a02d67c6438a0f17132ffd8402d3a950b9d44e3c2c257b78463efa"
  },
  {
    name: "a client with a server",
    token: "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    path: "/tmp/claude-code-socks-1000/1/messaging.sock",
    from: "/tmp/claude-code-socks-1000/2/messaging.sock",
    fromToken: "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5",
    clientNonce: "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
    serverNonce: "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    serverProof: "862d7734b5f7b412a4abbda06e90d5791a217f0ef4bc4d2fc50dd5774b294071",
    clientProof: "bec4f05e101271e39332f4c5e03bc36e9c2868089cd1dd0beda19b36963bae6f",
    fromProof: "63e0f608803d8c6e3a6d3406161c08a2566870dd3b3fe2efb823337f42c3a5e0"
  },
  {
    name: "paths beyond ASCII",
    token: "8f14e45fceea167a5a36dedd4bea25438f14e45fceea167a5a36dedd4bea2543",
    path: "/tmp/größe/messaging.sock",
    from: "/tmp/相手/messaging.sock",
    fromToken: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    clientNonce: "1111111111111111111111111111111111111111111111111111111111111111",
    serverNonce: "2222222222222222222222222222222222222222222222222222222222222222",
    serverProof: "97003692925fcbc7084499ee3d1ca7af4a287aaffd5baca2180e432d14f3fad0",
    clientProof: "638f777de4169dcde6e381779de7a438e41101c762cd3f6f92e14d71efea719b",
    fromProof: "1df5e881c444072dbb538af4696f4d772c0baa67b3f9b873032291fa3f6d5108"
  },
  {
    name: "Windows pipes",
    token: "5ec2e70000000000000000000000000000000000000000000000000000000000",
    path: String.raw`\\.\pipe\claude-code-7-00112233445566778899aabbccddeeff`,
    from: String.raw`\\.\pipe\claude-code-8-ffeeddccbbaa99887766554433221100`,
    fromToken: "c0ffee1111111111111111111111111111111111111111111111111111111111",
    clientNonce: "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
    serverNonce: "9876543210fedcba9876543210fedcba9876543210fedcba9876543210fedcba",
    serverProof: "0fa0c9898a601771a10830ba2fdc0f5f15023d956aed9d0bb89f05872a5d022b",
    clientProof: "2d061eda993867960846015650b53c1bc49f4ee748d0689a3072fdef4ff963c4",
    fromProof: "333f9a6cc9a10a1e63642a176a300005ed38eff64d862e8b249cefccf6571aa4"
  }
]

/** PROTOCOL.md 4.1, read afresh: HMAC(role‖path‖from or ""‖client nonce‖server nonce), `‖` being LF. */
const fromProtocol = (key: string, role: string, { clientNonce, from, path, serverNonce }: Handshake.Transcript) =>
  crypto.createHmac("sha256", Buffer.from(key, "ascii"))
    .update(`${role}\n${path}\n${from ?? ""}\n${clientNonce}\n${serverNonce}`, "utf8")
    .digest("hex")

const [vector] = vectors as readonly [Vector, ...ReadonlyArray<Vector>]
const transcript: Handshake.Transcript = vector
const token = Redacted.make(vector.token)

const nonce = "0123456789abcdef".repeat(4)
const proof = "fedcba9876543210".repeat(4)
const hello = { type: "hello", protocol: 2, nonce }
const challenge = { type: "challenge", nonce, proof }
const auth = { type: "auth", proof }

const notHex64 = [
  ["too short", nonce.slice(1)],
  ["too long", `${nonce}0`],
  ["not hex", `${nonce.slice(1)}g`],
  ["in upper case", nonce.toUpperCase()],
  ["with a line break after it", `${nonce}\n`],
  ["empty", ""],
  ["a number", 1],
  ["null", null],
  ["missing", undefined]
] as const

describe("Handshake", () => {
  describe("vectors", () => {
    it.each(vectors)("proves the server as the protocol says: $name", (vector) => {
      assert.strictEqual(Handshake.prove("server", Redacted.make(vector.token), vector), vector.serverProof)
      assert.strictEqual(fromProtocol(vector.token, "server", vector), vector.serverProof)
    })

    it.each(vectors)("proves the client as the protocol says: $name", (vector) => {
      assert.strictEqual(Handshake.prove("client", Redacted.make(vector.token), vector), vector.clientProof)
      assert.strictEqual(fromProtocol(vector.token, "client", vector), vector.clientProof)
    })

    it.each(vectors.filter(({ fromToken }) => fromToken !== undefined))(
      "proves the client's own path with its own token: $name",
      (vector) => {
        const { fromToken = "" } = vector
        assert.strictEqual(Handshake.prove("client", Redacted.make(fromToken), vector), vector.fromProof)
        assert.strictEqual(fromProtocol(fromToken, "client", vector), vector.fromProof)
      }
    )
  })

  describe("proof", () => {
    it("does not tell an empty sender from none", () => {
      assert.strictEqual(Handshake.prove("client", token, { ...transcript, from: "" }), vector.clientProof)
    })

    it("of one end is not that of the other", () => {
      assert.notStrictEqual(Handshake.prove("server", token, transcript), Handshake.prove("client", token, transcript))
    })

    it.each<readonly [string, Partial<Handshake.Transcript>]>([
      ["path", { path: "/run/other.sock" }],
      ["sender", { from: "/run/other.sock" }],
      ["client's nonce", { clientNonce: nonce }],
      ["server's nonce", { serverNonce: nonce }],
      ["order of the nonces", { clientNonce: transcript.serverNonce, serverNonce: transcript.clientNonce }],
      ["order of the paths", { path: "", from: transcript.path }]
    ])("depends on the %s", (_, change) => {
      assert.notStrictEqual(Handshake.prove("server", token, { ...transcript, ...change }), vector.serverProof)
    })

    it("does not contain the token", () => {
      assert.notInclude(Handshake.prove("server", token, transcript), vector.token)
    })
  })

  describe("comparison", () => {
    it("accepts the same proof", () => {
      assert.isTrue(Handshake.isProof(proof, `${proof.slice(0, 32)}${proof.slice(32)}`))
    })

    it.each([
      ["wrong in its first character", `0${proof.slice(1)}`],
      ["wrong in its last character", `${proof.slice(0, -1)}f`],
      ["short by one character", proof.slice(0, -1)],
      ["long by one character", `${proof}0`],
      ["twice itself", proof + proof],
      ["empty", ""],
      ["in upper case", proof.toUpperCase()],
      ["of as many characters and more bytes", `${proof.slice(0, -1)}é`],
      ["of as many bytes and fewer characters", `${proof.slice(0, -2)}é`]
    ])("refuses one that is %s", (_, given) => {
      assert.isFalse(Handshake.isProof(proof, given))
    })
  })

  describe("nonce", () => {
    it.each([
      ["one at a time", () => Handshake.newNonce],
      ["of many", Handshake.makeNonces]
    ])("%s is 64 lower-case hex digits, random ones, and another one each time", (_, make) => {
      const nonces = Array.from({ length: 1_000 }, make())
      for (const nonce of nonces) assert.match(nonce, /^[0-9a-f]{64}$/)
      assert.strictEqual(new Set(nonces).size, nonces.length)
      // No digit of any place is much more frequent than the others: a byte that is always the same would be.
      for (let place = 0; place < 64; place++) {
        const counts = new Map<string, number>()
        for (const nonce of nonces) counts.set(nonce.charAt(place), (counts.get(nonce.charAt(place)) ?? 0) + 1)
        assert.isBelow(Math.max(...counts.values()), 130, `place ${place}`)
      }
    })
  })

  describe("hello", () => {
    it("is read with and without a sender", () => {
      const from = "/run/größe.sock"
      assert.deepStrictEqual<unknown>(Handshake.decodeHello(hello), Result.succeed(hello))
      assert.deepStrictEqual<unknown>(Handshake.decodeHello({ ...hello, from }), Result.succeed({ ...hello, from }))
    })

    it("drops keys that later versions may add", () => {
      assert.deepStrictEqual<unknown>(Handshake.decodeHello({ ...hello, later: true }), Result.succeed(hello))
    })

    it.each([1, 3, 2.5, "2", null, undefined])("refuses the protocol %j", (protocol) => {
      assert.isTrue(Result.isFailure(Handshake.decodeHello({ ...hello, protocol })))
    })

    it.each(notHex64)("refuses a nonce that is %s", (_, nonce) => {
      assert.isTrue(Result.isFailure(Handshake.decodeHello({ ...hello, nonce })))
    })

    it.each(
      ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85"].flatMap((char) => [`${char}/run/a.sock`, `/run/${char}a.sock`])
    )("refuses a control character in the sender: %j", (from) => {
      assert.isTrue(Result.isFailure(Handshake.decodeHello({ ...hello, from })))
    })

    it.each([
      ["empty", ""],
      ["longer than 256 characters", "/".repeat(257)],
      ["a number", 1],
      ["null", null]
    ])("refuses a sender that is %s", (_, from) => {
      assert.isTrue(Result.isFailure(Handshake.decodeHello({ ...hello, from })))
    })
  })

  describe("challenge", () => {
    it("is read", () => {
      assert.deepStrictEqual<unknown>(Handshake.decodeChallenge(challenge), Result.succeed(challenge))
    })

    it.each(notHex64)("refuses a nonce that is %s", (_, nonce) => {
      assert.isTrue(Result.isFailure(Handshake.decodeChallenge({ ...challenge, nonce })))
    })

    it.each(notHex64)("refuses a proof that is %s", (_, proof) => {
      assert.isTrue(Result.isFailure(Handshake.decodeChallenge({ ...challenge, proof })))
    })
  })

  describe("auth", () => {
    it("is read with and without a proof of the sender", () => {
      assert.deepStrictEqual<unknown>(Handshake.decodeAuth(auth), Result.succeed(auth))
      const both = { ...auth, fromProof: proof }
      assert.deepStrictEqual<unknown>(Handshake.decodeAuth(both), Result.succeed(both))
    })

    it.each(notHex64)("refuses a proof that is %s", (_, proof) => {
      assert.isTrue(Result.isFailure(Handshake.decodeAuth({ ...auth, proof })))
    })

    it("leaves a malformed proof of the sender for the server to judge", () => {
      assert.isTrue(Result.isSuccess(Handshake.decodeAuth({ ...auth, fromProof: "?" })))
    })
  })
})

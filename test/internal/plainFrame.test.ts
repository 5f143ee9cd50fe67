import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { encodeFrame } from "../../src/Framing.ts"
import { plainFrame } from "../../src/internal/plainFrame.ts"
import { defaults } from "../../src/Limits.ts"
import type { Message } from "../../src/Message.ts"
import { makeRandom, sized } from "../utils/effort.ts"

const general = (message: Message, messageId: string, own: string | undefined) =>
  Result.getOrUndefined(encodeFrame(message, defaults, { messageId }, own))

describe("plainFrame", () => {
  it("makes the frame that the general way makes, of any text", () => {
    const next = makeRandom()
    const below = (n: number) => Math.floor(next() * n)
    const characters = [..."aZ0 \"\\/\n\r\t\b\f\u0000\u001f\u007f\u2028é€😀", "\ud800", "\udc00"]
    const text = () => Array.from({ length: below(8) }, () => characters[below(characters.length)]).join("")
    for (let i = 0; i < sized(5_000, 500_000); i++) {
      const type = (["text", "notification", "query", "response", "error", "ping", "pong"] as const)[below(7)] ?? "text"
      const message: Message = below(3) === 0 ? { type, data: text(), from: text() } : { type, data: text() }
      const own = below(2) === 0 ? undefined : `/run/${text()}`
      const frame = plainFrame(message, "0123-1", own)
      const expected = general(message, "0123-1", own) ?? ""
      assert.deepStrictEqual(frame, { text: expected, bytes: Buffer.byteLength(expected) })
    }
  })

  it("leaves whatever else there is, or is wrong, to the general way", () => {
    const throwing = {
      type: "text",
      get data(): string {
        throw new Error("secret")
      }
    }
    const rest: ReadonlyArray<unknown> = [
      { type: "ping" },
      { type: "text", data: "a", ts: "2026" },
      { type: "text", data: "a", meta: {} },
      { type: "shout", data: "a" },
      { type: "text", data: 1 },
      { type: "text", data: "a", from: 1 },
      { type: "text", data: "a", meta: null },
      throwing,
      undefined,
      null
    ]
    for (const message of rest) assert.isUndefined(plainFrame(message as Message, "0123-1", "/own"))
  })
})

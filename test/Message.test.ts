import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Message from "../src/Message.ts"

describe("Message", () => {
  it("makes each kind of message, without keys that were not given", () => {
    assert.deepStrictEqual(Message.text("a"), { type: "text", data: "a" })
    assert.deepStrictEqual(Message.notification("a", { ts: "2026-01-01T00:00:00.000Z" }), {
      type: "notification",
      data: "a",
      ts: "2026-01-01T00:00:00.000Z"
    })
    assert.deepStrictEqual(Message.query("a", { meta: { b: 1 }, from: "/c" }), {
      type: "query",
      data: "a",
      from: "/c",
      meta: { b: 1 }
    })
  })

  it.each(["text", "notification", "query", "response", "error", "ping", "pong"])("knows the type %s", (type) => {
    assert.isTrue(Result.isSuccess(Message.decodeResult({ type })))
  })

  it("takes the token out before an application sees the message, and an empty meta with it", () => {
    assert.deepStrictEqual(Message.withoutToken({ type: "text", meta: { authToken: "t" } }), { type: "text" })
    assert.deepStrictEqual(Message.withoutToken({ type: "text", meta: { authToken: "t", a: 1 } }), {
      type: "text",
      meta: { a: 1 }
    })
    assert.deepStrictEqual(Message.withoutToken({ type: "text" }), { type: "text" })
  })

  it.each([
    ["{}", undefined],
    ["{\"meta\":null}", undefined],
    ["{\"meta\":\"authToken\"}", undefined],
    ["{\"meta\":{}}", undefined],
    ["{\"meta\":{\"authToken\":1}}", undefined],
    ["{\"meta\":{\"authToken\":[\"t\"]}}", undefined],
    ["{\"meta\":{\"__proto__\":{\"authToken\":\"t\"}}}", undefined],
    ["{\"__proto__\":{\"meta\":{\"authToken\":\"t\"}}}", undefined],
    ["{\"meta\":{\"authToken\":\"t\"}}", "t"]
  ])("finds in %s only a token of its own: %s", (json, token) => {
    assert.strictEqual(Message.tokenOf(JSON.parse(json)), token)
  })

  it("escapes what it puts into replies", () => {
    const pong = Message.replies.pong("/a\"\n", "t")
    assert.strictEqual(pong.indexOf("\n"), pong.length - 1)
    assert.strictEqual(JSON.parse(pong).from, "/a\"\n")
  })
})

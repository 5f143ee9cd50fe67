import { assert, describe, it } from "@effect/vitest"
import { Duration, Option, Redacted } from "effect"
import { refusal } from "../../src/internal/refusal.ts"
import { HandlerFailed, InboxFull, MessagingError, Rejected, Unauthorized } from "../../src/MessagingError.ts"

const token = "0123456789abcdef".repeat(4)
const socketPath = "/run/memory/messaging.sock"
const read = (text: string, meta: Record<string, unknown> = {}, maxRemoteErrorBytes = 256) =>
  refusal({ socketPath, token: Redacted.make(token) }, text, meta, { maxRemoteErrorBytes })
const full = (retryAfter: Option.Option<Duration.Duration>) => new InboxFull({ socketPath, retryAfter })

describe("refusal", () => {
  const cases: ReadonlyArray<readonly [text: string, meta: Record<string, unknown>, MessagingError["reason"]]> = [
    ["unauthorized", {}, new Unauthorized({ socketPath })],
    ["failed", { messageId: "a" }, new HandlerFailed({ socketPath })],
    ["failed", { inReplyTo: "a" }, new HandlerFailed({ socketPath })],
    ["failed", {}, new Rejected({ socketPath, text: "failed" })],
    ["inbox full", {}, full(Option.none())],
    ["inbox full", { retryAfter: 100 }, full(Option.some(Duration.millis(100)))],
    ["inbox full", { retryAfter: 0 }, full(Option.some(Duration.zero))],
    ["inbox full", { retryAfter: 0.5 }, full(Option.some(Duration.millis(0.5)))],
    ["inbox full", { retryAfter: -1 }, full(Option.none())],
    ["inbox full", { retryAfter: Number.NaN }, full(Option.none())],
    ["inbox full", { retryAfter: Infinity }, full(Option.none())],
    ["inbox full", { retryAfter: "100" }, full(Option.none())],
    ["inbox full", { retryAfter: null }, full(Option.none())],
    ["inbox full", { retryAfter: [100] }, full(Option.none())],
    ["invalid frame", {}, new Rejected({ socketPath, text: "invalid frame" })],
    ["", {}, new Rejected({ socketPath, text: "" })],
    [`no ${token}, ${token}`, {}, new Rejected({ socketPath, text: "no <redacted>, <redacted>" })],
    ["Inbox full", { retryAfter: 100 }, new Rejected({ socketPath, text: "Inbox full" })],
    ["constructor", {}, new Rejected({ socketPath, text: "constructor" })]
  ]
  it.each(cases)("reads %j with %j", (text, meta, reason) => {
    assert.deepStrictEqual(read(text, meta), new MessagingError({ reason }))
  })

  it("makes other text safe to show, and no longer than the limit", () => {
    assert.deepStrictEqual(
      read("\u001b[31mno\u202e", {}, 10),
      new MessagingError({ reason: new Rejected({ socketPath, text: "\\u{1b}[…" }) })
    )
  })
})

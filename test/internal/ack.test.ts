import { assert, describe, it } from "@effect/vitest"
import * as Framing from "../../src/Framing.ts"
import * as acks from "../../src/internal/ack.ts"
import * as messageIds from "../../src/internal/messageIds.ts"
import { defaults } from "../../src/Limits.ts"
import * as Message from "../../src/Message.ts"
import { makeRandom, sized } from "../utils/effort.ts"

const ids = messageIds.make()
const ts = "2026-01-02T03:04:05.678Z"
const line = (entry: number, ordinal: number, duplicate = false) =>
  Message.replies2.ack(`uds-${entry}`, ids.of(ordinal), duplicate, ts).slice(0, -1)

/** What the general reading makes of a line: the ack of a request of this client, or nothing of the kind. */
const general = (text: string) => {
  const frames: Array<Framing.Frame> = []
  Framing.makeDecoder(defaults).push(Buffer.from(`${text}\n`), frames)
  const reply = frames.length === 1 && frames[0] !== undefined ? Message.fromJson(frames[0].value) : undefined
  const { id, inReplyTo, messageId } = reply?.meta ?? {}
  if (reply?.type !== "response" || typeof id !== "string" || typeof messageId !== "string") return undefined
  if (inReplyTo !== undefined) return undefined
  const ordinal = ids.ordinalOf(messageId)
  return ordinal === undefined ? undefined : { id, ordinal, data: reply.data }
}

/** Reads a line wherever it stands, and nothing of its neighbours. */
const read = (text: string) => {
  const [before, after] = [`${line(1, 2)}\n`, `\n${line(3, 4)}`]
  const alone = acks.read(text, 0, text.length, ids.ordinalOf)
  const among = acks.read(`${before}${text}${after}`, before.length, before.length + text.length, ids.ordinalOf)
  assert.deepStrictEqual(among, alone, text)
  return alone
}

describe("ack.read", () => {
  it("reads the ack of this library's server", () => {
    for (const [entry, ordinal] of [[1, 1], [9, 10], [123_456_789, 987_654_321], [0, 999_999_999_999_999]] as const) {
      assert.deepStrictEqual(read(line(entry, ordinal)), new acks.Ack(ordinal, `uds-${entry}`))
    }
  })

  it("leaves what is anything else to the general reading", () => {
    const [good, other] = [line(12, 34), messageIds.make()]
    for (
      const text of [
        "",
        "{}",
        line(12, 34, true),
        good.replace("uds-12", "uds-012"),
        good.replace("uds-12", "uds-"),
        good.replace("uds-12", "uds-1234567890123456"),
        good.replace("uds-12", "uds-1e3"),
        good.replace("2026", "\\u002"),
        good.replace("2026", "20\"6"),
        good.replace("2026", "20\u00006"),
        good.replace(ids.of(34), other.of(34)),
        good.replace(ids.of(34), `${ids.of(34)}a`),
        good.replace(ids.of(34), ids.of(34).replace("-34", "-034")),
        ` ${good}`,
        `${good} `,
        `${good}}`,
        good.slice(1),
        good.slice(0, -1)
      ]
    ) assert.isUndefined(read(text), text)
  })

  it("reads whatever it reads as the general way does, however an ack is damaged", () => {
    const next = makeRandom()
    const below = (n: number) => Math.floor(next() * n)
    const runs = sized(20_000, 1_000_000)
    const characters = [..."0123456789\"\\{}[]:,-uds aZ\u0000\u007fé\ud800"]
    let count = 0
    for (let i = 0; i < runs; i++) {
      let text = line(below(2_000), below(2_000), below(10) === 0)
      for (let edits = below(3); edits > 0; edits--) {
        const at = below(text.length + 1)
        const inserted = below(3) === 0 ? "" : characters[below(characters.length)]
        text = text.slice(0, at) + inserted + text.slice(at + below(3))
      }
      const ack = read(text)
      if (ack === undefined) continue
      count++
      assert.deepStrictEqual({ id: ack.id, ordinal: ack.ordinal, data: "ok" }, general(text), text)
    }
    assert.isAbove(count, runs / 10)
  })
})

describe("messageIds", () => {
  it("finds the number of each of its ids, wherever it stands", () => {
    for (const ordinal of [1, 10, 4_294_967_296]) {
      assert.isTrue(Message.isMessageId(ids.of(ordinal)))
      assert.strictEqual(ids.ordinalOf(ids.of(ordinal)), ordinal)
      assert.strictEqual(ids.ordinalOf(`<${ids.of(ordinal)}>`, 1, ids.of(ordinal).length + 1), ordinal)
    }
  })

  it("finds none in another's id, or in a text that no number is written as", () => {
    const stem = ids.of(0).slice(0, -1)
    const texts = [messageIds.make().of(1), "", stem, `${stem}01`, `${stem}-1`, `${stem}1.0`, `${stem}1e1`, ` ${stem}1`]
    for (const text of [...texts, `${stem}1234567890123456`]) assert.isUndefined(ids.ordinalOf(text), text)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Option, Redacted } from "effect"
import { Buffer } from "node:buffer"
import * as records from "../../src/internal/capabilityRecord.ts"

const token = "0123456789abcdef".repeat(4)
const bare: records.CapabilityRecord = {
  socketPath: "/run/a.sock",
  token: Redacted.make(token),
  protocol: 2,
  pid: Option.none(),
  startedAt: Option.none(),
  name: Option.none(),
  cwd: Option.none()
}
const full: records.CapabilityRecord = {
  ...bare,
  pid: Option.some(42),
  startedAt: Option.some(DateTime.makeUnsafe(0)),
  name: Option.some("build"),
  cwd: Option.some("/work")
}
const open = (record: records.CapabilityRecord) => ({ ...record, token: Redacted.value(record.token) })
const textOf = (record: records.CapabilityRecord) => Effect.map(records.encode(record, 4_096), String)

describe("capabilityRecord", () => {
  it.effect("writes what the record tells, in order, and nothing for what it does not", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* textOf(full),
        `{"socketPath":"/run/a.sock","authToken":"${token}","protocol":2,"pid":42,` +
          "\"startedAt\":\"1970-01-01T00:00:00.000Z\",\"name\":\"build\",\"cwd\":\"/work\"}"
      )
      assert.strictEqual(yield* textOf(bare), `{"socketPath":"/run/a.sock","authToken":"${token}","protocol":2}`)
    }))

  it.effect.each([bare, full])("reads back what it has written", (record) =>
    Effect.gen(function*() {
      const read = records.decode(yield* textOf(record))
      assert.deepStrictEqual(Option.map(read, open), Option.some(open(record)))
    }))

  it.effect("takes as many bytes as a reader does, and no more", () =>
    Effect.gen(function*() {
      const named = { ...full, name: Option.some("ä") }
      const bytes = Buffer.byteLength(yield* textOf(named))
      assert.strictEqual((yield* records.encode(named, bytes)).length, bytes)
      assert.deepStrictEqual(
        yield* Effect.flip(records.encode(named, bytes - 1)),
        new records.CapabilityTooLarge({ bytes, maxBytes: bytes - 1 })
      )
    }))

  it.each([
    "",
    "null",
    "{}",
    `{"socketPath":"/a"}`,
    `{"socketPath":1,"authToken":"${token}"}`,
    `{"socketPath":"/a","authToken":"${token.slice(1)}"}`,
    `{"socketPath":"/a","authToken":"${token}0"}`,
    `{"socketPath":"/a","authToken":"${token.toUpperCase()}"}`,
    `{"socketPath":"/a","authToken":"${token}","protocol":"2"}`,
    `{"socketPath":"/a","authToken":"${token}","pid":1.5}`,
    `{"socketPath":"/a","authToken":"${token}"`
  ])("takes %j for no capability", (text) => {
    assert.isTrue(Option.isNone(records.decode(text)))
  })

  it("reads a file without a protocol as protocol 1, and without a date where it is none", () => {
    const read = records.decode(`{"socketPath":"/run/a.sock","authToken":"${token}","startedAt":"soon"}`)
    assert.deepStrictEqual(Option.map(read, open), Option.some(open({ ...bare, protocol: 1 })))
  })

  it.effect("holds its own token only", () =>
    Effect.gen(function*() {
      assert.isTrue(records.holds(bare)(yield* textOf(full)))
      const other = { ...bare, token: Redacted.make("f".repeat(64)) }
      assert.isFalse(records.holds(bare)(yield* textOf(other)))
      assert.isFalse(records.holds(bare)("{}"))
    }))

  it.each([["", false], [token, true], [token.slice(1), false], [`${token}0`, false], [`0${token.slice(1)}`, true]])(
    "compares the whole token: %s",
    (given, same) => {
      assert.strictEqual(records.matches(bare.token, given), same)
      assert.isFalse(records.matches(bare.token, `1${given.slice(1)}`))
    }
  )

  it("makes a record of what it is told, with a token of its own", () => {
    const made = records.newRecord("/a", 7, "/work", "build", 0)
    const { token, ...rest } = open(made)
    assert.match(token, /^[0-9a-f]{64}$/)
    assert.notStrictEqual(Redacted.value(records.newRecord("/a", 7, "/work", "build", 0).token), token)
    assert.deepStrictEqual(rest, {
      socketPath: "/a",
      protocol: 2,
      pid: Option.some(7),
      startedAt: Option.some(DateTime.makeUnsafe(0)),
      name: Option.some("build"),
      cwd: Option.some("/work")
    })
    const silent = records.newRecord("/a", 7, "", undefined, 0)
    assert.deepStrictEqual([silent.name, silent.cwd], [Option.none(), Option.none()])
  })

  it("tells what to do about each failure", () => {
    assert.strictEqual(
      new records.CapabilityRefused({ path: "/c.json", problem: "a link" }).message,
      "capability file /c.json is refused (a link): remove it, and restart the endpoint it names"
    )
    assert.strictEqual(
      new records.CapabilityTooLarge({ bytes: 5, maxBytes: 4 }).message,
      "a capability file of 5 bytes exceeds the limit of 4: choose a shorter name"
    )
    const reason = new records.CapabilityNotFound({ socketPath: "/a" })
    assert.strictEqual(new records.CapabilityError({ reason }).message, "no capability for /a")
  })
})

import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Redacted } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import * as Capability from "../src/Capability.ts"
import { withTempHost } from "./utils/tempHost.ts"

const socketPath = "/run/peer.sock"
const token = "0123456789abcdef".repeat(4)

/** Every usual way in which a value ends up in a log. */
const shown = (value: unknown) =>
  [
    inspect(value, { depth: Number.POSITIVE_INFINITY, showHidden: true }),
    JSON.stringify(value),
    String(value),
    value instanceof Error ? `${value.message}\n${value.stack}\n${inspect(value.cause)}` : ""
  ].join("\n")

describe("Capability", () => {
  describe("matches", () => {
    const cases: ReadonlyArray<{ readonly name: string; readonly given: string; readonly answer: boolean }> = [
      { name: "the same token", given: token, answer: true },
      { name: "another token", given: `1${token.slice(1)}`, answer: false },
      { name: "a token that differs in its last digit", given: `${token.slice(0, -1)}0`, answer: false },
      { name: "its beginning", given: token.slice(0, -1), answer: false },
      { name: "more than it", given: `${token}0`, answer: false },
      { name: "nothing", given: "", answer: false },
      { name: "it in upper case", given: token.toUpperCase(), answer: false },
      { name: "as many characters in more bytes", given: "é".repeat(64), answer: false },
      { name: "as many bytes in fewer characters", given: "é".repeat(32), answer: false },
      { name: "a character whose low byte is that of the token", given: `\u0130${token.slice(1)}`, answer: false }
    ]
    it.each(cases)("answers $answer for $name", ({ answer, given }) => {
      assert.strictEqual(Capability.matches(Redacted.make(token), given), answer)
    })
  })

  describe("secrets", () => {
    it.effect("keeps the token out of a published record", () =>
      withTempHost(Effect.fnUntraced(function*() {
        const capability = yield* Capability.make
        const record = yield* capability.publish(socketPath)
        assert.notInclude(shown(record), Redacted.value(record.token))
      })).pipe(Effect.provide(NodeFileSystem.layer)))

    it.effect("keeps the token out of records that were read", () =>
      withTempHost(Effect.fnUntraced(function*() {
        const capability = yield* Capability.make
        const { token } = yield* capability.publish(socketPath)
        assert.notInclude(shown(yield* capability.lookup(socketPath)), Redacted.value(token))
        assert.notInclude(shown(yield* capability.list), Redacted.value(token))
      })).pipe(Effect.provide(NodeFileSystem.layer)))

    const json = JSON.stringify({ socketPath, authToken: token })
    const files = [
      { name: "open to others", text: json, mode: 0o640 },
      { name: "cut", text: json.slice(0, -1), mode: 0o600 },
      { name: "with a token that is too long", text: json.replace(token, `${token}0`), mode: 0o600 },
      { name: "with a token in an array", text: json.replace(`"${token}"`, `["${token}"]`), mode: 0o600 },
      { name: "with a bad pid", text: json.replace("}", `,"pid":"${token}"}`), mode: 0o600 },
      { name: "too large", text: json.padEnd(5000), mode: 0o600 },
      { name: "for another path", text: json.replace("peer", "other"), mode: 0o600 }
    ]
    it.effect.each(files)(
      "keeps the token out of the refusal of a file $name",
      ({ mode, text }) =>
        withTempHost(Effect.fnUntraced(function*(host) {
          const directory = path.join(host.homedir, ".claude", "messaging-capabilities")
          fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
          const file = path.join(directory, Capability.fileName(socketPath))
          fs.writeFileSync(file, text)
          fs.chmodSync(file, mode)
          const capability = yield* Capability.make
          const cause = yield* Effect.flip(Effect.sandbox(capability.lookup(socketPath)))
          assert.notInclude(shown(cause), token)
          assert.notInclude(Cause.pretty(cause), token)
          assert.notInclude(shown(Cause.squash(cause)), token)
        })).pipe(Effect.provide(NodeFileSystem.layer))
    )

    it.effect("keeps the token out of the error of a failed publication", () =>
      withTempHost(Effect.fnUntraced(function*(host) {
        const directory = path.join(host.homedir, ".claude", "messaging-capabilities")
        fs.mkdirSync(path.join(directory, Capability.fileName(socketPath)), { recursive: true, mode: 0o700 })
        const capability = yield* Capability.make
        const cause = yield* Effect.flip(Effect.sandbox(capability.publish(socketPath)))
        // The token is not known here; it would be the only text of 64 hex digits that is not the file's name.
        const others = (shown(cause) + shown(Cause.squash(cause)))
          .replaceAll(Capability.fileName(socketPath), "")
          .match(/[0-9a-f]{64}/)
        assert.isNull(others)
      })).pipe(Effect.provide(NodeFileSystem.layer)))

    it.effect("shows nothing of the token when a record is encoded as text", () =>
      withTempHost(Effect.fnUntraced(function*() {
        const capability = yield* Capability.make
        const { token } = yield* capability.publish(socketPath)
        assert.strictEqual(`${token} ${JSON.stringify(token)}`, `<redacted> "<redacted>"`)
      })).pipe(Effect.provide(NodeFileSystem.layer)))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Namespace from "../src/Namespace.ts"

describe("Namespace", () => {
  it.effect("is the one of protocol 1 by default", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Namespace.Namespace, {
        namespace: "claude-code",
        environmentVariable: "CLAUDE_CODE_MESSAGING_SOCKET",
        configVariable: "CLAUDE_CONFIG_DIR",
        configDirectory: ".claude"
      })
    }))

  it.effect("derives every name from another namespace", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Namespace.Namespace, {
        namespace: "acme-ci",
        environmentVariable: "ACME_CI_MESSAGING_SOCKET",
        configVariable: "ACME_CI_CONFIG_DIR",
        configDirectory: ".acme-ci"
      })
    }).pipe(Effect.provide(Namespace.layer("acme-ci"))))

  it.effect.each(["", "Acme", "../x", "a/b", "1a", "x".repeat(33), "a_b"])(
    "refuses %j",
    (namespace) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Namespace.make(namespace))
        assert.deepStrictEqual(error, new Namespace.InvalidNamespace({ namespace }))
        assert.include(error.message, JSON.stringify(namespace))
      })
  )
})

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import * as Limits from "../src/Limits.ts"

describe("Limits", () => {
  it.effect("has the numbers of PROTOCOL.md as defaults", () =>
    Effect.gen(function*() {
      const limits = yield* Limits.Limits
      assert.deepInclude(limits, {
        maxFrameBytes: 65_536,
        maxInboxEntries: 1_000,
        maxInboxBytes: 2_097_152,
        maxPeers: 128,
        maxCapabilityBytes: 4_096,
        maxJsonDepth: 64,
        maxRemoteErrorBytes: 256,
        maxUnreadBytes: 1_048_576
      })
      assert.deepStrictEqual(
        [limits.authenticationTimeout, limits.idleTimeout, limits.sendTimeout, limits.probeTimeout].map(
          Duration.toMillis
        ),
        [2_000, 30_000, 5_000, 3_000]
      )
    }))

  it.effect("replaces what is given and keeps the rest", () =>
    Effect.gen(function*() {
      const limits = yield* Limits.Limits
      assert.strictEqual(limits.maxPeers, 3)
      assert.strictEqual(Duration.toMillis(limits.idleTimeout), 60_000)
      assert.strictEqual(limits.maxInboxEntries, 1_000)
    }).pipe(Effect.provide(Limits.layer({ maxPeers: 3, idleTimeout: "1 minute", maxInboxEntries: undefined }))))

  it.effect.each([
    { options: { maxPeers: -1 }, field: "maxPeers", value: "-1", rule: "at least 1" },
    { options: { maxPeers: 0 }, field: "maxPeers", value: "0", rule: "at least 1" },
    { options: { maxPeers: 1.5 }, field: "maxPeers", value: "1.5", rule: "whole number" },
    { options: { maxFrameBytes: Number.NaN }, field: "maxFrameBytes", value: "NaN", rule: "whole number" },
    {
      // What a caller without types, or a configuration file, can pass.
      options: { maxFrameBytes: "many" as unknown as number },
      field: "maxFrameBytes",
      value: "many",
      rule: "whole number"
    },
    { options: { maxInboxEntries: Infinity }, field: "maxInboxEntries", value: "Infinity", rule: "whole number" },
    { options: { sendTimeout: 0 }, field: "sendTimeout", value: "0", rule: "longer than zero" },
    { options: { sendTimeout: -5 }, field: "sendTimeout", value: "-5", rule: "longer than zero" },
    { options: { sendTimeout: Number.NaN }, field: "sendTimeout", value: "NaN", rule: "longer than zero" },
    { options: { sendTimeout: "soon" as "1 second" }, field: "sendTimeout", value: "soon", rule: "duration" },
    {
      options: { idleTimeout: "1 second" as const },
      field: "idleTimeout",
      value: "1s",
      rule: "authenticationTimeout, which is 2s"
    },
    {
      options: { maxFrameBytes: 3_000_000 },
      field: "maxInboxBytes",
      value: "2097152",
      rule: "maxFrameBytes, which is 3000000"
    },
    { options: { maxFriends: 3 } as {}, field: "maxFriends", value: "3", rule: "the limits are" }
  ])("refuses $options, naming field, value and rule", ({ field, options, rule, value }) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Limits.make(options))
      assert.strictEqual(error._tag, "InvalidLimit")
      assert.strictEqual(error.field, field)
      assert.strictEqual(error.value, value)
      assert.include(error.rule, rule)
    }))
})

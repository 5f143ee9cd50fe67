import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as Command from "effect/cli/Command"
import { run } from "../../src/cli/command.ts"
import { type PlainSend, read } from "../../src/cli/plainSend.ts"
import { send } from "../../src/cli/send.ts"
import { makeRandom, sized } from "../utils/effort.ts"

/** What the parser of the command line makes of the arguments: what `send` is then run with, or nothing. */
const parsed = Effect.fnUntraced(function*(args: ReadonlyArray<string>) {
  const seen: Array<unknown> = []
  const watched = Command.withHandler(send, (config) => Effect.sync(() => void seen.push(config)))
  yield* Effect.exit(run(args, watched))
  return seen
}, Effect.provide(NodeServices.layer))

const asParsed = ({ json, text, to }: PlainSend) => ({
  to: Option.fromUndefinedOr(to),
  type: "text",
  until: Option.none(),
  timeout: Option.none(),
  lines: false,
  json,
  text: Option.some(text)
})

const flags = ["--to", "--to=x", "--json", "--json=false", "--no-json", "--lines", "--type", "-", "--", "-j", "--help"]
const values = [
  "",
  " ",
  "a b",
  "a=b",
  "true",
  "False",
  "no",
  "1",
  "ON",
  "query",
  "send",
  "listen",
  "text",
  "@x",
  "ü",
  "\\",
  "'"
]

describe("plainSend", () => {
  const runs = sized(2_000, 20_000)

  it.effect(`reads ${runs} command lines as the parser does, or leaves them to it`, () =>
    Effect.gen(function*() {
      const random = makeRandom()
      const pick = (from: ReadonlyArray<string>) => from[Math.floor(random() * from.length)] ?? ""
      let plain = 0
      for (let n = 0; n < runs; n++) {
        const length = 1 + Math.floor(random() * 5)
        const args = [
          "send",
          ...Array.from({ length }, () => random() < 0.5 ? pick(values) : pick(flags.slice(0, 3 + n % 9)))
        ]
        const own = read(args)
        if (own === undefined) continue
        plain++
        assert.deepStrictEqual(yield* parsed(args), [asParsed(own)], JSON.stringify(args))
      }
      assert.isAbove(plain, runs / 20)
    }))

  it.each([
    { args: ["send", "hello"], plain: { to: undefined, json: false, text: "hello" } },
    {
      args: ["send", "--to", "build", "--json", "tests passed"],
      plain: { to: "build", json: true, text: "tests passed" }
    },
    { args: ["send", "hello", "--to", "/a.sock"], plain: { to: "/a.sock", json: false, text: "hello" } }
  ])("reads $args", ({ args, plain }) => {
    assert.deepStrictEqual(read(args), plain)
  })

  it.each([
    [[]],
    [["ping", "x"]],
    [["send"]],
    [["send", "-"]],
    [["send", ""]],
    [["send", "--help"]],
    [["send", "a", "b"]],
    [["send", "--to", "x"]],
    [["send", "--to", "x", "--to", "y", "a"]],
    [["send", "--lines", "a"]],
    [["send", "--json", "true"]],
    [["send", "--", "a"]]
  ])("leaves %j to the parser", (args) => {
    assert.isUndefined(read(args))
  })
})

import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Layers from "../Layers.ts"
import * as Messaging from "../Messaging.ts"
import * as flags from "./flags.ts"
import { textOf } from "./input.ts"
import { shownLines, target } from "./output.ts"
import { printLine, Stdout } from "./stdout.ts"

export const ask = Command.make("ask", {
  to: flags.to,
  timeout: flags.timeout,
  json: flags.json,
  text: flags.text.pipe(Argument.withDescription("The question, or - for standard input"))
}, ({ json, text, timeout, to }) =>
  Effect.gen(function*() {
    const address = yield* target(to)
    const question = yield* textOf(text)
    const messaging = yield* Messaging.Messaging
    const { isTerminal } = yield* Stdout
    const data = yield* messaging.ask(address, question, { timeout: Option.getOrUndefined(timeout) })
    // A program gets the answer as it is.
    yield* printLine(
      json ? JSON.stringify({ event: "reply", to: address, data }) : isTerminal ? shownLines(data) : data
    )
  }).pipe(Effect.provide(Layers.layerClient()))).pipe(
    Command.withDescription("Ask a peer, and print its answer"),
    Command.withExamples([
      { command: "effect-messaging ask --to build \"how far are you?\"", description: "Ask a peer by its name" },
      {
        command: "effect-messaging ask --timeout 1m - < question.txt",
        description: "Ask the parent of this process what is on standard input"
      }
    ])
  )

import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Capability from "../Capability.ts"
import * as NodeTransport from "../NodeTransport.ts"
import * as checks from "./checks.ts"
import type { Finding } from "./diagnosis.ts"
import * as flags from "./flags.ts"
import { complain, Ended, shownLines } from "./output.ts"
import { type Paint, paint, printLines, Stdout, truncateMiddle } from "./stdout.ts"

const plain = ({ check, problem, remedy, text }: Finding) =>
  JSON.stringify({
    event: "check",
    check,
    ok: problem === undefined,
    problem: problem ?? null,
    text,
    remedy: remedy ?? null
  })

/** A command over several lines, which a shell reads as one: where it is cut, a backslash says so. */
const cut = (command: string, width: number): string =>
  command.length <= width
    ? command
    : `${command.slice(0, width - 1)}\\\n${cut(command.slice(width - 1), width)}`

const describe = ({ check, problem, remedy, text }: Finding, paint: Paint, columns: number): string => {
  const mark = problem === undefined ? paint("green", "ok   ") : paint("red", "fault")
  const label = `${check}: ${problem === undefined ? "" : `${problem}: `}`
  const line = `${mark}  ${label}${truncateMiddle(shownLines(text), columns - 7 - label.length)}`
  return remedy === undefined ? line : `${line}\n${paint("cyan", cut(shownLines(remedy), columns))}`
}

export const doctor = Command.make("doctor", { json: flags.json }, ({ json }) =>
  Effect.gen(function*() {
    const { columns, isTerminal } = yield* Stdout
    const colours = yield* paint
    const width = isTerminal ? columns() : Number.POSITIVE_INFINITY
    let faults = 0
    for (const check of yield* checks.make) {
      const findings = yield* check
      faults += findings.filter(({ problem }) => problem !== undefined).length
      yield* printLines(findings.map((finding) => json ? plain(finding) : describe(finding, colours, width)))
    }
    if (faults === 0) return
    yield* complain(`${faults === 1 ? "one fault" : `${faults} faults`}, told with the command that mends each`)
    return yield* new Ended({ code: 1 })
  }).pipe(Effect.provide(Layer.mergeAll(Capability.layer, NodeTransport.layer)))).pipe(
    Command.withDescription("Say what keeps messages from arriving here, and the command that mends it"),
    Command.withExamples([
      {
        command: "effect-messaging doctor",
        description: "Checks in the order in which a message would meet the faults"
      }
    ])
  )

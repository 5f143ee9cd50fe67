/** Help and mistakes as they are shown: no line of help is wider than `maxColumns`. */
import * as CliOutput from "effect/cli/CliOutput"
import type * as HelpDoc from "effect/cli/HelpDoc"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { complain } from "./output.ts"
import { maxColumns } from "./stdout.ts"

/** The choices once, and not in the column of names as well. */
const narrow = (flag: HelpDoc.FlagDoc): HelpDoc.FlagDoc =>
  flag.name === "completions"
    ? { ...flag, type: "SHELL" }
    : flag.name === "log-level"
    ? { ...flag, type: "LEVEL" }
    : flag

/** Continues what does not fit below where its column begins: after the last gap of two spaces. */
const wrap = (line: string): ReadonlyArray<string> => {
  if (CliOutput.displayWidth(line) <= maxColumns) return [line]
  const indent = /^ *(?:\S+(?: \S+)*? {2,})?/.exec(line)?.[0].length ?? 0
  const lines: Array<string> = []
  let current = line.slice(0, indent)
  for (const word of line.slice(indent).split(" ")) {
    const longer = current.trim() === "" || current.length === indent ? `${current}${word}` : `${current} ${word}`
    if (CliOutput.displayWidth(longer) > maxColumns && current.trim() !== "") {
      lines.push(current)
      current = `${" ".repeat(indent)}${word}`
    } else {
      current = longer
    }
  }
  return [...lines, current]
}

const layerFormatter = Layer.sync(CliOutput.Formatter, () => {
  const formatter = CliOutput.defaultFormatter({ globalFlags: "summary" })
  // Colours have a width of their own; wide lines are found, and cut, without them.
  const plain = CliOutput.defaultFormatter({ globalFlags: "summary", colors: false })
  return {
    ...formatter,
    formatHelpDoc: (doc) => {
      const narrowed = { ...doc, globalFlags: (doc.globalFlags ?? []).map(narrow) }
      const lines = plain.formatHelpDoc(narrowed).split("\n")
      const coloured = formatter.formatHelpDoc(narrowed).split("\n")
      return lines.flatMap((line, at) =>
        CliOutput.displayWidth(line) <= maxColumns ? [coloured[at] ?? line] : wrap(line)
      ).join("\n")
    }
  }
})

/** Help goes to standard output when asked for; a mistake gets one line each on standard error instead. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.forEach(
        event.errors,
        (error) => complain(`${error.message} (see ${event.commandPath.join(" ")} --help)`),
        { discard: true }
      )
      : CliOutput.defaultPresenter.present(event)
}

export const layer = Layer.merge(layerFormatter, CliOutput.layerPresenter(presenter))

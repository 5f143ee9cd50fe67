/**
 * Standard output, written whole and in order. A write ends when the system has taken it, so that whoever waits for it
 * keeps no more in memory than one text, however slow the reader is.
 */
import * as CliOutput from "effect/cli/CliOutput"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { fstatSync } from "node:fs"
import * as net from "node:net"
import { errnoOf } from "../internal/fileFailed.ts"
import * as pipeReader from "./pipeReader.ts"

/** The reader has gone away: that is how `| head` says it has seen enough. */
export class OutputClosed extends Data.TaggedError("OutputClosed") {}

export class OutputFailed extends Data.TaggedError("OutputFailed")<{ readonly code: string }> {
  override get message() {
    return `cannot write to standard output: ${this.code}`
  }
}

export type OutputError = OutputClosed | OutputFailed

export interface StandardOutput {
  readonly write: (text: string) => Effect.Effect<void, OutputError>
  /** Fails when the reader has gone, where the system tells without being written to: of sockets, and on Linux of pipes. */
  readonly closed: Effect.Effect<never, OutputClosed>
  readonly isTerminal: boolean
  /** Cells in a line of the terminal, at most `maxColumns`. */
  readonly columns: () => number
}

/** Nothing is wider, on whatever terminal. */
export const maxColumns = 100

const isClosed = (code: string) => code === "EPIPE" || code === "ECONNRESET" || code === "ERR_STREAM_DESTROYED"

const factsOf = (fd: number) => {
  try {
    return fstatSync(fd)
  } catch {
    return undefined
  }
}
const isSocket = (fd: number) => factsOf(fd)?.isSocket() === true
const isPipe = (fd: number) => process.platform === "linux" && factsOf(fd)?.isFIFO() === true

/** Whether what arrives there is meant for standard input. */
const isStandardInput = (fd: number) => isSocket(0) && fstatSync(0).ino === fstatSync(fd).ino

const open = (): StandardOutput => {
  // Opened by Node before the socket is: a descriptor that is polled already cannot be opened once more.
  const isTerminal = process.stdout.isTTY === true
  const socket = isSocket(1) ? new net.Socket({ fd: 1, readable: true, writable: true }) : undefined
  // Reading it must not keep the process; a write does until it is done.
  socket?.unref()
  const stream = socket ?? process.stdout
  // Told by the write that failed as well.
  stream.on("error", () => {})
  let written = 0
  const hasWritten = () => {
    const some = written > 0
    written = 0
    return some
  }
  const onClosed = Effect.fail(new OutputClosed())
  return {
    write: (text) =>
      Effect.callback<void, OutputError>((resume) => {
        stream.write(text, (error) => {
          written++
          if (error === null || error === undefined) return resume(Effect.void)
          const code = errnoOf(error)
          resume(Effect.fail(isClosed(code) ? new OutputClosed() : new OutputFailed({ code })))
        })
      }),
    closed: isPipe(1) ? Effect.andThen(pipeReader.gone(hasWritten), onClosed) : Effect.callback((resume) => {
      if (socket === undefined || isStandardInput(1)) return
      for (const event of ["end", "close"]) socket.once(event, () => resume(onClosed))
      socket.resume()
    }),
    isTerminal,
    columns: () => Math.min(process.stdout.columns || 80, maxColumns)
  }
}

/** That of this process, opened when it is first needed. */
export class Stdout extends Context.Reference<StandardOutput>("effect-messaging/cli/Stdout", {
  defaultValue: open
}) {}

const write = (text: string) => Effect.flatMap(Stdout, (stdout) => stdout.write(text))

export const printLines = (lines: ReadonlyArray<string>): Effect.Effect<void, OutputError> =>
  lines.length === 0 ? Effect.void : write(`${lines.join("\n")}\n`)

export const printLine = (line: string) => printLines([line])

/** A line for people: none on a terminal is wider than `maxColumns`, and elsewhere it stays whole. */
export const printText = (line: string) =>
  Effect.flatMap(Stdout, ({ columns, isTerminal }) => printLines(isTerminal ? wrap(line, columns()) : [line]))

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const

export type Paint = (colour: keyof typeof codes, text: string) => string

/** Colours on a terminal, unless `NO_COLOR` is set; plain text elsewhere. */
export const paint: Effect.Effect<Paint> = Effect.map(
  TerminalCapabilities.TerminalCapabilities,
  ({ canColor }) => (colour, text) => canColor ? `\u001B[${codes[colour]}m${text}\u001B[0m` : text
)

/** The first characters, as many as fit. */
const fitting = (characters: ReadonlyArray<string>, cells: number): ReadonlyArray<string> => {
  let left = cells
  const end = characters.findIndex((character) => (left -= CliOutput.displayWidth(character)) < 0)
  return end === -1 ? characters : characters.slice(0, end)
}

/** Cut to `width` cells in the middle, since paths differ at both ends. */
export const truncateMiddle = (text: string, width: number): string => {
  if (CliOutput.displayWidth(text) <= width) return text
  const characters = [...text]
  const head = fitting(characters, Math.ceil((width - 1) / 2))
  const tail = fitting(characters.toReversed(), Math.floor((width - 1) / 2))
  return [...head, "…", ...tail.toReversed()].join("")
}

/** Lines of at most `width` cells: cut at spaces where there are any, and continued below, two cells in. */
export const wrap = (line: string, width: number): ReadonlyArray<string> => {
  if (CliOutput.displayWidth(line) <= width) return [line]
  const characters = [...line]
  const head = fitting(characters, width)
  const space = head.lastIndexOf(" ")
  // Those that a line begins with are none to cut at.
  const end = space > 1 ? space : Math.max(1, head.length)
  const rest = characters.slice(end).join("").trimStart()
  return [characters.slice(0, end).join("").trimEnd(), ...rest === "" ? [] : wrap(`  ${rest}`, width)]
}

const gap = 2

/** Cells that remain of a column which gives way, while others could: both ends of a path, and that it was cut. */
const leastCells = 8

/**
 * Lines of aligned columns in at most `width` cells, the headings first. Columns whose heading is in `elastic` give way
 * first, then all, each time the widest; what gives way is cut in the middle.
 */
export const table = (
  headings: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  options: { readonly width: number; readonly elastic: ReadonlyArray<string> }
): ReadonlyArray<string> => {
  const all = [headings, ...rows]
  const widths = headings.map((_, column) => Math.max(...all.map((row) => CliOutput.displayWidth(row[column] ?? ""))))
  let excess = widths.reduce((sum, each) => sum + each + gap, -gap) - options.width
  const shrink = (least: number, gives: (heading: string) => boolean) => {
    while (excess > 0) {
      const widest = Math.max(...widths.filter((_, column) => gives(headings[column] ?? "")))
      if (widest <= least) return
      widths[widths.findIndex((each, column) => each === widest && gives(headings[column] ?? ""))] = widest - 1
      excess--
    }
  }
  shrink(leastCells, (heading) => options.elastic.includes(heading))
  shrink(1, () => true)
  return all.map((row) =>
    row.map((cell, column) => {
      const shown = truncateMiddle(cell, widths[column] ?? 0)
      return shown + " ".repeat(Math.max(0, (widths[column] ?? 0) - CliOutput.displayWidth(shown)))
    }).join(" ".repeat(gap)).trimEnd()
  )
}

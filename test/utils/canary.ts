/** Looks for a token in whatever a program shows of itself, in the forms in which values are shown. */
import { Logger, Tracer } from "effect"
import { Buffer } from "node:buffer"
import { inspect } from "node:util"

export interface Sighting {
  readonly where: string
  readonly text: string
}

const json = (value: unknown): string => {
  try {
    return JSON.stringify(value, (_, part: unknown) => typeof part === "bigint" ? String(part) : part) ?? ""
  } catch {
    return "" // A cycle, which no logger can write as JSON either.
  }
}

const asString = (value: unknown): string => {
  try {
    return String(value)
  } catch {
    return ""
  }
}

const everything = {
  depth: Number.POSITIVE_INFINITY,
  showHidden: true,
  maxArrayLength: null,
  maxStringLength: null,
  breakLength: Number.POSITIVE_INFINITY
}

/** A value in every usual way in which it ends up in a log. */
export const shown = (value: unknown): string =>
  [
    inspect(value, everything),
    inspect(value, { ...everything, customInspect: false }),
    json(value),
    asString(value),
    value instanceof Error ? `${value.message}\n${value.stack}` : ""
  ].join("\n")

/** Half a token as text, as bytes, and as the key of an HMAC, each as it would be shown. */
const formsOf = (token: string): ReadonlyArray<string> => {
  const [text, bytes] = [Buffer.from(token), Buffer.from(token, "hex")]
  const padded = (pad: number) => Buffer.from(text.map((byte) => byte ^ pad))
  const halves = (all: Buffer) => [all.subarray(0, all.length / 2), all.subarray(all.length / 2)]
  const numbers = (part: Buffer) => [[...part].join(","), [...part].join(", ")]
  const pairs = (part: Buffer) => part.toString("hex").replaceAll(/..(?!$)/g, "$& ")
  // Base64 shows three bytes as four characters, so what is looked for begins and ends at a multiple of three.
  const base64 = (all: Buffer) => [
    all.subarray(0, 15).toString("base64"),
    all.subarray(15, 30).toString("base64"),
    all.subarray(-17, -2).toString("base64")
  ]
  return [
    ...halves(text).flatMap((half) => [half.toString(), half.toString().toUpperCase()]),
    ...[text, bytes, padded(0x36), padded(0x5c)].flatMap((all) => [
      ...halves(all).flatMap((half) => [half.toString("hex"), pairs(half), ...numbers(half)]),
      ...base64(all).filter((part) => part.length === 20)
    ])
  ]
}

/** Where one of the tokens, or half of it, can be read. */
export const hits = (sightings: ReadonlyArray<Sighting>, tokens: Iterable<string>): ReadonlyArray<string> => {
  const forms = [...tokens].flatMap(formsOf)
  return sightings.filter(({ text }) => forms.some((form) => text.includes(form))).map(({ where }) => where)
}

/** Loggers and a tracer that keep all they are told. */
export const makeRecorder = () => {
  const sightings: Array<Sighting> = []
  const see = (where: string, value: unknown) =>
    void sightings.push({ where, text: typeof value === "string" ? value : shown(value) })
  const formatted = [
    Logger.formatSimple,
    Logger.formatLogFmt,
    Logger.formatJson,
    Logger.map(Logger.formatStructured, shown)
  ]
  const spans: Array<Tracer.NativeSpan> = []
  return {
    sightings,
    see,
    /** What the spans hold by now. */
    seeSpans: () => {
      for (const { attributes, events, links, name, status } of spans.splice(0)) {
        see(`span ${name}`, { attributes, events, links, status })
      }
    },
    loggers: Logger.layer([
      ...formatted.map((logger) => Logger.map(logger, (text) => see("log", text))),
      Logger.make(({ cause, date, logLevel, message }) => see("log", { cause, date, logLevel, message }))
    ]),
    tracer: Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
  }
}

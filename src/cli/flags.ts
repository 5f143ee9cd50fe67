/** Flags that several commands have. */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print one JSON object a line, and nothing else, on standard output"),
  Flag.withDefault(false)
)

export const to = Flag.String("to").pipe(
  Flag.withMetavar("ADDRESS"),
  Flag.withDescription("The peer: its name, uds:<path> or an absolute path. Default: the parent's"),
  Flag.optional
)

const units: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 }

/** `500ms`, `5s`, `1m`, a number of milliseconds, or what Effect reads, such as `5 seconds`. */
export const parseDuration = (text: string): Option.Option<Duration.Duration> => {
  const short = /^(\d+)(ms|s|m)?$/.exec(text.trim())
  const parsed = short === null
    ? Duration.fromInput(text as Duration.Input)
    : Option.some(Duration.millis(Number(short[1]) * (units[short[2] ?? "ms"] ?? 1)))
  return Option.filter(parsed, (duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0)
}

export const duration = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("DURATION"),
    Flag.withDescription(description),
    Flag.filterMap(
      parseDuration,
      (text) => `${JSON.stringify(text)} is not a duration; give one like 500ms, 5s or 1m`
    ),
    Flag.optional
  )

export const timeout = duration("timeout", "How long to wait for the answer: 500ms, 5s, 1m. Default: 5s")

/** A whole number of at least 1. */
export const count = (name: string, description: string) =>
  Flag.Int(name).pipe(
    Flag.withMetavar("N"),
    Flag.withDescription(description),
    Flag.filter((n) => n >= 1, (n) => `${n} is not a whole number of at least 1`),
    Flag.optional
  )

export const text = Argument.String("text")

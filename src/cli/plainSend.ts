/**
 * The command line of most sends, `send [--to ADDRESS] [--json] TEXT`, read without the parser of `effect/cli`, which
 * takes longer to load than the message takes to arrive. Everything else, and whatever could mean something else to that
 * parser, is left to it. A property test holds this reading to that one.
 */
export interface PlainSend {
  readonly to: string | undefined
  readonly json: boolean
  readonly text: string
}

/** No flag, no `-` for standard input, and nothing that behind `--json` would be its value. */
const isPlain = (arg: string) => arg !== "" && !arg.startsWith("-") && !/^(true|false|yes|no|on|off|[yn01])$/i.test(arg)

/** None where the arguments are anything but a plain send. */
export const read = ([command, ...args]: ReadonlyArray<string>): PlainSend | undefined => {
  if (command !== "send") return undefined
  let to: string | undefined
  let json = false
  let text: string | undefined
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? ""
    if (arg === "--json" && !json) {
      json = true
    } else if (arg === "--to" && to === undefined && isPlain(args[at + 1] ?? "")) {
      to = args[++at]
    } else if (isPlain(arg) && text === undefined) {
      text = arg
    } else {
      return undefined
    }
  }
  return text === undefined ? undefined : { to, json, text }
}

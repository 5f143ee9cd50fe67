/** Text from standard input, whole or line by line. Never more of it is held than a message may have. */
import * as Effect from "effect/Effect"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Buffer, isUtf8 } from "node:buffer"
import { Limits } from "../Limits.ts"
import { WrongUsage } from "./output.ts"

/** At most one frame's worth, as UTF-8. */
const standardInput = Effect.gen(function*() {
  const { stdin } = yield* Stdio.Stdio
  const { maxFrameBytes } = yield* Limits
  let bytes = 0
  const chunks = yield* Stream.runCollect(Stream.tap(stdin, (chunk) => {
    bytes += chunk.length
    return bytes > maxFrameBytes
      ? Effect.fail(
        new WrongUsage({ problem: `standard input is longer than a message may be, ${maxFrameBytes} bytes` })
      )
      : Effect.void
  }))
  const input = Buffer.concat(chunks)
  return isUtf8(input) ? input.toString("utf8") : yield* new WrongUsage({ problem: "standard input is not UTF-8" })
})

/** What an argument says, where `-` is standard input. */
export const textOf = (argument: string) => argument === "-" ? standardInput : Effect.succeed(argument)

const newline = 0x0a
const carriageReturn = 0x0d

/** Cuts bytes into lines. Throws nothing: what cannot be a line is an error in its place, and the last thing said. */
const makeSplitter = (maxBytes: number) => {
  let rest = Buffer.alloc(0)
  let count = 0
  const decode = (line: Buffer) => {
    count++
    const end = line[line.length - 1] === carriageReturn ? line.length - 1 : line.length
    if (end > maxBytes) return tooLong()
    const content = line.subarray(0, end)
    return isUtf8(content) ? content.toString("utf8") : new WrongUsage({ problem: `line ${count} is not UTF-8` })
  }
  const tooLong = () => new WrongUsage({ problem: `line ${count} is longer than a message may be, ${maxBytes} bytes` })
  return {
    push: (chunk: Uint8Array): ReadonlyArray<string | WrongUsage> => {
      const all = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
      const lines: Array<string | WrongUsage> = []
      let start = 0
      for (let end = all.indexOf(newline); end !== -1; end = all.indexOf(newline, start)) {
        lines.push(decode(all.subarray(start, end)))
        start = end + 1
      }
      rest = all.subarray(start)
      // One more for the carriage return of a line that is just short enough.
      if (rest.length <= maxBytes + 1) return lines
      count++
      return [...lines, tooLong()]
    },
    end: (): ReadonlyArray<string | WrongUsage> => rest.length === 0 ? [] : [decode(rest)]
  }
}

/**
 * The lines of standard input as they come, without LF or CRLF; the last one may lack it. Those that come together are
 * one batch. Fails with `WrongUsage` at a line that cannot be a message, after those before it.
 */
export const standardInputLines = Stream.unwrap(Effect.gen(function*() {
  const { stdin } = yield* Stdio.Stdio
  const { maxFrameBytes } = yield* Limits
  const splitter = makeSplitter(maxFrameBytes)
  return Stream.concat(
    Stream.map(stdin, splitter.push),
    Stream.suspend(() => Stream.succeed(splitter.end()))
  ).pipe(
    Stream.flatMap((lines) => {
      const at = lines.findIndex((line) => line instanceof WrongUsage)
      const bad = lines[at]
      const good = Stream.fromArray((at === -1 ? lines : lines.slice(0, at)).filter((line) => typeof line === "string"))
      return bad instanceof WrongUsage ? Stream.concat(good, Stream.fail(bad)) : good
    })
  )
}))

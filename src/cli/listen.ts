import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import * as Address from "../Address.ts"
import { Host } from "../Host.ts"
import { type Entry, Inbox } from "../Inbox.ts"
import { remoteText } from "../internal/remoteText.ts"
import * as Layers from "../Layers.ts"
import { Limits } from "../Limits.ts"
import { Messaging } from "../Messaging.ts"
import { runChild } from "./child.ts"
import * as flags from "./flags.ts"
import { reportFailure, shown } from "./output.ts"
import * as printers from "./printer.ts"
import { answer, NoAnswer } from "./reply.ts"
import { OutputClosed, Stdout, wrap } from "./stdout.ts"

/** What a terminal is shown of one message. */
const maxShownBytes = 4_096

/** Messages that are being printed at the same time, in one write. */
const batch = 256

const defaultReplies = 4
const defaultReplyTimeout = Duration.seconds(30)

interface Options {
  readonly json: boolean
  readonly count: Option.Option<number>
  readonly reply: Option.Option<string>
  readonly replies: Option.Option<number>
  readonly replyTimeout: Option.Option<Duration.Duration>
}

const messageEvent = (entry: Entry) =>
  JSON.stringify({
    event: "message",
    id: entry.id,
    receivedAt: DateTime.formatIso(entry.receivedAt),
    sender: { address: entry.sender.address ?? null, verified: entry.sender.verified },
    message: entry.message
  })

const describe = ({ id, message, receivedAt, sender }: Entry) => {
  const from = sender.address === undefined ? "unknown" : remoteText(sender.address, 256)
  return `${DateTime.formatIso(receivedAt)} ${id} ${message.type} from ${from}: ` +
    remoteText(message.data ?? "", maxShownBytes)
}

/** Runs at most so many commands at once; without a command there is no answer. */
const makeAnswer = Effect.fnUntraced(function*({ replies, reply, replyTimeout }: Options) {
  if (Option.isNone(reply)) {
    return () => Effect.fail(new NoAnswer({ problem: "nobody answers here: see listen --reply" }))
  }
  const { maxFrameBytes } = yield* Limits
  const semaphore = Semaphore.makeUnsafe(Option.getOrElse(replies, () => defaultReplies))
  const options = { maxBytes: maxFrameBytes, timeout: Option.getOrElse(replyTimeout, () => defaultReplyTimeout) }
  return (question: string) => Semaphore.withPermits(semaphore, 1)(answer(reply.value, question, options))
})

/** Prints what arrives until the reader has gone, or has what it wanted. A message is handled when it is printed. */
const serve = Effect.fnUntraced(function*(options: Options) {
  const host = yield* Host
  const inbox = yield* Inbox
  const stdout = yield* Stdout
  const { address } = yield* Messaging
  const { socketPath } = Option.getOrThrow(address)
  const printer = printers.make()
  const print = (line: string) =>
    printer.print(stdout.isTerminal && !options.json ? wrap(line, stdout.columns()).join("\n") : line)
  const answerTo = yield* makeAnswer(options)
  const wanted = Option.getOrElse(options.count, () => Infinity)
  const hasAll = Latch.makeUnsafe(false)
  let begun = 0
  let finished = 0

  const handle = (entry: Entry) =>
    Effect.suspend(() => {
      if (++begun > wanted) return Effect.never
      const printed = print(options.json ? messageEvent(entry) : describe(entry))
      return Effect.ensuring(
        entry.message.type === "query" ? Effect.andThen(printed, answerTo(entry.message.data ?? "")) : printed,
        // The sender is told before the endpoint ends.
        Effect.sync(() => ++finished === wanted && setImmediate(() => hasAll.openUnsafe()))
      )
    })
  const listening = options.json
    ? JSON.stringify({ event: "listening", address: Address.format({ socketPath }), socketPath, pid: host.pid })
    : `listening at ${shown(Address.format({ socketPath }))}`
  yield* Effect.raceAllFirst([
    printer.run,
    stdout.closed,
    Effect.andThen(print(listening), inbox.consume(handle, { concurrency: batch })),
    hasAll.await
  ])
})

export const listen = Command.make("listen", {
  socketPath: Flag.String("socket-path").pipe(
    Flag.withMetavar("PATH"),
    Flag.withDescription("Where to listen. Default: a new path in a directory of the user's own"),
    Flag.optional
  ),
  name: Flag.String("name").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription("Shown to people who list peers, and good as an address"),
    Flag.optional
  ),
  count: flags.count("count", "End after so many messages. Default: listen for ever"),
  reply: Flag.String("reply").pipe(
    Flag.withMetavar("CMD"),
    Flag.withDescription("Answer each query with what this shell command prints; it reads the query from its input"),
    Flag.optional
  ),
  replies: flags.count("replies", `Commands of --reply that run at the same time. Default: ${defaultReplies}`),
  replyTimeout: flags.duration("reply-timeout", "How long a command of --reply may take. Default: 30s"),
  json: flags.json,
  command: Argument.String("command").pipe(
    Argument.withDescription("After --: a command to run that finds this endpoint through the environment variable"),
    Argument.variadic()
  )
}, ({ command, name, socketPath, ...options }) =>
  Effect.gen(function*() {
    const [program, ...args] = command
    if (program === undefined) return yield* serve(options)
    // The child decides when the endpoint ends; a reader of the messages that goes away does not.
    const serving = Effect.catch(
      serve(options),
      (error) => error instanceof OutputClosed ? Effect.void : Effect.ignore(reportFailure(error))
    )
    yield* Effect.forkScoped(serving, { startImmediately: true })
    yield* runChild(program, args)
  }).pipe(
    Effect.scoped,
    Effect.provide(Layers.layer({
      socketPath: Option.getOrUndefined(socketPath),
      name: Option.getOrUndefined(name)
    }))
  )).pipe(
    Command.withDescription("Be an endpoint, and print each message that arrives"),
    Command.withExamples([
      { command: "effect-messaging listen --json", description: "One JSON object a line, for another program" },
      { command: "effect-messaging listen --count 1", description: "Wait for one message" },
      { command: "effect-messaging listen --name wc --reply 'wc -w'", description: "Answer questions with a command" },
      { command: "effect-messaging listen -- npm test", description: "Run a command that may report back" }
    ])
  )

/** The command line as an effect, without the process around it. */
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import { ask } from "./ask.ts"
import { doctor } from "./doctor.ts"
import * as help from "./help.ts"
import { listen } from "./listen.ts"
import { Ended, reportFailure } from "./output.ts"
import { peers } from "./peers.ts"
import { ping } from "./ping.ts"
import { send } from "./send.ts"
import { OutputClosed } from "./stdout.ts"
import { sweep } from "./sweep.ts"
import { version } from "./version.ts"

const root = Command.make("effect-messaging").pipe(
  Command.withDescription("An inbox for every process: send, receive and find peers of the same user"),
  Command.withSubcommands([listen, send, ask, ping, peers, sweep, doctor]),
  Command.withExamples([
    { command: "effect-messaging listen --name build", description: "In one terminal: an endpoint with a name" },
    { command: "effect-messaging send --to build \"hello\"", description: "In another: a message for it" }
  ])
)

const { Completions, Help, LogLevel, Version } = GlobalFlag

/** Runs the command line. Fails with `Ended`, after saying why on standard error. */
export const run = (args: ReadonlyArray<string>) =>
  Command.runWith(root, { version })(args).pipe(
    Effect.provide([help.layer, CliConfig.layer({ builtIns: [Help, Version, Completions, LogLevel] })]),
    Effect.catch((error) => {
      // A reader that has gone has seen enough.
      if (error instanceof OutputClosed) return Effect.void
      if (error instanceof Ended) return Effect.fail(error)
      return CliError.isCliError(error) ? Effect.fail(new Ended({ code: 2 })) : reportFailure(error)
    })
  )

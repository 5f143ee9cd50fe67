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
import { Ended } from "./output.ts"
import { peers } from "./peers.ts"
import { ping } from "./ping.ts"
import { send } from "./send.ts"
import { sweep } from "./sweep.ts"
import { version } from "./version.ts"

const root = (sending: typeof send) =>
  Command.make("effect-messaging").pipe(
    Command.withDescription("An inbox for every process: send, receive and find peers of the same user"),
    Command.withSubcommands([listen, sending, ask, ping, peers, sweep, doctor]),
    Command.withExamples([
      { command: "effect-messaging listen --name build", description: "In one terminal: an endpoint with a name" },
      { command: "effect-messaging send --to build \"hello\"", description: "In another: a message for it" }
    ])
  )

const { Completions, Help, LogLevel, Version } = GlobalFlag

/**
 * Runs the command line. Fails with `Ended` after telling of a mistake in it, and with what the command failed with. A
 * test puts another `sending` in, to see what is read of the arguments.
 */
export const run = (args: ReadonlyArray<string>, sending = send) =>
  Command.runWith(root(sending), { version })(args).pipe(
    Effect.provide([help.layer, CliConfig.layer({ builtIns: [Help, Version, Completions, LogLevel] })]),
    Effect.mapError((error) => CliError.isCliError(error) ? new Ended({ code: 2 }) : error)
  )

/** The command line as an effect, without the process around it. */
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { listen } from "./listen.ts"
import { complain, Ended, reportFailure } from "./output.ts"
import { peers } from "./peers.ts"
import { ping } from "./ping.ts"
import { send } from "./send.ts"
import { version } from "./version.ts"

const root = Command.make("effect-messaging").pipe(
  Command.withDescription("An inbox for every process: send, receive and find peers of the same user"),
  Command.withSubcommands([listen, send, ping, peers])
)

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

/** Runs the command line. Fails with `Ended`, after saying why on standard error. */
export const run = (args: ReadonlyArray<string>) =>
  Command.runWith(root, { version })(args).pipe(
    Effect.provide(CliOutput.layerPresenter(presenter)),
    Effect.catch((error) => CliError.isCliError(error) ? Effect.fail(new Ended({ code: 2 })) : reportFailure(error))
  )

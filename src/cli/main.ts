/** The command line: any command, its help and its mistakes. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import { run } from "./command.ts"
import { main } from "./process.ts"

main(Effect.provide(run(process.argv.slice(2)), NodeServices.layer))

/** One message to one peer, and its receipt on standard output. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Message } from "../Message.ts"
import * as Messaging from "../Messaging.ts"
import { shown } from "./output.ts"
import { printLine, printText } from "./stdout.ts"

export interface Options extends Messaging.SendOptions {
  readonly until: "stored" | "handled"
}

export const sendOne = Effect.fnUntraced(function*(to: string, message: Message, json: boolean, options: Options) {
  const messaging = yield* Messaging.Messaging
  const receipt = yield* messaging.send(to, message, options)
  const id = Option.getOrNull(receipt.id)
  yield* (json ? printLine : printText)(
    json
      ? JSON.stringify({ event: options.until, id, socketPath: receipt.socketPath })
      : `${options.until} as ${shown(id ?? "(no id)")} by uds:${shown(receipt.socketPath)}`
  )
})

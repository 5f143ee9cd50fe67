/** The command line where it is a plain send; loads nothing but what that needs. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Layers from "../Layers.ts"
import { target } from "./output.ts"
import { type PlainSend, read } from "./plainSend.ts"
import { main } from "./process.ts"
import { sendOne } from "./sendOne.ts"

const send = ({ json, text, to }: PlainSend) =>
  Effect.flatMap(
    target(Option.fromNullishOr(to)),
    (address) => sendOne(address, { type: "text", data: text }, json, { until: "stored" })
  ).pipe(Effect.provide(Layers.layerClient()))

const plain = read(process.argv.slice(2))
if (plain !== undefined) main(send(plain))

/** A client layer, and so a connection with its handshake, for each message. */
import { Context, Effect, Layer } from "effect"
import { repeat } from "../harness/drive.ts"
import { type Load, message, type Session, type Target } from "../harness/system.ts"
import { load as loadLibrary } from "../library.ts"

const { Layers, Messaging } = await loadLibrary()

export const connect = async (target: Target, load: Load): Promise<Session> => {
  const text = { type: "text" as const, data: message(load.bytes) }
  const once = Effect.scoped(
    Effect.flatMap(
      Effect.suspend(() => Layer.build(Layers.layerClient())),
      (context) => Context.get(context, Messaging.Messaging).send(target.socketPath, text)
    )
  )
  return repeat(load, () => Effect.runPromise(once))
}

/** A program with nothing but Effect, to tell what the layer adds. */
import * as Effect from "effect/Effect"

await Effect.runPromise(Effect.sync(() => process.stdout.write("hello\n")))

/** Gives the stand-in beside it to whoever imports "vitest". Loaded with `--import`. */
import { registerHooks } from "node:module"

const standIn = new URL("./vitest.ts", import.meta.url).href

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "vitest" ? { url: standIn, shortCircuit: true } : next(specifier, context)
})

/**
 * Tells bundlers that nothing happens when a module of the library is loaded: what it makes at its top level, layers,
 * schemas, errors, is left out of a program that does not use it. `sideEffects` in package.json says so of whole modules
 * only. Effect's own modules are built the same way.
 */
import { parseAst } from "rolldown/parseAst"
import { Visitor } from "rolldown/utils"

const annotation = "/* @__PURE__ */ "

/** `code` with each call and `new` that runs when the module is loaded marked as free of side effects. */
export const annotate = (code: string, lang: "js" | "ts" = "js"): string => {
  // Statements of their own are there for what they do; all else at the top level only makes a value.
  let depth = 0
  const places = new Set<number>()
  const enter = () => {
    depth++
  }
  const exit = () => {
    depth--
  }
  const mark = ({ start }: { readonly start: number }) => {
    if (depth === 0) places.add(start)
  }
  new Visitor({
    ArrowFunctionExpression: enter,
    "ArrowFunctionExpression:exit": exit,
    FunctionExpression: enter,
    "FunctionExpression:exit": exit,
    FunctionDeclaration: enter,
    "FunctionDeclaration:exit": exit,
    ExpressionStatement: enter,
    "ExpressionStatement:exit": exit,
    CallExpression: mark,
    NewExpression: mark
  }).visit(parseAst(code, { lang }))
  let annotated = ""
  let from = 0
  for (const place of [...places].sort((a, b) => a - b)) {
    annotated += code.slice(from, place) + annotation
    from = place
  }
  return annotated + code.slice(from)
}

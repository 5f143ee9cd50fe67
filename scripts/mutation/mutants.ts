/**
 * The small changes that a test ought to notice, one at a time, as replacements in a module's text. Types, imports and
 * what only documents are left alone.
 */
import { parseAst } from "rolldown/parseAst"

export interface Mutant {
  readonly start: number
  readonly end: number
  readonly replacement: string
  /** The kind of change, such as `boundary`. */
  readonly kind: string
  /** Where a test has to come past to notice: the start of the whole expression, whatever part of it is then evaluated. */
  readonly site: number
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [key: string]: unknown
}

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && "type" in value
const node = (value: unknown) => value as Node
const nodes = (value: unknown) => value as ReadonlyArray<Node>

const binary: Record<string, ReadonlyArray<readonly [operator: string, kind: string]>> = {
  "<": [["<=", "boundary"], [">=", "negation"]],
  "<=": [["<", "boundary"], [">", "negation"]],
  ">": [[">=", "boundary"], ["<=", "negation"]],
  ">=": [[">", "boundary"], ["<", "negation"]],
  "===": [["!==", "negation"]],
  "!==": [["===", "negation"]],
  "+": [["-", "arithmetic"]],
  "-": [["+", "arithmetic"]],
  "*": [["/", "arithmetic"]],
  "/": [["*", "arithmetic"]],
  "%": [["*", "arithmetic"]],
  "&": [["|", "arithmetic"]],
  "|": [["&", "arithmetic"]],
  "&&": [["||", "logic"]],
  "||": [["&&", "logic"]],
  "??": [["&&", "logic"]],
  "+=": [["-=", "arithmetic"]],
  "-=": [["+=", "arithmetic"]],
  "??=": [["=", "logic"]],
  "++": [["--", "arithmetic"]],
  "--": [["++", "arithmetic"]]
}

/** Calls whose first argument is what would happen without them. */
const wrappers = new Set([
  "catch",
  "catchTags",
  "catchReason",
  "catchReasons",
  "ensuring",
  "ignore",
  "ignoreCause",
  "insist",
  "interruptible",
  "mapError",
  "onError",
  "onExit",
  "onInterrupt",
  "orElseSucceed",
  "retry",
  "scoped",
  "tap",
  "timeoutOption",
  "uninterruptible"
])

/** Pairs of methods that are easily taken for each other. */
const methods = new Map([
  ["min", "max"],
  ["max", "min"],
  ["indexOf", "lastIndexOf"],
  ["lastIndexOf", "indexOf"],
  ["startsWith", "endsWith"],
  ["isSome", "isNone"],
  ["isNone", "isSome"],
  ["isSuccess", "isFailure"],
  ["isFailure", "isSuccess"]
])

/** Keys whose nodes hold types, or names that nobody evaluates. */
const skippedKeys = new Set(["typeAnnotation", "typeArguments", "typeParameters", "returnType", "superTypeArguments"])
const skippedTypes = /^(TS(?!AsExpression|SatisfiesExpression|NonNullExpression)|Import|ExportAll)/

const calleeName = (call: Node): string | undefined => {
  const callee = node(call["callee"])
  if (callee.type === "Identifier") return callee["name"] as string
  return callee.type === "MemberExpression" ? node(callee["property"])["name"] as string | undefined : undefined
}

/** All mutants of a module, by place. */
export const mutantsOf = (source: string): ReadonlyArray<Mutant> => {
  const found = new Map<string, Mutant>()
  const text = ({ end, start }: Node) => source.slice(start, end)
  const add = (start: number, end: number, replacement: string, kind: string, site = start) => {
    if (source.slice(start, end) === replacement) return
    found.set(`${start},${end},${replacement}`, { start, end, replacement, kind, site })
  }
  const replace = (at: Node, replacement: string, kind: string) => add(at.start, at.end, replacement, kind)

  /** The operator between two operands, of which a comment could hold another. */
  const operator = (at: Node, left: Node, right: Node) => {
    const sign = at["operator"] as string
    const start = source.indexOf(sign, left.end)
    if (start < 0 || start >= right.start) return
    for (const [other, kind] of binary[sign] ?? []) add(start, start + sign.length, other, kind, at.start)
  }

  const condition = (test: unknown) => {
    if (!isNode(test)) return
    replace(test, "true", "condition")
    replace(test, "false", "condition")
  }

  /** Each of several things in a row, with the comma that goes with it. */
  const dropEach = (items: ReadonlyArray<Node>, kind: string, site: number, from = 0) => {
    for (const [index, item] of items.entries()) {
      if (index < from) continue
      const next = items[index + 1]
      const previous = items[index - 1]
      if (next !== undefined) add(item.start, next.start, "", kind, site)
      else add(previous === undefined ? item.start : previous.end, item.end, "", kind, site)
    }
  }

  const call = (at: Node) => {
    const name = calleeName(at)
    const given = nodes(at["arguments"])
    const [first] = given
    if (name === "pipe" || name === "fnUntraced") dropEach(given, "removal", at.start, name === "pipe" ? 0 : 1)
    else if (name !== undefined && wrappers.has(name) && first !== undefined) replace(at, text(first), "removal")
    const callee = node(at["callee"])
    const other = methods.get(name ?? "")
    if (callee.type === "MemberExpression" && other !== undefined) {
      const { end, start } = node(callee["property"])
      add(start, end, other, "method", at.start)
    }
  }

  const literal = (at: Node) => {
    const value = at["value"]
    if (typeof value === "string") replace(at, value === "" ? "\"mutant\"" : "\"\"", "literal")
    else if (typeof value === "boolean") replace(at, String(!value), "literal")
    else if (typeof value === "number") replace(at, String(value + 1), "literal")
    else if (typeof value === "bigint") replace(at, `${value + 1n}n`, "literal")
    else if (at["regex"] !== undefined) {
      const pattern = text(at)
      if (pattern.startsWith("/^")) replace(at, `/${pattern.slice(2)}`, "literal")
      if (pattern.includes("$/")) replace(at, pattern.replace("$/", "/"), "literal")
    }
  }

  const visit = (at: Node, parent: Node | undefined): void => {
    if (skippedTypes.test(at.type)) return
    switch (at.type) {
      case "IfStatement":
      case "ConditionalExpression":
        condition(at["test"])
        break
      case "WhileStatement":
      case "ForStatement":
        if (isNode(at["test"])) replace(at["test"], "false", "condition")
        break
      case "BinaryExpression":
      case "LogicalExpression":
      case "AssignmentExpression":
        operator(at, node(at["left"]), node(at["right"]))
        break
      case "UpdateExpression": {
        const argument = text(node(at["argument"]))
        for (const [other, kind] of binary[at["operator"] as string] ?? []) {
          replace(at, at["prefix"] === true ? other + argument : argument + other, kind)
        }
        break
      }
      case "UnaryExpression":
        if (at["operator"] === "!" || at["operator"] === "-") replace(at, text(node(at["argument"])), "negation")
        break
      case "ExpressionStatement":
        if (at["directive"] === undefined || at["directive"] === null) replace(at, ";", "removal")
        break
      case "ReturnStatement":
        if (isNode(at["argument"]) && text(at["argument"]) !== "undefined") {
          replace(at["argument"], "undefined", "return")
        }
        break
      case "ArrowFunctionExpression":
        if (node(at["body"]).type !== "BlockStatement" && text(node(at["body"])) !== "undefined") {
          replace(node(at["body"]), "undefined", "return")
        }
        break
      case "MemberExpression":
      case "CallExpression":
        if (at["optional"] === true) {
          const target = node(at[at.type === "CallExpression" ? "callee" : "object"])
          const sign = source.indexOf("?.", target.end)
          const computed = at.type === "CallExpression" || at["computed"] === true
          add(sign, sign + 2, computed ? "" : ".", "optional", target.start)
        }
        if (at.type === "CallExpression") call(at)
        break
      case "ArrayExpression":
        dropEach(nodes(at["elements"]), "removal", at.start)
        break
      case "ObjectExpression":
        dropEach(nodes(at["properties"]), "removal", at.start)
        break
      case "SwitchCase":
        if (isNode(at["test"]) && nodes(at["consequent"]).length > 0) {
          const statements = nodes(at["consequent"])
          for (const statement of statements) replace(statement, ";", "removal")
        }
        break
      case "TemplateLiteral":
        replace(at, "``", "literal")
        break
      case "Literal":
        if (parent?.type !== "Property" || parent["key"] !== at) literal(at)
        break
    }
    for (const key of Object.keys(at)) {
      if (skippedKeys.has(key)) continue
      for (const child of [at[key]].flat()) if (isNode(child)) visit(child, at)
    }
  }
  visit(parseAst(source, { lang: "ts" }) as unknown as Node, undefined)
  return [...found.values()].sort((a, b) => a.start - b.start || a.end - b.end)
}

/** Line and column of an offset, from 1. */
export const placeOf = (source: string, offset: number) => {
  const before = source.slice(0, offset).split("\n")
  return { line: before.length, column: (before.at(-1) ?? "").length + 1 }
}

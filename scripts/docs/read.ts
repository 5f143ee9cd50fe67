/**
 * Reads the public modules, those that package.json exports, with the project's own compiler. Notes as a problem every
 * name that has no docstring, and every docstring that leaves out an error or a unit.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import * as ast from "typescript/unstable/ast"
import { API, type Checker, NodeBuilderFlags, type Project, type Symbol, SymbolFlags } from "typescript/unstable/sync"
import type { Item, Kind, Member, Module } from "./model.ts"

const root = path.join(import.meta.dirname, "../..")

const namespacesOf = (source: string): ReadonlyArray<readonly [name: string, file: string]> =>
  [...fs.readFileSync(path.join(root, source), "utf8").matchAll(/^export \* as (\w+) from "\.\/(.+)"$/gm)]
    .map(([, name = "", file = ""]) => [name, file])

/** Source files by the names under which they are imported. `testing` stands for its two namespaces. */
const publicModules = (): ReadonlyArray<readonly [name: string, source: string]> => {
  const { exports } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as {
    exports: Record<string, string | Record<string, string>>
  }
  return Object.entries(exports).flatMap(([key, target]): Array<readonly [string, string]> => {
    const source = typeof target === "string" ? undefined : target["effect-messaging-source"]
    if (source === undefined || key === ".") return []
    if (path.basename(source) !== "index.ts") return [[key.slice(2), source.slice(2)]]
    return namespacesOf(source).map(([name, file]) => [
      `${key.slice(2)}/${name}`,
      path.posix.join(path.posix.dirname(source.slice(2)), file)
    ])
  })
}

const oneLine = (text: string) => text.replaceAll(/\/\*\*[\s\S]*?\*\//g, "").replaceAll(/\s+/g, " ").trim()

/** Words that tell what a number counts, or that it counts nothing. */
const unit =
  /\b(bytes?|milliseconds?|counted|count|numbers?|share|ordinal|version|ids?|entries|messages|peers|objects|containers)\b/i

/** The names of the errors in an error type as it is written, without type parameters. */
const errorNames = (text: string): ReadonlyArray<string> =>
  [...text.matchAll(/(?:\w+\.)*([A-Z]\w+)/g)].map(([, name = ""]) => name).filter((name) => !/^[A-Z]\d?$/.test(name))

export interface Reading {
  readonly modules: ReadonlyArray<Module>
  readonly problems: ReadonlyArray<string>
}

class Reader {
  readonly problems: Array<string> = []
  readonly #checker: Checker
  readonly #project: Project
  readonly #owners: ReadonlyMap<string, string>

  constructor(project: Project, modules: ReadonlyArray<readonly [name: string, source: string]>) {
    this.#project = project
    this.#checker = project.checker
    this.#owners = new Map(modules.map(([name, source]) => [path.join(root, source), name]))
  }

  module(name: string, source: string): Module {
    const file = this.#project.program.getSourceFile(path.join(root, source))
    const symbol = file === undefined ? undefined : this.#checker.getSymbolAtLocation(file)
    if (file === undefined || symbol === undefined) throw new Error(`${source} is not a module of the project`)
    const [, comment = ""] = /^\/\*\*([\s\S]*?)\*\//.exec(file.text) ?? []
    const doc = comment.split("\n").map((line) => line.replace(/^\s*\* ?/, "")).join("\n").trim()
    if (doc === "") this.problems.push(`${source}: the module has no docstring`)
    const items = this.#checker.getExportsOfModule(symbol).map((symbol) => this.#item(name, file, symbol))
    return { name, source, doc, items }
  }

  #item(module: string, file: ast.SourceFile, exported: Symbol): Item {
    const symbol = (exported.flags & SymbolFlags.Alias) === 0 ? exported : this.#checker.getAliasedSymbol(exported)
    const nodes = symbol.declarations.flatMap((handle) => handle.resolve() ?? [])
    const node = nodes.find((node) => !ast.isTypeAliasDeclaration(node) && !ast.isInterfaceDeclaration(node)) ??
      nodes[0]
    if (node === undefined) throw new Error(`${module}.${exported.name} has no declaration`)
    const owner = this.#owners.get(node.getSourceFile().fileName)
    const name = exported.name
    if (owner !== undefined && owner !== module) {
      return { name, kind: "value", code: undefined, note: undefined, doc: "", members: [], from: owner }
    }
    const where = `${module}.${name}`
    const doc = this.#docOf(symbol, where)
    const { code, errors, kind, members, note } = this.#declared(where, node, symbol, file)
    this.#requireErrors(where, doc, errors)
    return { name, kind, code, note, doc, members, from: undefined }
  }

  #declared(where: string, node: ast.Node, symbol: Symbol, file: ast.SourceFile): {
    kind: Kind
    code?: string | undefined
    note?: string | undefined
    members: ReadonlyArray<Member>
    errors: string
  } {
    const checker = this.#checker
    if (ast.isClassDeclaration(node)) return this.#class(where, node, symbol, file)
    if (ast.isInterfaceDeclaration(node)) {
      const note = node.heritageClauses?.flatMap(({ types }) => types.map((type) => type.getText())).join(", ")
      return { kind: "interface", note, members: this.#members(where, node.members), errors: "" }
    }
    if (ast.isTypeAliasDeclaration(node)) {
      return { kind: "type", code: oneLine(node.getText()), members: [], errors: "" }
    }
    const declared = ast.isVariableDeclaration(node) ? node.type?.getText() : undefined
    const type = checker.getTypeOfSymbol(symbol)
    if (type === undefined) throw new Error(`${where} has no type`)
    const inferred = checker.typeToString(type, file, NodeBuilderFlags.NoTruncation)
    const isSchema = ast.isVariableDeclaration(node) && node.initializer?.getText().startsWith("Schema.") === true
    const text = isSchema && inferred.startsWith("Schema.")
      ? `const ${symbol.name} = ${oneLine(node.initializer?.getText() ?? "")}`
      : `declare const ${symbol.name}: ${oneLine(declared ?? inferred)}`
    return { kind: "value", code: text, members: [], errors: this.#errorsOf(inferred) }
  }

  #class(where: string, node: ast.ClassDeclaration, symbol: Symbol, file: ast.SourceFile) {
    const base = node.heritageClauses?.[0]?.types[0]?.expression
    if (base === undefined || !ast.isCallExpression(base)) throw new Error(`${where} is a class of an unknown kind`)
    const callee = base.expression
    const make = ast.isCallExpression(callee) ? callee : base
    const maker = make.expression.getText()
    const typeArguments = make.typeArguments ?? []
    const key = base.arguments[0]?.getText()
    if (maker === "Context.Service" && typeArguments[1] !== undefined && ast.isTypeLiteralNode(typeArguments[1])) {
      const members = this.#members(where, typeArguments[1].members)
      return { kind: "service" as const, note: key, members, errors: "" }
    }
    if (maker === "Context.Reference") {
      const code = `declare const ${symbol.name}: Context.Reference<${typeArguments[0]?.getText()}>`
      return { kind: "reference" as const, code, note: key, members: [], errors: "" }
    }
    const fields = base.arguments[1]
    if (maker !== "Schema.TaggedError" || fields === undefined || !ast.isObjectLiteralExpression(fields)) {
      throw new Error(`${where} is a class of an unknown kind: ${maker}`)
    }
    const instance = this.#checker.getDeclaredTypeOfSymbol(symbol)
    const members = fields.properties.map((property): Member => {
      if (!ast.isPropertyAssignment(property)) throw new Error(`${where} has a field that is not written out`)
      const name = property.name.getText()
      const field = this.#checker.getPropertyOfType(instance, name)
      const type = field === undefined ? undefined : this.#checker.getTypeOfSymbol(field)
      const own = this.#checker.getSymbolAtLocation(property.name)
      if (type === undefined || own === undefined) throw new Error(`${where}.${name} has no type`)
      const text = this.#checker.typeToString(type, file, NodeBuilderFlags.NoTruncation)
      const doc = this.#docOf(own, `${where}.${name}`)
      this.#requireUnit(`${where}.${name}`, text, doc)
      return { name, type: text, optional: false, doc }
    })
    return { kind: "error" as const, members, errors: "" }
  }

  #members(where: string, nodes: ReadonlyArray<ast.TypeElement>): ReadonlyArray<Member> {
    return nodes.map((node) => {
      if (!ast.isPropertySignatureDeclaration(node) || node.type === undefined) {
        throw new Error(`${where} has a member that is not a property: ${node.getText()}`)
      }
      const name = node.name.getText()
      const symbol = this.#checker.getSymbolAtLocation(node.name)
      if (symbol === undefined) throw new Error(`${where}.${name} has no symbol`)
      const doc = this.#docOf(symbol, `${where}.${name}`)
      const type = oneLine(node.type.getText())
      this.#requireErrors(`${where}.${name}`, doc, this.#errorsOf(type))
      this.#requireUnit(`${where}.${name}`, type, doc)
      return { name, type, optional: node.postfixToken !== undefined, doc }
    })
  }

  #docOf(symbol: Symbol, where: string): string {
    const doc = this.#checker.getDocumentationCommentOfSymbol(symbol).trim()
    if (doc === "") this.problems.push(`${where}: no docstring`)
    else if (!/[.:]$/.test(doc)) this.problems.push(`${where}: the docstring does not end a sentence`)
    return doc
  }

  /** The second argument of the type that a name has or returns, where that is one that can fail. */
  #errorsOf(type: string): string {
    const at = /\b(?:Effect\.Effect|Layer\.Layer|Stream\.Stream|Result\.Result)</.exec(type)
    if (at === null) return ""
    const parts: Array<string> = [""]
    let depth = 0
    for (const character of type.slice(at.index + at[0].length).replaceAll("=>", "")) {
      if (">)]}".includes(character) && depth-- === 0) break
      if ("<([{".includes(character)) depth++
      if (character === "," && depth === 0) parts.push("")
      else parts.push(`${parts.pop() ?? ""}${character}`)
    }
    return parts[1] ?? ""
  }

  #requireErrors(where: string, doc: string, errors: string) {
    if (doc === "") return
    for (const name of errorNames(errors)) {
      if (!doc.includes(name)) this.problems.push(`${where}: the docstring does not name the error ${name}`)
    }
  }

  #requireUnit(where: string, type: string, doc: string) {
    if (doc === "" || !/^number\b/.test(type) || unit.test(doc)) return
    this.problems.push(`${where}: the docstring does not tell what the number counts`)
  }
}

export const read = (): Reading => {
  const api = new API({ cwd: root })
  try {
    const [project] = api.updateSnapshot({ openProjects: [path.join(root, "tsconfig.build.json")] }).getProjects()
    if (project === undefined) throw new Error("tsconfig.build.json cannot be opened")
    const modules = publicModules()
    const reader = new Reader(project, modules)
    const pages = modules.map(([name, source]) => reader.module(name, source))
    const listed = modules.map(([name]) => name).filter((name) => !name.includes("/"))
    const indexed = namespacesOf("src/index.ts").map(([name]) => name)
    const apart = [...listed, ...indexed].filter((name) => !listed.includes(name) || !indexed.includes(name))
    const problems = apart.map((name) => `${name}: not in both src/index.ts and the exports of package.json`)
    return { modules: pages, problems: [...problems, ...reader.problems] }
  } finally {
    api.close()
  }
}

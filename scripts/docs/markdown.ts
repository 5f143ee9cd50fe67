/** The pages of the reference, in Markdown as GitHub shows it. The same modules always give the same bytes. */
import { spawnSync } from "node:child_process"
import * as path from "node:path"
import type { Item, Kind, Module } from "./model.ts"

const root = path.join(import.meta.dirname, "../..")

const groups: ReadonlyArray<readonly [title: string, kinds: ReadonlyArray<Kind>]> = [
  ["Services", ["service", "reference"]],
  ["Functions and values", ["value"]],
  ["Errors", ["error"]],
  ["Types", ["interface", "type"]]
]

/** All code in one go, since the formatter takes longer to start than to format. */
const formatted = (codes: ReadonlyArray<string>): ReadonlyArray<string> => {
  const input = codes.map((code, at) => `// ---- ${at}\n${code}\n`).join("")
  const { status, stderr, stdout } = spawnSync("dprint", ["fmt", "--stdin", "docs.ts"], {
    cwd: root,
    input,
    encoding: "utf8",
    shell: process.platform === "win32"
  })
  if (status !== 0) throw new Error(`dprint ended with ${status}\n${stderr}`)
  return stdout.split(/^\/\/ ---- \d+\n/m).slice(1).map((code) => code.replace(/^declare /, "").trim())
}

/** The name of the heading as GitHub links to it. */
const anchor = (heading: string) => `#${heading.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-")}`

const pageOf = (name: string) => `${name}.md`

/** From one page to another. */
const linkTo = (from: string, to: string) => path.posix.relative(path.posix.dirname(pageOf(from)), pageOf(to))

/** How a module is imported; one of `testing` is a namespace of that. */
const importOf = (name: string) => {
  const [first = "", second] = name.split("/")
  return second === undefined
    ? `import { ${first} } from "effect-messaging" // or: import * as ${first} from "effect-messaging/${first}"`
    : `import { ${second} } from "effect-messaging/${first}"`
}

const quoted = (list: string) => list.split(", ").map((name) => `\`${name}\``).join(" and ")

export const render = (modules: ReadonlyArray<Module>): ReadonlyMap<string, string> => {
  const codes = modules.flatMap(({ items }) => items.flatMap(codesOf))
  const shown = formatted(codes)
  let next = 0
  const names = new Map(modules.map((module) => [module.name, new Set(module.items.map(({ name }) => name))]))

  /** A docstring, with a link wherever it names something that has a heading. */
  const linked = (text: string, here: string, self?: string) =>
    text.replaceAll(/`((?:(\w+)\.)?(\w+))`/g, (quoted, whole: string, module: string | undefined, name: string) => {
      if (module !== undefined && names.get(module)?.has(name) === true) {
        return `[${quoted}](${linkTo(here, module)}${anchor(name)})`
      }
      if (module !== undefined || whole === self) return quoted
      if (names.get(here)?.has(name) === true) return `[${quoted}](${anchor(name)})`
      return names.has(name) ? `[${quoted}](${linkTo(here, name)})` : quoted
    })

  const code = () => ["```ts", shown[next++] ?? "", "```", ""]
  const memberCode = () => code().map((line) => line.replace(/^const /, ""))

  const item = (here: string, { code: own, doc, from, kind, members, name, note }: Item): ReadonlyArray<string> => {
    const lines = [`### \`${name}\``, ""]
    if (from !== undefined) return [...lines, `See [\`${from}.${name}\`](${linkTo(here, from)}${anchor(name)}).`, ""]
    if (own !== undefined) lines.push(...code())
    lines.push(linked(doc, here, name), "")
    if (kind === "service" || kind === "reference") lines.push(`Its key is \`${note?.replaceAll("\"", "")}\`.`, "")
    if (kind === "interface" && note !== undefined) {
      lines.push(`Has everything of ${linked(quoted(note), here)} as well.`, "")
    }
    if (kind === "service") {
      for (const member of members) {
        lines.push(`#### \`${name}.${member.name}\``, "", ...memberCode(), linked(member.doc, here), "")
      }
    } else {
      for (const { doc, name, optional, type } of members) {
        lines.push(`- \`${name}${optional ? "?" : ""}: ${type}\`\\`)
        lines.push(linked(doc, here).replaceAll(/^(?=.)/gm, "  "))
      }
      if (members.length > 0) lines.push("")
    }
    return lines
  }

  const pages = new Map<string, string>()
  for (const module of modules) {
    const body: Array<string> = []
    const contents: Array<string> = []
    // In the order in which `codesOf` gave the code away.
    const texts = new Map(module.items.map((one) => [one, item(module.name, one)]))
    for (const [title, kinds] of groups) {
      const items = module.items.filter(({ kind }) => kinds.includes(kind))
      if (items.length === 0) continue
      contents.push(`- ${title}: ${items.map(({ name }) => `[\`${name}\`](${anchor(name)})`).join(", ")}`)
      body.push(`## ${title}`, "", ...items.flatMap((one) => texts.get(one) ?? []))
    }
    const head = [
      `# effect-messaging/${module.name}`,
      "",
      linked(module.doc, module.name),
      "",
      "```ts",
      importOf(module.name),
      "```",
      "",
      ...contents,
      "",
      `Made by \`npm run docs\` from the docstrings of \`${module.source}\`.`,
      ""
    ]
    pages.set(pageOf(module.name), `${[...head, ...body].join("\n").trimEnd()}\n`)
  }
  pages.set(pageOf("README"), index(modules))
  return pages
}

/** What `render` shows as code, in its order. */
const codesOf = ({ code, kind, members }: Item): ReadonlyArray<string> => [
  ...(code === undefined ? [] : [code]),
  ...(kind === "service" ? members.map(({ name, type }) => `declare const ${name}: ${type}`) : [])
]

const index = (modules: ReadonlyArray<Module>) =>
  [
    "# Reference",
    "",
    "Every public name of effect-messaging: what it does, its units and defaults, its errors. Begin with",
    "[`Layers`](Layers.md), [`Messaging`](Messaging.md) and [`Inbox`](Inbox.md); most programs need no more.",
    "",
    "| module | |",
    "| --- | --- |",
    ...modules.map(({ doc, name }) => {
      const [first = ""] = doc.replaceAll(/\s+/g, " ").split(/(?<=\.)(?: |$)/, 1)
      return `| [\`${name}\`](${pageOf(name)}) | ${first} |`
    }),
    "",
    "Made by `npm run docs` from the docstrings of the modules.",
    ""
  ].join("\n")

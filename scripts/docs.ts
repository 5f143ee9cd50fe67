/**
 * The reference in `docs/`, made from the docstrings of the public modules.
 *
 *     npm run docs          writes it
 *     npm run docs:check    fails where it is not what the docstrings give
 *
 * Both fail where a public name, a member, an option or a field has no docstring, or one that leaves out an error of the
 * signature or what a number counts.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { render } from "./docs/markdown.ts"
import { read } from "./docs/read.ts"

const directory = path.join(import.meta.dirname, "../docs")
const { modules, problems } = read()
const pages = render(modules)

const existing = fs.existsSync(directory)
  ? fs.readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll(path.sep, "/")).filter((name) => name.endsWith(".md"))
  : []
const superfluous = existing.filter((name) => !pages.has(name))
const isCurrent = ([name, text]: [string, string]) =>
  existing.includes(name) && fs.readFileSync(path.join(directory, name), "utf8") === text
const stale = [...pages].filter((page) => !isCurrent(page))

const complaints = [...problems]
if (process.argv.includes("--check")) {
  complaints.push(
    ...stale.map(([name]) => `docs/${name} is not what the docstrings give: npm run docs`),
    ...superfluous.map((name) => `docs/${name} belongs to no public module: npm run docs`)
  )
} else {
  for (const name of superfluous) fs.rmSync(path.join(directory, name))
  for (const [name, text] of stale) {
    fs.mkdirSync(path.dirname(path.join(directory, name)), { recursive: true })
    fs.writeFileSync(path.join(directory, name), text)
  }
}
if (complaints.length > 0) {
  process.stderr.write(`${complaints.join("\n")}\n`)
  process.exitCode = 1
} else {
  const names = modules.reduce(
    (sum, { items }) => sum + items.reduce((sum, item) => sum + 1 + item.members.length, 0),
    0
  )
  process.stdout.write(`docs: ${pages.size} pages, ${names} names, each with its docstring\n`)
}

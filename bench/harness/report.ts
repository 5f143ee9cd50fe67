/** The table, for people. */
import type { Row } from "../rows/row.ts"
import type { Spread } from "./stats.ts"
import type { Result } from "./turns.ts"

const digits = (value: number) => value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)
const figure = (value: number | undefined) => value === undefined ? "" : digits(value)
const range = (value: Spread | undefined) =>
  value === undefined ? "" : `${value.low.toFixed(2)} to ${value.high.toFixed(2)}`

const columns = (row: Row, results: ReadonlyArray<Result>) => {
  const has = (key: "p99" | "cpuRatio" | "serverMicros" | "clientMicros") =>
    results.some((result) => result[key] !== undefined)
  return [
    { title: row.unit, of: ({ value }: Result) => figure(value?.median) },
    { title: "ratio", of: ({ ratio }: Result) => ratio?.median.toFixed(2) ?? "" },
    { title: "its range", of: ({ ratio }: Result) => range(ratio) },
    ...(has("cpuRatio")
      ? [{ title: "ratio by CPU", of: ({ cpuRatio }: Result) => cpuRatio?.median.toFixed(2) ?? "" }]
      : []),
    ...(has("p99") ? [{ title: "p99", of: ({ p99 }: Result) => figure(p99?.median) }] : []),
    ...(has("serverMicros")
      ? [{ title: "server CPU µs", of: ({ serverMicros }: Result) => figure(serverMicros) }]
      : []),
    ...(has("clientMicros")
      ? [{ title: "client CPU µs", of: ({ clientMicros }: Result) => figure(clientMicros) }]
      : [])
  ]
}

const line = (name: string, cells: ReadonlyArray<string>) =>
  `${name.padEnd(34)}${cells.map((cell) => cell.padStart(15)).join("")}`

export const table = (row: Row, results: ReadonlyArray<Result>): string => {
  const all = columns(row, results)
  return [
    `${row.name}: ${row.title}`,
    line("", all.map(({ title }) => title)),
    ...results.map((result) => {
      if (result.absent !== undefined) return `${result.name.padEnd(34)}  left out: ${result.absent}`
      if (result.failure !== undefined) return `${result.name.padEnd(34)}  FAILED: ${result.failure}`
      return line(result.name, all.map(({ of }) => of(result)))
    })
  ].join("\n")
}

/** The chart of the README: one row of the table as bars, readable on a light and on a dark page. */
import type { Row } from "../rows/row.ts"
import type { Result } from "./turns.ts"

const [width, labelWidth, barWidth, barHeight, pitch, top] = [760, 220, 380, 18, 28, 64]

const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

// Text that can be read on white cannot on GitHub's dark grey, so there are two sets of colours.
const style = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .note { font-size: 11px; fill: #59636e }
  .ours { fill: #0969da }
  .floor { fill: #59636e }
  .other { fill: #afb8c1 }
  .one { stroke: #59636e; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .floor { fill: #9198a1 }
    .other { fill: #3d444d }
    .one { stroke: #9198a1 }
  }`

const kind = (name: string) => /^ours?\b/.test(name) ? "ours" : name.startsWith("plain") ? "floor" : "other"

/** Bars of the ratio to the floor, longest first. Systems without figures are left out. */
export const chart = (row: Row, results: ReadonlyArray<Result>, caption: string): string => {
  const bars = results
    .flatMap(({ name, ratio, value }) => ratio && value ? [{ name, ratio, value: value.median }] : [])
    .sort((a, b) => b.ratio.median - a.ratio.median)
  const longest = Math.max(1, ...bars.map(({ ratio }) => ratio.median))
  const scale = (ratio: number) => Math.max(1, (ratio / longest) * barWidth)
  const height = top + bars.length * pitch + 34
  const one = labelWidth + scale(1)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escape(row.title)}</title>`,
    `<style>${style}\n</style>`,
    `<text class="title" x="0" y="20">Acknowledged messages per second</text>`,
    `<text class="note" x="0" y="40">${escape(row.title)}; 1.00 is the plain node:net server</text>`,
    `<line class="one" x1="${one}" x2="${one}" y1="${top - 8}" y2="${top + bars.length * pitch}"/>`,
    ...bars.flatMap(({ name, ratio, value }, i) => {
      const y = top + i * pitch
      const text = `${ratio.median.toFixed(2)}  (${Math.round(value / 100) / 10}k/s)`
      return [
        `<text x="${labelWidth - 10}" y="${y + 14}" text-anchor="end">${escape(name)}</text>`,
        `<rect class="${kind(name)}" x="${labelWidth}" y="${y}" width="${
          scale(ratio.median).toFixed(1)
        }" height="${barHeight}" rx="2"/>`,
        `<text x="${(labelWidth + scale(ratio.median) + 8).toFixed(1)}" y="${y + 14}">${text}</text>`
      ]
    }),
    `<text class="note" x="0" y="${height - 10}">${escape(caption)}</text>`,
    "</svg>",
    ""
  ].join("\n")
}

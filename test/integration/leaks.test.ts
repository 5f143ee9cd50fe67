/** What an endpoint holds after much work is what it held before. Measured in a process of its own. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { sized } from "../utils/effort.ts"
import { figure } from "../utils/figure.ts"
import { fixture } from "../utils/programs.ts"
import type { Counts } from "../utils/resources.ts"

const program = await fixture("soak")

interface Held {
  readonly descriptors: Counts
  readonly handles: Counts
  readonly fibers: number
  readonly listeners: ReadonlyArray<readonly [string, number]>
  readonly warnings: ReadonlyArray<string>
  readonly bytes: number
}

interface Measured {
  readonly before: Held
  readonly after: Held
  /** Files below the home and the temporary directory, once all endpoints are closed. */
  readonly left: ReadonlyArray<string>
}

const soak = (what: "messages" | "cycles", count: number) =>
  Effect.callback<Measured>((resume) => {
    const child = spawn(
      process.execPath,
      ["--expose-gc", program, what, String(count)],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
    let text = ""
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part
    })
    child.once(
      "close",
      (code) => resume(code === 0 ? Effect.sync(() => JSON.parse(text)) : Effect.die(`the soak ended with ${code}`))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const MiB = 2 ** 20
// Half a minute of work for one core, many hours in the long run.
const patience = sized(300_000, 12 * 3_600_000)

const assertSame = ({ after, before, left }: Measured, work: string, maxGrowth: number) => {
  const { bytes: bytesBefore, ...heldBefore } = before
  const { bytes: bytesAfter, ...heldAfter } = after
  figure(`growth after ${work}: ${((bytesAfter - bytesBefore) / MiB).toFixed(2)} MiB`)
  assert.deepStrictEqual(heldAfter, heldBefore)
  assert.deepStrictEqual(heldAfter.warnings, [])
  assert.isBelow(bytesAfter - bytesBefore, maxGrowth)
  // The user's own directories, made once and kept.
  assert.deepStrictEqual(left, [".claude", ".claude/messaging-capabilities", `claude-code-socks-${process.getuid?.()}`])
}

describe("descriptors, handles, fibers, listeners and memory are back where they were", () => {
  const messages = sized(100_000, 10_000_000)
  // A leak of 40 bytes a message shows in the short run, where the engine itself moves by half a MiB either way.
  it.live(
    `after ${messages} messages, asks, failures and interruptions by both protocols`,
    () =>
      Effect.map(
        soak("messages", messages),
        (_) => assertSame(_, `${messages} messages`, Math.max(4 * MiB, messages / 1e6 * MiB))
      ),
    patience
  )

  const cycles = sized(500, 5_000)
  it.live(
    `after ${cycles} starts and stops`,
    () =>
      Effect.map(
        soak("cycles", cycles),
        (_) => assertSame(_, `${cycles} starts and stops`, Math.max(4 * MiB, cycles * 500))
      ),
    patience
  )
})

/** From the start of a process to its first ack, beside a Node that does nothing. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { bundle } from "../harness/bundle.ts"
import { launch, type Settings, stop } from "../harness/pairs.ts"
import * as processes from "../harness/processes.ts"
import * as stats from "../harness/stats.ts"
import { type Player, takeTurns } from "../harness/turns.ts"
import { ours } from "./contenders.ts"
import type { Row } from "./row.ts"

const repeats = ({ quick }: Settings) => quick ? 1 : 5

/** Milliseconds until the process has written something, or has ended where it writes nothing. */
const time = (args: ReadonlyArray<string>, until: "output" | "exit", environment: NodeJS.ProcessEnv) =>
  new Promise<number>((resolve, reject) => {
    const start = performance.now()
    let millis = 0
    const child = spawn(process.execPath, args, { env: environment, stdio: ["ignore", "pipe", "inherit"] })
    child.stdout.once("data", () => {
      if (until === "output") millis = performance.now() - start
    })
    child.once("error", reject)
    child.once("exit", (code) => {
      if (until === "exit") millis = performance.now() - start
      if (code === 0 && millis > 0) resolve(millis)
      else reject(new Error(`node ${args.join(" ")} ended with ${code}`))
    })
  })

/** The bundle, or why there is none. */
const program = (kind: "bundled" | "imports", settings: Settings) =>
  bundle("firstAck", kind, settings.library, settings.directory).then(
    (file) => ({ file, absent: undefined }),
    (error: unknown) => ({ file: "", absent: `no bundle: ${error instanceof Error ? error.message : String(error)}` })
  )

const cli = (library: string) => fileURLToPath(new URL(library.endsWith(".ts") ? "cli/bin.ts" : "cli/bin.js", library))

export const start: Row = {
  name: "start",
  title: "from process start: `node -e 0` and the command line to exit, the programs to the first ack",
  unit: "ms",
  better: "less",
  run: async (settings) => {
    const [bundled, imports] = [await program("bundled", settings), await program("imports", settings)]
    const pair = await launch({ ...ours, client: "floor" }, settings)
    const { socketPath } = pair.target
    const environment = processes.environment(pair.directory, settings)
    const player = (name: string, args: ReadonlyArray<string>, until: "output" | "exit", absent?: string): Player => ({
      name,
      absent,
      play: async () => {
        const times: Array<number> = []
        for (let i = 0; i < repeats(settings); i++) times.push(await time(args, until, environment))
        return { value: stats.spread(times).median }
      }
    })
    try {
      return await takeTurns(
        [
          player("node -e 0", ["-e", "0"], "exit"),
          player("layer, bundled", [bundled.file, socketPath], "output", bundled.absent),
          player("layer, not bundled", [imports.file, socketPath], "output", imports.absent),
          player("effect-messaging send", [cli(settings.library), "send", "--to", socketPath, "hello"], "exit")
        ],
        settings
      )
    } finally {
      await stop(pair)
    }
  }
}

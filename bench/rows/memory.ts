/** Memory of the server for each connection that has sent one message and is idle. */
import { type Contender, launch, select, type Settings, stop } from "../harness/pairs.ts"
import { takeTurns } from "../harness/turns.ts"
import { floor, ourServer1, ourServer2 } from "./contenders.ts"
import type { Row } from "./row.ts"

const contenders = [floor, ourServer1, ourServer2]

/** Resident memory is not given back, so each turn has a process of its own. */
const measure = async (contender: Contender, settings: Settings) => {
  const connections = settings.quick ? 200 : 1_000
  // The space for new objects grows by several MiB with whatever is allocated, and is not given back.
  const pair = await launch(contender, settings, { nodeOptions: ["--expose-gc", "--max-semi-space-size=1"] })
  const { client, server, target } = pair
  const connect = async (connections: number) => {
    await server.begin()
    await client.connect(target, { connections, inFlight: connections, bytes: 100 })
    await server.end()
  }
  try {
    // What the first connections cost once, compiled code above all, is not theirs.
    await connect(100)
    await client.disconnect()
    const before = await server.memory()
    await connect(connections)
    return { value: (await server.memory() - before) / connections / 1_024 }
  } finally {
    await stop(pair)
  }
}

export const memory: Row = {
  name: "memory",
  title: "memory of the server for each idle, authenticated connection, of 1,000",
  unit: "KiB",
  better: "less",
  run: (settings) =>
    takeTurns(
      select(contenders, settings).map((contender) => ({
        name: contender.name,
        play: () => measure(contender, settings)
      })),
      settings
    )
}

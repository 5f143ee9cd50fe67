/** The rows of the table, in its order. */
import { memory } from "./memory.ts"
import { ask, churn, growing, latency, manyClients, serverAlone, throughput } from "./messages.ts"
import type { Row } from "./row.ts"
import { start } from "./start.ts"

export const rows: ReadonlyArray<Row> = [
  ...throughput,
  serverAlone,
  latency,
  churn,
  ...manyClients,
  ask,
  memory,
  start,
  ...growing
]

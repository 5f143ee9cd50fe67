/** Rows about messages over connections that stay. */
import {
  effectRpc,
  floor,
  oncePerMessage,
  ours,
  ourServer1,
  ourServer2,
  own,
  peers,
  plainHandshake,
  tuned
} from "./contenders.ts"
import { loadRow, type Row } from "./row.ts"

const inFlight = 256

export const throughput: ReadonlyArray<Row> = [
  loadRow({
    name: "throughput-100",
    title: `acknowledged messages of 100 B, ${inFlight} in flight, one connection`,
    load: { connections: 1, inFlight, bytes: 100 },
    contenders: [
      ...own,
      { ...ours, name: "ours, one at a time", load: { inFlight: 1 } },
      oncePerMessage,
      ...peers
    ]
  }),
  loadRow({
    name: "throughput-4k",
    isLong: true,
    title: `acknowledged messages of 4 KiB, ${inFlight} in flight, one connection`,
    load: { connections: 1, inFlight, bytes: 4_096 },
    contenders: [...own, ...peers]
  }),
  loadRow({
    name: "throughput-32k",
    title: `acknowledged messages of 32 KiB, ${inFlight} in flight, one connection`,
    load: { connections: 1, inFlight, bytes: 32_768 },
    contenders: [...own, ...peers]
  })
]

const cClient = { client: "c", needs: "gcc" }

export const serverAlone = loadRow({
  name: "server-100",
  title: `the server alone: messages of 100 B in protocol 1 from a load generator in C, ${inFlight} in flight`,
  load: { connections: 1, inFlight, bytes: 100 },
  contenders: [
    { ...floor, ...cClient },
    { ...tuned, ...cClient },
    { ...ourServer1, name: "our server", ...cClient },
    { name: "C server that only counts lines", server: "c", ...cClient }
  ]
})

export const latency = loadRow({
  name: "latency",
  title: "from request to ack, 100 B, one at a time, both processes on one core; median",
  load: { connections: 1, inFlight: 1, bytes: 100 },
  contenders: [...own, ...peers],
  options: { pinned: true }
})

export const manyClients: ReadonlyArray<Row> = [10, 100].map((connections) =>
  loadRow({
    name: `clients-${connections}`,
    isLong: connections < 100,
    title: `acknowledged messages of 100 B, ${connections} connections of one process, ${inFlight} in flight in all`,
    load: { connections, inFlight, bytes: 100 },
    contenders: own
  })
)

export const ask = loadRow({
  name: "ask",
  title: `questions answered by a handler, 100 B, ${inFlight} in flight; the floor's and the rpc's ack is the answer`,
  load: { connections: 1, inFlight, bytes: 100, ask: true },
  contenders: [floor, { ...ours, serve: { answers: true } }, effectRpc]
})

export const churn = loadRow({
  name: "connections",
  title: "connect, send, ack, close; 100 B, 16 at once",
  load: { connections: 16, inFlight: 16, bytes: 100 },
  contenders: [
    { ...floor, client: "once" },
    { ...tuned, client: "once" },
    { ...ourServer1, client: "once" },
    plainHandshake,
    { ...ourServer2, client: "once2" },
    { ...ours, client: "oursOnce" }
  ]
})

const counts = (quick: boolean, all: ReadonlyArray<number>) => quick ? all.slice(0, 2) : all

/** Rows whose first contender is not the floor but ours with little. */
const growth = (
  name: string,
  title: string,
  all: ReadonlyArray<number>,
  contender: (count: number) => Parameters<typeof loadRow>[0]["contenders"][number]
): Row => {
  const row = (quick: boolean) =>
    loadRow({
      name,
      title,
      isLong: name.endsWith("1"),
      load: { connections: 1, inFlight, bytes: 100 },
      contenders: counts(quick, all).map(contender)
    })
  return { ...row(false), run: (settings) => row(settings.quick).run(settings) }
}

const entries = [10, 1_000, 10_000, 100_000]
const directory = [10, 200, 2_000]

export const growing: ReadonlyArray<Row> = [
  growth("waiting-1", "entries waiting in the inbox, protocol 1, as ratio to the fewest", entries, (waiting) => ({
    ...ourServer1,
    name: `${waiting} waiting`,
    serve: { waiting }
  })),
  growth(
    "waiting-2",
    "entries waiting in the inbox, ours at both ends, as ratio to the fewest",
    entries,
    (waiting) => ({
      ...ours,
      name: `${waiting} waiting`,
      serve: { waiting }
    })
  ),
  growth("peers-1", "peers in the directory, our client in protocol 1, as ratio to the fewest", directory, (peers) => ({
    ...ours,
    name: `${peers} peers`,
    serve: { peers, protocol1: true },
    load: { inFlight: 64 }
  })),
  growth("peers-2", "peers in the directory, ours at both ends, as ratio to the fewest", directory, (peers) => ({
    ...ours,
    name: `${peers} peers`,
    serve: { peers }
  }))
]

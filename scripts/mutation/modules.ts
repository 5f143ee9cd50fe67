/** The modules whose tests are judged, and the test files that concern each: its own first, the slow ones last. */
const capability = [
  "test/Capability.test.ts",
  "test/Capability.faults.test.ts",
  "test/Capability.secrets.test.ts",
  "test/Capability.trust.test.ts",
  "test/leftovers.test.ts",
  "test/republication.race.test.ts",
  "test/integration/republication.test.ts"
]

const connection = [
  "test/Connection.test.ts",
  "test/Connection.outcomes.test.ts",
  "test/Connection.protocol2.test.ts",
  "test/Connection.refusals.test.ts",
  "test/Connection.deadlines.test.ts",
  "test/Connection.counts.test.ts"
]

const sockets = [
  "test/NodeTransport.dial.test.ts",
  "test/NodeTransport.directories.test.ts",
  "test/NodeTransport.trust.test.ts",
  "test/NodeTransport.failure.test.ts",
  "test/NodeTransport.races.test.ts",
  "test/NodeTransport.handles.test.ts",
  "test/NodeTransport.test.ts",
  "test/NodeTransport.path.test.ts",
  "test/leftovers.test.ts",
  "test/republication.race.test.ts",
  "test/integration/republication.test.ts"
]

export const modules: Record<string, { readonly source: string; readonly tests: ReadonlyArray<string> }> = {
  Framing: {
    source: "src/Framing.ts",
    tests: [
      "test/Framing.test.ts",
      "test/Framing.memory.test.ts",
      "test/Framing.nodes.test.ts",
      "test/Connection.test.ts",
      "test/Connection.protocol2.test.ts",
      "test/Messaging.test.ts"
    ]
  },
  Connection: {
    source: "src/Connection.ts",
    tests: [...connection, "test/internal/accepted.test.ts", "test/observability.test.ts"]
  },
  accepted: {
    source: "src/internal/accepted.ts",
    tests: ["test/internal/accepted.test.ts", ...connection, "test/internal/peerPool.test.ts"]
  },
  protocol1: { source: "src/internal/protocol1.ts", tests: connection },
  protocol2: { source: "src/internal/protocol2.ts", tests: connection },
  deadlines: {
    source: "src/internal/deadlines.ts",
    tests: ["test/internal/deadlines.test.ts", "test/Connection.deadlines.test.ts", ...connection]
  },
  outbox: { source: "src/internal/outbox.ts", tests: ["test/internal/outbox.test.ts", ...connection] },
  wire: { source: "src/internal/wire.ts", tests: ["test/internal/wire.test.ts", ...connection] },
  peerPool: { source: "src/internal/peerPool.ts", tests: ["test/internal/peerPool.test.ts"] },
  Capability: { source: "src/Capability.ts", tests: capability },
  capabilityRecord: {
    source: "src/internal/capabilityRecord.ts",
    tests: ["test/internal/capabilityRecord.test.ts", "test/Capability.test.ts", "test/Capability.trust.test.ts"]
  },
  Address: { source: "src/Address.ts", tests: ["test/Address.test.ts", "test/Layers.test.ts"] },
  Inbox: {
    source: "src/Inbox.ts",
    tests: [
      "test/Inbox.test.ts",
      "test/Inbox.consume.test.ts",
      "test/Inbox.model.test.ts",
      "test/Connection.outcomes.test.ts",
      "test/observability.test.ts"
    ]
  },
  storedEntry: {
    source: "src/internal/storedEntry.ts",
    tests: [
      "test/internal/storedEntry.test.ts",
      "test/Inbox.consume.test.ts",
      "test/Inbox.test.ts",
      "test/Connection.outcomes.test.ts"
    ]
  },
  consumer: {
    source: "src/internal/consumer.ts",
    tests: ["test/internal/consumer.test.ts", "test/Inbox.consume.test.ts", "test/observability.test.ts"]
  },
  NodeTransport: { source: "src/NodeTransport.ts", tests: [...sockets, "test/Layers.test.ts"] },
  socketPath: {
    source: "src/internal/socketPath.ts",
    tests: ["test/internal/socketPath.test.ts", ...sockets, "test/Layers.test.ts"]
  },
  acceptor: { source: "src/internal/acceptor.ts", tests: ["test/internal/acceptor.test.ts", ...sockets] },
  nodeSocket: {
    source: "src/internal/nodeSocket.ts",
    tests: ["test/internal/nodeSocket.test.ts", "test/NodeTransport.test.ts", "test/NodeTransport.handles.test.ts"]
  },
  pathLock: {
    source: "src/internal/pathLock.ts",
    tests: ["test/internal/pathLock.test.ts", "test/NodeTransport.path.test.ts"]
  },
  privateFiles: {
    source: "src/internal/privateFiles.ts",
    tests: [
      "test/internal/privateFiles.test.ts",
      "test/NodeTransport.trust.test.ts",
      "test/Capability.trust.test.ts",
      "test/NodeTransport.failure.test.ts",
      "test/Capability.test.ts"
    ]
  },
  keeper: {
    source: "src/internal/keeper.ts",
    tests: [
      "test/internal/keeper.test.ts",
      "test/republication.race.test.ts",
      "test/integration/republication.test.ts"
    ]
  }
}

/** Who takes part in the rows about messages. The first is the floor of its row. */
import type { Contender } from "../harness/pairs.ts"

export const floor: Contender = { name: "plain node:net (floor)", server: "floor", client: "floor" }
export const tuned: Contender = { name: "plain node:net, tuned", server: "tuned", client: "floor" }
export const ours: Contender = { name: "ours, both ends", server: "ours", client: "ours" }
export const ourServer1: Contender = { name: "our server, plain protocol 1", server: "ours", client: "floor" }
export const ourServer2: Contender = { name: "our server, plain protocol 2", server: "ours", client: "plain2" }

/** A connection for each message, with the handshake of protocol 2, and a server that does nothing else. */
export const plainHandshake: Contender = {
  name: "plain node:net, handshake only",
  server: "handshake",
  client: "once2"
}

export const own: ReadonlyArray<Contender> = [floor, tuned, ours, ourServer1, ourServer2]

export const effectRpc: Contender = { name: "Effect rpc", server: "effectRpc", client: "effectRpc" }

export const peers: ReadonlyArray<Contender> = [
  { ...effectRpc, isPeer: true },
  { name: "node-ipc", server: "nodeIpc", client: "nodeIpc", needs: "node-ipc", isPeer: true },
  { name: "vscode-jsonrpc", server: "jsonrpc", client: "jsonrpc", needs: "vscode-jsonrpc/node", isPeer: true },
  { name: "zeromq", server: "zeromq", client: "zeromq", needs: "zeromq", isPeer: true },
  { name: "gRPC, streamed", server: "grpc", client: "grpc", needs: "@grpc/grpc-js", isPeer: true }
]

/** What the plain client loses by connecting for each message; 16 at once, since each needs a connection. */
export const oncePerMessage: Contender = {
  name: "a connection for each message",
  server: "floor",
  client: "once",
  load: { inFlight: 16 }
}

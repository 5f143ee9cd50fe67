/** A new connection, and a handshake of protocol 2, for each message. */
import { connectOnce } from "./plainClient.ts"
import { protocol2 } from "./wire.ts"

export const connect = connectOnce(protocol2)

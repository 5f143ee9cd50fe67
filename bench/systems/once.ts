/** A new connection for each message, as protocol 1's own clients make: connect, send with the token, ack, close. */
import { connectOnce } from "./plainClient.ts"
import { protocol1 } from "./wire.ts"

export const connect = connectOnce(protocol1)

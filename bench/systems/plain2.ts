/** A client of protocol 2 without the library, to see our server apart from our client. */
import { connectPlain } from "./plainClient.ts"
import { protocol2 } from "./wire.ts"

export const connect = connectPlain(protocol2)

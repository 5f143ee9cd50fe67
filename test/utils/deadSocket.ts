import { Effect } from "effect"
import * as fs from "node:fs"
import * as net from "node:net"

/** A socket file with nobody behind it: its server was bound under another name and is gone. */
export const deadSocket = (socketPath: string) =>
  Effect.callback<void>((resume) => {
    const server = net.createServer()
    const bound = `${socketPath}-`
    server.listen(bound, () => {
      fs.linkSync(bound, socketPath)
      server.close(() => resume(Effect.void))
    })
  })

/**
 * What the plain servers share, written with `node:net` alone: newline framing, JSON, a token compared in constant time,
 * an inbox bounded by entries and bytes, an ack with id and time. The floor and the tuned floor differ in `Ways`.
 */
import * as crypto from "node:crypto"
import * as net from "node:net"
import * as path from "node:path"
import { inboxLimits, type Served, type ServeOptions } from "../harness/system.ts"

const maxFrameBytes = 65_536

/** How a server does what it may do in more than one way. */
export interface Ways {
  /** A function that tells whether a token is the right one; a new one for each connection. */
  readonly makeMatcher: (token: string) => (given: string) => boolean
  readonly ack: (id: string, now: string) => string
  readonly onePerChunk: boolean
}

interface Frame {
  readonly type: string
  readonly data?: string | undefined
  readonly meta?: { authToken?: string | undefined } | undefined
}

const iso = () => new Date().toISOString()

interface Entry {
  readonly id: string
  readonly message: Frame
  readonly receivedAt: number
  readonly bytes: number
}

/** Bounded by entries and bytes; the `waiting` oldest stay. */
const makeInbox = (waiting: number) => {
  const entries: Array<Entry> = []
  let bytes = 0
  let nextId = 1
  const offer = (message: Frame, size: number): string | undefined => {
    if (entries.length >= inboxLimits.entries || bytes + size > inboxLimits.bytes) return undefined
    const id = `uds-${nextId++}`
    entries.push({ id, message, receivedAt: Date.now(), bytes: size })
    bytes += size
    return id
  }
  for (let i = 0; i < waiting; i++) offer({ type: "text", data: "waiting" }, 100)
  const drain = () => {
    for (const entry of entries.splice(waiting)) bytes -= entry.bytes
  }
  return { offer, drain }
}

const isFrame = (value: unknown): value is Frame =>
  typeof value === "object" && value !== null && "type" in value && typeof value.type === "string"

export const servePlain = (ways: Ways) => async (options: ServeOptions): Promise<Served> => {
  const token = crypto.randomBytes(32).toString("hex")
  const socketPath = path.join(options.directory, "plain.sock")
  const inbox = makeInbox(options.waiting ?? 0)
  const open = new Set<net.Socket>()
  const server = net.createServer((conn) => {
    const matches = ways.makeMatcher(token)
    let rest = ""
    open.add(conn)
    conn.once("close", () => open.delete(conn))
    conn.on("error", () => conn.destroy())
    // Keeps a multi-byte character whole that a chunk's edge cuts.
    conn.setEncoding("utf8")

    const answer = (line: string, now: string): string | undefined => {
      const bytes = Buffer.byteLength(line)
      if (bytes > maxFrameBytes) return undefined
      const frame: unknown = JSON.parse(line)
      if (!isFrame(frame) || !matches(frame.meta?.authToken ?? "")) return undefined
      delete frame.meta?.authToken
      const id = inbox.offer(frame, bytes)
      return id === undefined ? undefined : ways.ack(id, now)
    }

    const refuse = () => {
      conn.destroy()
    }

    conn.on("data", (text: string) => {
      const buffered = rest + text
      const now = ways.onePerChunk ? iso() : ""
      let acks = ""
      let start = 0
      for (let end = buffered.indexOf("\n"); end !== -1; end = buffered.indexOf("\n", start)) {
        const ack = answer(buffered.slice(start, end), ways.onePerChunk ? now : iso())
        if (ack === undefined) return refuse()
        acks += ack
        start = end + 1
      }
      rest = buffered.slice(start)
      if (rest.length > maxFrameBytes) return refuse()
      // One write for each chunk in both: with one for each ack the floor would be too easy.
      if (acks !== "") conn.write(acks)
    })
  })
  await new Promise<void>((resolve) => server.listen(socketPath, 1_024, resolve))
  return {
    target: { socketPath, token },
    drain: inbox.drain,
    close: async () => {
      for (const conn of open) conn.destroy()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

/** Compares as bytes, in constant time. */
export const matchesToken = (token: string) => {
  const expected = Buffer.from(token)
  return (given: string) => {
    const bytes = Buffer.from(given)
    return bytes.length === expected.length && crypto.timingSafeEqual(bytes, expected)
  }
}

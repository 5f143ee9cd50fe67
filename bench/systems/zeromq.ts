/** zeromq over ipc: a dealer that sends JSON to a router, which answers each with an ack. No token, no bounds. */
import * as path from "node:path"
import { drive, type Link } from "../harness/drive.ts"
import { importPeer } from "../harness/peers.ts"
import { type Load, message, type Served, type ServeOptions, type Session, type Target } from "../harness/system.ts"

interface Socket extends AsyncIterable<ReadonlyArray<Buffer>> {
  readonly bind: (address: string) => Promise<void>
  readonly connect: (address: string) => void
  readonly close: () => void
  readonly send: (parts: Buffer | string | ReadonlyArray<Buffer | string>) => Promise<void>
}

interface Zeromq {
  readonly Router: new(options: object) => Socket
  readonly Dealer: new(options: object) => Socket
}

const zmq = await importPeer<Zeromq>("zeromq")

// Above what is ever in flight, so that nothing is dropped.
const options = { sendHighWaterMark: 10_000, receiveHighWaterMark: 10_000, linger: 0 }

/** Only one `send` may wait at a time; the others queue behind it. */
const sendInOrder = (socket: Socket) => {
  let last: Promise<void> = Promise.resolve()
  return (parts: Parameters<Socket["send"]>[0]) => {
    last = last.then(() => socket.send(parts))
  }
}

export const serve = async ({ directory }: ServeOptions): Promise<Served> => {
  const socketPath = path.join(directory, "zmq.sock")
  const router = new zmq.Router(options)
  await router.bind(`ipc://${socketPath}`)
  const send = sendInOrder(router)
  let entries: Array<unknown> = []
  let nextId = 1
  const receive = async () => {
    for await (const [peer, frame] of router) {
      if (peer === undefined || frame === undefined) continue
      entries.push(JSON.parse(frame.toString()))
      send([peer, JSON.stringify({ id: `uds-${nextId++}`, ts: new Date().toISOString() })])
    }
  }
  void receive()
  return {
    target: { socketPath, token: "" },
    drain: () => {
      entries = []
    },
    close: async () => router.close()
  }
}

const openLink = async ({ socketPath }: Target, bytes: number): Promise<Link> => {
  const dealer = new zmq.Dealer(options)
  dealer.connect(`ipc://${socketPath}`)
  const send = sendInOrder(dealer)
  const data = message(bytes)
  const link: Link = {
    send: (count) => {
      for (let i = 0; i < count; i++) send(JSON.stringify({ type: "text", data }))
    },
    onAcks: () => {},
    close: async () => dealer.close()
  }
  const receive = async () => {
    for await (const [frame] of dealer) {
      if (frame === undefined) continue
      JSON.parse(frame.toString())
      link.onAcks(1)
    }
  }
  void receive()
  return link
}

export const connect = (target: Target, load: Load): Promise<Session> => drive(load, () => openLink(target, load.bytes))

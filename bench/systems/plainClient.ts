/** The plain client: frames of one protocol over connections that stay, or over a new one for each message. */
import { drive, type Link, repeat } from "../harness/drive.ts"
import { type Load, message, type Session, type Target } from "../harness/system.ts"
import { dial, expectAck, hangUp, type Protocol, readLines } from "./wire.ts"

/** Ends the process, and so the measurement, which would wait for ever. */
const onLost = () => {
  throw new Error("the server closed the connection")
}

/** Sends what is asked for in one write, and parses each ack. */
const openLink = async (protocol: Protocol, target: Target, data: string): Promise<Link> => {
  const socket = await dial(target.socketPath)
  socket.once("close", onLost)
  const link: Link = {
    send: (count) => {
      let frames = ""
      for (let i = 0; i < count; i++) frames += protocol.frame(target, data)
      socket.write(frames)
    },
    onAcks: () => {},
    close: () => {
      socket.off("close", onLost)
      return hangUp(socket)
    }
  }
  let handshake = protocol.hello?.(target)
  let acks = 0
  const onLine = (line: string) => {
    if (handshake !== undefined) {
      socket.write(handshake.answer(line) + protocol.frame(target, data))
      handshake = undefined
      return
    }
    expectAck(line)
    acks++
  }
  readLines(socket, onLine, () => {
    const count = acks
    acks = 0
    if (count > 0) link.onAcks(count)
  })
  await new Promise<void>((resolve) => {
    link.onAcks = () => resolve()
    socket.write(handshake?.first ?? protocol.frame(target, data))
  })
  return link
}

export const connectPlain = (protocol: Protocol) => (target: Target, load: Load): Promise<Session> =>
  drive(load, () => openLink(protocol, target, message(load.bytes)))

/** Connect, send, ack, close: one message. */
const once = async (protocol: Protocol, target: Target, data: string) => {
  const socket = await dial(target.socketPath)
  let handshake = protocol.hello?.(target)
  await new Promise<void>((resolve) => {
    readLines(socket, (line) => {
      if (handshake === undefined) {
        expectAck(line)
        return resolve()
      }
      socket.write(handshake.answer(line) + protocol.frame(target, data))
      handshake = undefined
    })
    socket.write(handshake?.first ?? protocol.frame(target, data))
  })
  await hangUp(socket)
}

export const connectOnce = (protocol: Protocol) => async (target: Target, load: Load): Promise<Session> =>
  repeat(load, () => once(protocol, target, message(load.bytes)))

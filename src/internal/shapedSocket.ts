/**
 * A dialled connection whose frames are delayed, lost or cut off, each as it was judged when it was sent. It deals in
 * whole frames: what has no LF yet waits for it, or for the end.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { Buffer } from "node:buffer"

/** What became of a frame on its way. */
export interface Event {
  /** Whole milliseconds since the network was built, on Effect's clock. */
  readonly at: number
  /** Counted from 1 in the order of the dials. */
  readonly connection: number
  /** The path that was dialled. */
  readonly to: string
  /** A `request` goes to the dialled endpoint, a `reply` comes from it. */
  readonly direction: "request" | "reply"
  /** The frame's type, or `ack` for the reply that tells the id of an entry. */
  readonly frame: string
  /** What became of the frame: it arrived, it was lost, or the connection ended in its place. */
  readonly fate: "delivered" | "dropped" | "cut"
}

export interface Fate {
  /** Milliseconds under way. */
  readonly delay: number
  readonly end: Event["fate"]
}

/** Called once for each frame, in order. */
export type Judge = (isAck: boolean) => Fate

export interface Options {
  readonly connection: number
  readonly to: string
  /** Milliseconds on Effect's clock. */
  readonly builtAt: number
  readonly judgeRequest: Judge
  readonly judgeReply: Judge
  readonly note: (event: Event) => void
}

interface UnderWay {
  readonly bytes: Buffer
  readonly frame: string
  readonly arrivesAt: number
  readonly end: Event["fate"]
}

/** Frames of one direction under way at once; a writer waits beyond it. */
const framesUnderWay = 1_024

const LF = 0x0a

const ended = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000 }) })
const aborted = new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1006 }) })
const gone = new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: "the connection is closed" }) })

const typeOf = (bytes: Buffer): string => {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"))
    if (!Predicate.hasProperty(value, "type") || !Predicate.isString(value.type)) return "unknown"
    const meta = Predicate.hasProperty(value, "meta") ? value.meta : undefined
    return value.type === "response" && Predicate.hasProperty(meta, "id") ? "ack" : value.type
  } catch {
    return "unknown"
  }
}

/** One direction. `offer` and `end` belong to the sender's side; `run` carries to `deliver` until what `end` gave. */
const makeLane = Effect.fnUntraced(function*(
  judge: Judge,
  note: (frame: string, fate: Event["fate"]) => void,
  cut: Effect.Effect<void>
) {
  const clock = yield* Clock.Clock
  const queue = yield* Queue.bounded<UnderWay, Socket.SocketError>(framesUnderWay)
  // What was sent of a frame that has no end yet, and when the last frame arrives. Only the sender touches them.
  let partial = Buffer.alloc(0)
  let lastArrival = 0

  const send = (bytes: Buffer) =>
    Effect.suspend(() => {
      const frame = typeOf(bytes)
      const { delay, end } = judge(frame === "ack")
      lastArrival = Math.max(lastArrival, clock.currentTimeMillisUnsafe() + delay)
      return Queue.offer(queue, { bytes, frame, arrivesAt: lastArrival, end })
    })
  const offer = Effect.fnUntraced(function*(chunk: Uint8Array | string) {
    partial = Buffer.concat([partial, Buffer.from(chunk)])
    for (let at = partial.indexOf(LF); at >= 0; at = partial.indexOf(LF)) {
      const bytes = partial.subarray(0, at + 1)
      partial = partial.subarray(at + 1)
      if (!(yield* send(bytes))) return yield* gone
    }
  })
  const run = (deliver: (bytes: Buffer) => Effect.Effect<unknown>) =>
    Effect.forever(Effect.gen(function*() {
      const { arrivesAt, bytes, end, frame } = yield* Queue.take(queue)
      const left = arrivesAt - clock.currentTimeMillisUnsafe()
      if (left > 0) yield* Effect.sleep(left)
      note(frame, end)
      if (end === "delivered") yield* deliver(bytes)
      if (end === "cut") yield* cut
    }))
  return {
    offer,
    run,
    /** No more comes; what is under way still arrives. */
    end: (error: Socket.SocketError) =>
      Effect.andThen(partial.length > 0 ? send(partial) : Effect.void, Queue.fail(queue, error)),
    /** What is under way is lost. */
    shutdown: Queue.shutdown(queue)
  }
})

/** `real` with both directions judged; lasts as long as the scope. `cut` ends it both ways. */
export const connectThrough: (
  real: Socket.Socket,
  options: Options
) => Effect.Effect<
  { readonly shaped: Socket.Socket; readonly cut: Effect.Effect<void> },
  never,
  Scope.Scope
> = Effect.fnUntraced(function*(real, { builtAt, connection, judgeReply, judgeRequest, note, to }) {
  const clock = yield* Clock.Clock
  const arrived = yield* Queue.bounded<Uint8Array, Socket.SocketError>(framesUnderWay)
  const inner = yield* Effect.orDie(Effect.all([Socket.readerBytes(real), real.writer]))
  const [pull, writer] = inner
  const cut: Effect.Effect<void> = Effect.suspend(() =>
    Effect.all([
      requests.shutdown,
      replies.shutdown,
      Queue.fail(arrived, aborted),
      Effect.ignore(writer.write(new Socket.CloseEvent()))
    ], { discard: true })
  )
  const noteAs = (direction: Event["direction"]) => (frame: string, fate: Event["fate"]) =>
    note({ at: Math.round(clock.currentTimeMillisUnsafe() - builtAt), connection, to, direction, frame, fate })
  const requests = yield* makeLane(judgeRequest, noteAs("request"), cut)
  const replies = yield* makeLane(judgeReply, noteAs("reply"), cut)

  const reading = Effect.forever(
    Effect.flatMap(pull, (chunks) => Effect.forEach(chunks, replies.offer, { discard: true }))
  )
  yield* Effect.forkScoped(Effect.catch(reading, replies.end))
  yield* Effect.forkScoped(
    Effect.catch(replies.run((bytes) => Queue.offer(arrived, bytes)), (error) => Queue.fail(arrived, error))
  )
  // The endpoint hears of the end of what was written only behind the last frame of it.
  yield* Effect.forkScoped(
    Effect.catch(
      requests.run((bytes) => Effect.ignore(writer.write(bytes))),
      () => Effect.scoped(Effect.ignore(real.writer))
    )
  )

  const write: Socket.Writer["write"] = (chunk) => Socket.isCloseEvent(chunk) ? cut : requests.offer(chunk)
  const shaped = Socket.make({
    reader: Effect.acquireRelease(
      Effect.succeed({ pull: Queue.takeAll(arrived), upgrade: Socket.SocketUpgradeError.unsupported }),
      () => Queue.fail(arrived, aborted)
    ),
    writer: Effect.acquireRelease(
      Effect.succeed({ write, writeAll: (chunks) => Effect.forEach(chunks, write, { discard: true }) }),
      () => requests.end(ended)
    )
  })
  return { shaped, cut }
})

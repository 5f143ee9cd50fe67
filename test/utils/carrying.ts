/** Requests that note how they ended, a link's view of a peer that carries them, and a socket that notes its writes. */
import { Deferred, Effect, Exit, Option } from "effect"
import { Socket } from "effect/socket"
import type { Answer, Carried, Request } from "../../src/internal/request.ts"
import type { MessagingError } from "../../src/MessagingError.ts"

export interface Noted extends Request {
  /** Each end it was told of; there should be one at most. */
  readonly ends: ReadonlyArray<Exit.Exit<Answer, MessagingError>>
  /** Waits for the first. */
  readonly exit: Effect.Effect<Exit.Exit<Answer, MessagingError>>
}

export interface RequestOptions extends Partial<Pick<Request, "deadline" | "frame" | "message" | "until">> {
  readonly ordinal?: number
  readonly retryWhenFull?: boolean
  /** Runs in the step that tells the end. */
  readonly onEnd?: (() => void) | undefined
}

let counted = 0

/** The frame is the id in quotes unless another is given, and the ordinal counts up. */
export const makeRequest = (
  messageId: string,
  {
    deadline = Infinity,
    frame = `"${messageId}"\n`,
    message = { type: "text", data: messageId },
    onEnd,
    ordinal = ++counted,
    retryWhenFull = false,
    until = "stored"
  }: RequestOptions = {}
): Noted => {
  const ends: Array<Exit.Exit<Answer, MessagingError>> = []
  const first = Deferred.makeUnsafe<Exit.Exit<Answer, MessagingError>>()
  const end = (exit: Exit.Exit<Answer, MessagingError>) => {
    ends.push(exit)
    Deferred.doneUnsafe(first, Exit.succeed(exit))
    onEnd?.()
  }
  return {
    ordinal,
    messageId,
    message,
    frame,
    bytes: Buffer.byteLength(frame),
    until,
    retryWhenFull,
    deadline,
    id: Option.none(),
    sent: 0,
    place: 0,
    mayBeStored: false,
    succeed: (answer) => end(Exit.succeed(answer)),
    fail: (error) => end(Exit.fail(error)),
    ends,
    exit: Deferred.await(first)
  }
}

/** What a peer shows a link: the requests it was handed, until they are told their end. */
export const makeCarried = () => {
  const inFlight = new Map<number, Request>()
  let proceeded = 0
  const carried: Carried = {
    inFlight,
    succeed: (request, answer) => {
      inFlight.delete(request.ordinal)
      request.succeed(answer)
    },
    fail: (request, error) => {
      inFlight.delete(request.ordinal)
      request.fail(error)
    },
    proceed: () => {
      proceeded++
    }
  }
  const idsInFlight = () => Array.from(inFlight.values(), ({ messageId }) => messageId)
  return {
    carried,
    idsInFlight,
    proceeded: () => proceeded,
    add: (request: Request) => {
      inFlight.set(request.ordinal, request)
    },
    /** As when nobody waits for it any more. */
    forget: (request: Request) => {
      inFlight.delete(request.ordinal)
    },
    /** As a client finds the request that an id names, here whatever the ids are. */
    ordinalOf: (text: string, start = 0, end = text.length) => {
      const id = text.slice(start, end)
      return [...inFlight.values()].find(({ messageId }) => messageId === id)?.ordinal
    }
  }
}

/** The socket, and what has been written to it. */
export const noting = (socket: Socket.Socket) => {
  const writes: Array<string> = []
  const noted = Socket.make({
    reader: socket.reader,
    writer: Effect.map(socket.writer, ({ write, writeAll }) => ({
      write: (chunk) => {
        writes.push(String(chunk))
        return write(chunk)
      },
      writeAll
    }))
  })
  return { noted, writes }
}

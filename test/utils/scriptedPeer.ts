/** A peer whose connections the test plays: what each is handed, what it answers, and how it ends. */
import { Clock, Deferred, Effect, FiberSet, Option, type Scope } from "effect"
import * as peers from "../../src/internal/peer.ts"
import type { Answer, Carried, End, Link, Request } from "../../src/internal/request.ts"
import { defaults, type Values } from "../../src/Limits.ts"
import type { MessagingError } from "../../src/MessagingError.ts"
import { makeRequest, type Noted, type RequestOptions } from "./carrying.ts"

export const socketPath = "/run/memory/messaging.sock"

export interface Connection {
  /** The ids of the requests it was handed, in order. */
  readonly handed: ReadonlyArray<string>
  readonly isOpen: () => boolean
  /** The requests it carries now, in order. */
  readonly inFlight: () => ReadonlyArray<Request>
  readonly answer: (...ids: ReadonlyArray<string>) => void
  /** Answers a little later, if the request is on this connection then. */
  readonly answerSoon: (id: string) => void
  readonly ack: (id: string, entry: string) => void
  readonly refuse: (id: string, error: MessagingError) => void
  /** Something arrived that answers nothing. */
  readonly hear: () => void
  readonly end: (end: End) => void
  /** Bytes the socket has not taken. */
  backlog: number
}

export interface ScriptedOptions {
  readonly limits?: Partial<Values>
  readonly isRepeatable?: boolean
  /** Runs before each connection is made. */
  readonly connect?: Effect.Effect<void, MessagingError, Scope.Scope>
  /** Runs in the step that hands a request over. */
  readonly onHandOver?: (id: string, connection: Connection) => void
  /** Runs in the step in which the peer ends. */
  readonly onEnd?: () => void
}

export const answerTo = (id: string): Answer => ({ id: Option.none(), data: `to ${id}` })

export const makeScripted = Effect.fnUntraced(function*({
  connect = Effect.void,
  isRepeatable = true,
  limits,
  onEnd,
  onHandOver
}: ScriptedOptions = {}) {
  const clock = yield* Clock.Clock
  const fork = yield* FiberSet.makeRuntime<never, void, never>()
  const connections: Array<Connection> = []
  const told = { ended: 0, retried: 0, tried: 0 }
  let ordinal = 0
  let peer: peers.Peer | undefined

  const makeLink = Effect.suspend(() => {
    const ended = Deferred.makeUnsafe<End>()
    const handed: Array<string> = []
    let isOpen = true
    let carried: Carried | undefined
    const find = (id: string) => [...carried?.inFlight.values() ?? []].find(({ messageId }) => messageId === id)
    const inFlight = (id: string) => {
      const request = find(id)
      if (request === undefined || carried === undefined) throw new Error(`${id} is not in flight`)
      return { carried, request }
    }
    const connection: Connection = {
      handed,
      isOpen: () => isOpen,
      inFlight: () => isOpen ? [...carried?.inFlight.values() ?? []] : [],
      answer: (...ids) => {
        for (const id of ids) {
          const { carried, request } = inFlight(id)
          carried.succeed(request, answerTo(id))
        }
        carried?.proceed()
      },
      answerSoon: (id) =>
        queueMicrotask(() => {
          if (isOpen && find(id) !== undefined) connection.answer(id)
        }),
      ack: (id, entry) => {
        inFlight(id).request.id = Option.some(entry)
        carried?.proceed()
      },
      refuse: (id, error) => {
        const { carried, request } = inFlight(id)
        carried.fail(request, error)
        carried.proceed()
      },
      hear: () => carried?.proceed(),
      end: (end) => Deferred.doneUnsafe(ended, Effect.succeed(end)),
      backlog: 0
    }
    connections.push(connection)
    const link: Link = {
      isRepeatable,
      backlog: () => connection.backlog,
      submit: (request, by) => {
        carried = by
        handed.push(request.messageId)
        onHandOver?.(request.messageId, connection)
      },
      run: (by) => {
        carried = by
        return Deferred.await(ended)
      }
    }
    return Effect.acquireRelease(Effect.succeed(link), () =>
      Effect.sync(() => {
        isOpen = false
      }))
  })

  const makePeer = () =>
    peers.make({
      socketPath,
      limits: { ...defaults, ...limits },
      clock,
      connect: Effect.andThen(
        Effect.suspend(() => {
          told.tried++
          return connect
        }),
        makeLink
      ),
      fork,
      onRetry: () => told.retried++,
      onEnd: () => {
        told.ended++
        peer = undefined
        onEnd?.()
      }
    })

  /** As a client does: the peer that is there, or a new one. */
  const prepare = (id: string, options?: RequestOptions): Noted => makeRequest(id, { ordinal: ++ordinal, ...options })
  const ask = (id: string, options?: RequestOptions): Noted => {
    const request = prepare(id, options)
    add(request)
    return request
  }
  const add = (request: Request) => {
    const found = peer
    const used = peer ??= makePeer()
    used.add(request)
    if (found === undefined) fork(used.run)
  }
  return {
    ask,
    /** The two halves of `ask`. */
    prepare,
    add,
    connections,
    told,
    /** The peer that is there; there is one while it has something to do, or a connection. */
    peer: () => {
      if (peer === undefined) throw new Error("the peer has ended")
      return peer
    },
    /** The newest connection. */
    connection: (): Connection => {
      const newest = connections.at(-1)
      if (newest === undefined) throw new Error("there is no connection")
      return newest
    }
  }
})

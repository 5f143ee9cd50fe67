/**
 * What an endpoint counts. An application exports it with whatever metrics layer it uses; the names are in the README.
 * Updated synchronously, since a message must not cost an effect for each of them.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { monotonicMillis } from "./expiry.ts"

// Attributes are given here and not by `Metric.withAttributes`, which makes the key of the series anew at each update.
type Attributes = Readonly<Record<string, string>>
const counter = (name: string, description: string, attributes?: Attributes) =>
  Metric.counter(`effect_messaging_${name}`, { description, attributes, incremental: true })
const gauge = (name: string, description: string, attributes?: Attributes) =>
  Metric.gauge(`effect_messaging_${name}`, { description, attributes })

const accepted = counter("messages_accepted", "Messages stored in the inbox")
const bytes = counter("bytes_accepted", "Their bytes on the wire")
const duplicates = counter("duplicates", "Messages sent again and not stored again")
const refused = (reason: Reason) => counter("refused", "Messages and connections refused, by reason", { reason })
const authenticationFailures = counter("authentication_failures", "Connections that did not prove themselves")
const connections = (state: string) => gauge("connections", "Accepted connections, by state", { state })
const inboxEntries = gauge("inbox_entries", "Entries in the inbox")
const inboxBytes = gauge("inbox_bytes", "Their bytes on the wire")
const retries = counter("send_retries", "Messages sent again after a lost connection")
const republished = (what: string) =>
  counter("republished", "Sockets and capabilities that had disappeared and were published again", { what })
// As `Metric.timer` would have it, fed with milliseconds instead of a `Duration` for each.
const sendDuration = Metric.histogram("effect_messaging_send_duration", {
  description: "From the call of send, ask or ping to its end",
  attributes: { time_unit: "milliseconds" },
  boundaries: Metric.exponentialBoundaries({ start: 0.5, factor: 2, count: 35 })
})

/** Why something was refused: never text that a peer sent. */
export type Reason = "unauthorized" | "invalid" | "too-large" | "timeout" | "full" | "too-many"

export interface Meter {
  readonly accepted: (bytes: number) => void
  readonly duplicate: () => void
  readonly refused: (reason: Reason) => void
  readonly connected: (state: "authenticated" | "unauthenticated", change: 1 | -1) => void
  readonly inbox: (entries: number, bytes: number) => void
  readonly retried: () => void
  readonly republished: (what: "socket" | "capability") => void
  /** A request that began then has ended, however; in milliseconds of the monotonic clock. */
  readonly answered: (startedAt: number) => void
}

/** What each message changes is told at the end of the turn that many arrive in: 0.6 µs a message less. */
const onceATurn = (tell: () => void) => {
  let isComing = false
  return () => {
    if (isComing) return
    isComing = true
    queueMicrotask(() => {
      isComing = false
      tell()
    })
  }
}

/** Counts in the registry in force where it is made. */
export const make: Effect.Effect<Meter> = Effect.contextWith((context: Context.Context<never>) => {
  const clock = Context.get(context, Clock.Clock)
  const byReason = new Map<Reason, Metric.Counter<number>>()
  const states = {
    authenticated: connections("authenticated"),
    unauthenticated: connections("unauthenticated")
  }
  let acceptedMessages = 0
  let acceptedBytes = 0
  const tellAccepted = onceATurn(() => {
    accepted.updateUnsafe(acceptedMessages, context)
    bytes.updateUnsafe(acceptedBytes, context)
    acceptedMessages = 0
    acceptedBytes = 0
  })
  let inboxSize: readonly [entries: number, bytes: number] = [0, 0]
  const tellInbox = onceATurn(() => {
    inboxEntries.updateUnsafe(inboxSize[0], context)
    inboxBytes.updateUnsafe(inboxSize[1], context)
  })
  let starts: Array<number> = []
  const tellAnswered = onceATurn(() => {
    const now = monotonicMillis(clock)
    for (const startedAt of starts) sendDuration.updateUnsafe(now - startedAt, context)
    starts = []
  })
  return Effect.succeed<Meter>({
    accepted: (size) => {
      acceptedMessages++
      acceptedBytes += size
      tellAccepted()
    },
    duplicate: () => duplicates.updateUnsafe(1, context),
    refused: (reason) => {
      const metric = byReason.get(reason) ?? refused(reason)
      byReason.set(reason, metric)
      metric.updateUnsafe(1, context)
      if (reason === "unauthorized") authenticationFailures.updateUnsafe(1, context)
    },
    connected: (state, change) => states[state].modifyUnsafe(change, context),
    inbox: (entries, size) => {
      inboxSize = [entries, size]
      tellInbox()
    },
    retried: () => retries.updateUnsafe(1, context),
    republished: (what) => republished(what).updateUnsafe(1, context),
    answered: (startedAt) => {
      starts.push(startedAt)
      tellAnswered()
    }
  })
})

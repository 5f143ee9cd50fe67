/**
 * What an endpoint counts. An application exports it with whatever metrics layer it uses; the names are in the README.
 * Updated synchronously, since a message must not cost an effect for each of them.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

const counter = (name: string, description: string) =>
  Metric.counter(`effect_messaging_${name}`, { description, incremental: true })
const gauge = (name: string, description: string) => Metric.gauge(`effect_messaging_${name}`, { description })

const accepted = counter("messages_accepted", "Messages stored in the inbox")
const bytes = counter("bytes_accepted", "Their bytes on the wire")
const duplicates = counter("duplicates", "Messages sent again and not stored again")
const refused = counter("refused", "Messages and connections refused, by reason")
const authenticationFailures = counter("authentication_failures", "Connections that did not prove themselves")
const connections = gauge("connections", "Accepted connections, by state")
const inboxEntries = gauge("inbox_entries", "Entries in the inbox")
const inboxBytes = gauge("inbox_bytes", "Their bytes on the wire")
const retries = counter("send_retries", "Messages sent again after a lost connection")
const republished = counter("republished", "Sockets and capabilities that had disappeared and were published again")
/** From call to answer, in milliseconds. */
export const sendDuration = Metric.timer("effect_messaging_send_duration", {
  description: "From the call of send, ask or ping to its end"
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
}

/** Counts in the registry in force where it is made. */
export const make: Effect.Effect<Meter> = Effect.contextWith((context: Context.Context<never>) => {
  const byReason = new Map<Reason, Metric.Counter<number>>()
  const states = {
    authenticated: Metric.withAttributes(connections, { state: "authenticated" }),
    unauthenticated: Metric.withAttributes(connections, { state: "unauthenticated" })
  }
  return Effect.succeed<Meter>({
    accepted: (size) => {
      accepted.updateUnsafe(1, context)
      bytes.updateUnsafe(size, context)
    },
    duplicate: () => duplicates.updateUnsafe(1, context),
    refused: (reason) => {
      const metric = byReason.get(reason) ?? Metric.withAttributes(refused, { reason }) as Metric.Counter<number>
      byReason.set(reason, metric)
      metric.updateUnsafe(1, context)
      if (reason === "unauthorized") authenticationFailures.updateUnsafe(1, context)
    },
    connected: (state, change) => states[state].modifyUnsafe(change, context),
    inbox: (entries, size) => {
      inboxEntries.updateUnsafe(entries, context)
      inboxBytes.updateUnsafe(size, context)
    },
    retried: () => retries.updateUnsafe(1, context),
    republished: (what) => Metric.withAttributes(republished, { what }).updateUnsafe(1, context)
  })
})

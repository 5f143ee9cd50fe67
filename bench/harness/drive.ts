/** Keeps a number of messages in flight, and counts the acks. */
import type { Load, Sample, Session } from "./system.ts"

/** One connection of a client that works with callbacks. */
export interface Link {
  /** Sends `count` messages, in as few writes as the client can. */
  readonly send: (count: number) => void
  /** Set by `drive`; called with the number of acks that came at once. */
  onAcks: (count: number) => void
  readonly close: () => Promise<void>
}

const quantile = (sorted: Float64Array, q: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0

export const summarize = (micros: ReadonlyArray<number>) => {
  const sorted = Float64Array.from(micros).sort()
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) }
}

/** The share of each connection; every one has at least one message in flight. */
export const shareOf = ({ connections, inFlight }: Load) => Math.max(1, Math.floor(inFlight / connections))

const runLinks = (links: ReadonlyArray<Link>, load: Load, millis: number) =>
  new Promise<Sample>((resolve) => {
    const share = shareOf(load)
    const latencies: Array<number> | undefined = load.inFlight === 1 ? [] : undefined
    let acks = 0
    let pending = 0
    let elapsed = 0
    let sentAt = 0
    const start = performance.now()
    const send = (link: Link, count: number) => {
      pending += count
      if (latencies !== undefined) sentAt = performance.now()
      link.send(count)
    }
    for (const link of links) {
      link.onAcks = (count) => {
        pending -= count
        if (elapsed === 0) {
          acks += count
          latencies?.push((performance.now() - sentAt) * 1_000)
          send(link, count)
        } else if (pending === 0) {
          resolve({ acks, millis: elapsed, latencies: latencies && summarize(latencies) })
        }
      }
    }
    for (const link of links) send(link, share)
    setTimeout(() => {
      elapsed = performance.now() - start
    }, millis)
  })

/** A session over as many links as the load has connections. */
export const drive = async (load: Load, open: () => Promise<Link>): Promise<Session> => {
  const links: Array<Link> = []
  for (let i = 0; i < load.connections; i++) links.push(await open())
  return {
    run: (millis) => runLinks(links, load, millis),
    close: async () => {
      for (const link of links) await link.close()
    }
  }
}

/** A session of as many loops as the load has messages in flight, each of which awaits `one` again and again. */
export const repeat = (load: Load, one: (loop: number) => Promise<unknown>): Session => ({
  run: async (millis) => {
    const latencies: Array<number> | undefined = load.inFlight === 1 ? [] : undefined
    let acks = 0
    const start = performance.now()
    const end = start + millis
    const loop = async (index: number) => {
      for (let sentAt = start; sentAt < end;) {
        await one(index)
        const now = performance.now()
        if (now < end) acks++
        latencies?.push((now - sentAt) * 1_000)
        sentAt = now
      }
    }
    await Promise.all(Array.from({ length: load.inFlight }, (_, index) => loop(index)))
    return { acks, millis, latencies: latencies && summarize(latencies) }
  },
  close: async () => {}
})

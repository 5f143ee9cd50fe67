/** Keeps a number of effects in flight, one fiber each, and counts how many have ended. */
import { Effect } from "effect"
import { shareOf, summarize } from "./drive.ts"
import type { Load, Sample, Session } from "./system.ts"

/** `sends` has one effect for each connection. Runs each once before the start; that is not counted. */
export const repeatEffect = async <E>(
  load: Load,
  sends: ReadonlyArray<Effect.Effect<unknown, E>>,
  close: () => Promise<void>
): Promise<Session> => {
  const run = (millis: number): Effect.Effect<Sample, E> =>
    Effect.gen(function*() {
      const latencies: Array<number> | undefined = load.inFlight === 1 ? [] : undefined
      let acks = 0
      const start = performance.now()
      const end = start + millis
      const loop = (send: Effect.Effect<unknown, E>) =>
        Effect.gen(function*() {
          for (let sentAt = start; sentAt < end;) {
            yield* send
            const now = performance.now()
            if (now < end) acks++
            latencies?.push((now - sentAt) * 1_000)
            sentAt = now
          }
        })
      const loops = sends.flatMap((send) => Array.from({ length: shareOf(load) }, () => loop(send)))
      yield* Effect.all(loops, { concurrency: "unbounded", discard: true })
      return { acks, millis, latencies: latencies && summarize(latencies) }
    })
  await Effect.runPromise(Effect.all(sends, { discard: true }))
  return { run: (millis) => Effect.runPromise(run(millis)), close }
}

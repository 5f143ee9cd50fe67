/**
 * The deadlines of one connection, kept by one fiber and one timer whatever the traffic: activity only notes the time,
 * and the fiber, when it wakes, looks whether the earliest deadline has moved.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Values } from "../Limits.ts"

export type Expired = "authentication" | "idle" | "frame" | "write"

export interface Deadlines {
  readonly authenticated: () => void
  /** Bytes have arrived. */
  readonly active: () => void
  /** The ordinal of the frame that has begun and not ended, if one has. */
  readonly frameBegun: (ordinal: number | undefined) => void
  readonly writing: () => void
  readonly written: () => void
  /**
   * Succeeds with the deadline that was missed, once one is. Bytes that had arrived by then are judged first: the
   * connection's fiber gets some turns of the event loop, each of which reads what the system holds. A connection that was
   * just accepted, or that goes on after a pause, needs more than one to begin.
   */
  readonly expired: Effect.Effect<Expired>
}

const turns = 4

interface Next {
  readonly at: number
  readonly kind: Expired
}

/** Setting the wall clock moves no deadline. */
const monotonicMillis = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

export const make = (limits: Values): Effect.Effect<Deadlines> =>
  Effect.clockWith((clock) =>
    Effect.sync(() => {
      const [authentication, idle, frame, write] = [
        limits.authenticationTimeout,
        limits.idleTimeout,
        limits.frameTimeout,
        limits.writeTimeout
      ].map(Duration.toMillis) as [number, number, number, number]

      // Written by the connection's fiber, read by `expired`.
      const startedAt = monotonicMillis(clock)
      let authenticated = false
      let activeAt = startedAt
      let frameOrdinal: number | undefined
      let frameBegunAt: number | undefined
      let writeBegunAt: number | undefined

      const next = (): Next => {
        // While replies wait for the peer, nothing is read, so only the write can be late.
        if (writeBegunAt !== undefined) return { at: writeBegunAt + write, kind: "write" }
        if (!authenticated) return { at: startedAt + authentication, kind: "authentication" }
        const idleAt = activeAt + idle
        return frameBegunAt !== undefined && frameBegunAt + frame < idleAt
          ? { at: frameBegunAt + frame, kind: "frame" }
          : { at: idleAt, kind: "idle" }
      }

      const expired: Effect.Effect<Expired> = Effect.suspend(() => {
        const { at } = next()
        const left = at - monotonicMillis(clock)
        if (left > 0) {
          // A frame or a write that begins during the sleep must not be late, so no sleep is longer than they last.
          return Effect.andThen(clock.sleep(Duration.millis(Math.min(left, write, frame))), expired)
        }
        return Effect.yieldNow.pipe(
          Effect.repeat({ times: turns - 1 }),
          Effect.andThen(Effect.suspend(() => {
            const after = next()
            return after.at <= monotonicMillis(clock) ? Effect.succeed(after.kind) : expired
          }))
        )
      })

      return {
        authenticated: () => {
          authenticated = true
        },
        active: () => {
          activeAt = monotonicMillis(clock)
        },
        frameBegun: (ordinal) => {
          if (ordinal === frameOrdinal) return
          frameOrdinal = ordinal
          frameBegunAt = ordinal === undefined ? undefined : monotonicMillis(clock)
        },
        writing: () => {
          writeBegunAt ??= monotonicMillis(clock)
        },
        written: () => {
          writeBegunAt = undefined
        },
        expired
      }
    })
  )

/**
 * Sees to it that what was published under a name stays there: a cleaner of temporary directories, or a user, may remove
 * it while the endpoint serves. It is published again only where nothing stands; what somebody else has put there
 * meanwhile is reported and left alone.
 *
 * The directory is watched, and looked at every `republishInterval` besides, since a watch may miss things, be refused,
 * or end with its directory.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { watch } from "node:fs"
import * as path from "node:path"
import type { Meter } from "./metrics.ts"

/** What stands under the name. */
export type Standing = "own" | "nothing" | "another's"

export interface Options {
  readonly what: "socket" | "capability"
  readonly file: string
  readonly interval: Duration.Duration
  readonly meter: Meter
  readonly look: Effect.Effect<Standing, { readonly message: string }>
  /** Publishes where nothing stands, or fails; is not interrupted half-way. */
  readonly publish: Effect.Effect<void, { readonly message: string }>
}

/** Times `interval` between two looks while there is nothing to be done. */
const longestWait = 32

/** Runs `changed` when the file may have changed; never where the directory cannot be watched. */
const watchFor = (file: string, changed: () => void): Effect.Effect<unknown, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      try {
        const watcher = watch(path.dirname(file), { persistent: false }, (_, name) => {
          if (name === null || name === path.basename(file)) changed()
        })
        // The directory may go, and with it what is watched; a watch that fails has closed itself.
        watcher.on("error", () => {})
        return watcher
      } catch {
        return undefined
      }
    }),
    (watcher) => Effect.sync(() => watcher?.close())
  )

/** Runs for ever. The first look is at the first hint: what is to be kept has just been published. */
export const keep = ({ file, interval, look, meter, publish, what }: Options): Effect.Effect<never> => {
  // What was reported last, so that it is reported once. Only the keeper's fiber touches these.
  let reported: string | undefined
  let wait = 1

  const report = (problem: string) =>
    Effect.suspend(() => {
      wait = Math.min(2 * wait, longestWait)
      if (reported === problem) return Effect.void
      reported = problem
      return Effect.logWarning(`the ${what} at ${file} ${problem}; peers cannot find this endpoint meanwhile`)
    })

  const settled = Effect.sync(() => {
    reported = undefined
    wait = 1
  })

  const examine = Effect.flatMap(look, (standing) => {
    switch (standing) {
      case "own":
        return settled
      case "another's":
        return report("has been replaced by something else, which is left alone")
      case "nothing":
        return publish.pipe(
          Effect.andThen(settled),
          Effect.andThen(Effect.sync(() => meter.republished(what))),
          Effect.andThen(Effect.logWarning(`the ${what} at ${file} had disappeared, and was published again`))
        )
    }
  }).pipe(
    Effect.catch(({ message }) => report(`has disappeared, and cannot be published again: ${message}`))
  )

  /** Watches first, so that a change after the look is not missed. */
  const round = (before: Effect.Effect<void>) =>
    Effect.scoped(Effect.gen(function*() {
      const changed = yield* Deferred.make<void>()
      yield* watchFor(file, () => Deferred.doneUnsafe(changed, Effect.void))
      yield* before
      yield* Effect.raceFirst(Deferred.await(changed), Effect.sleep(Duration.times(interval, wait)))
    }))
  return Effect.andThen(round(Effect.void), Effect.forever(round(examine)))
}

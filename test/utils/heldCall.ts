import { Deferred, Effect } from "effect"

/** A call of the system that has begun: it cannot be taken back, and is done when `finish` says so. */
export const makeHeldCall = Effect.gen(function*() {
  const begun = yield* Deferred.make<void>()
  const call = { isAbandoned: false, finish: () => {} }
  const hold = (run: () => void) =>
    Effect.callback<void>((resume) => {
      call.finish = () => {
        run()
        resume(Effect.void)
      }
      Deferred.doneUnsafe(begun, Effect.void)
      // Whoever waited for its end was interrupted.
      return Effect.sync(() => {
        call.isAbandoned = true
      })
    })
  return { call, hold, begun: Deferred.await(begun) }
})

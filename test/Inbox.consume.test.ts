import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Fiber, Latch, Logger, References, Result } from "effect"
import * as Inbox from "../src/Inbox.ts"
import * as Limits from "../src/Limits.ts"
import * as Message from "../src/Message.ts"

type Service = Inbox.Inbox["Service"]

const withInbox = <A, E>(
  use: (inbox: Service) => Effect.Effect<A, E>,
  limits: Limits.Options = {}
) => Effect.flatMap(Inbox.make, use).pipe(Effect.scoped, Effect.provide(Limits.layer(limits)))

/** Runs the loop beside the test; what its handler does wrong is not logged. */
const consuming = <E>(inbox: Service, handler: Inbox.Handler<E, never>, options?: Inbox.ConsumeOptions) =>
  inbox.consume(handler, options).pipe(
    Effect.provideService(References.MinimumLogLevel, "None"),
    Effect.forkChild({ startImmediately: true })
  )

const offer = (inbox: Service, ...data: ReadonlyArray<string>) =>
  Effect.forEach(data, (data) => inbox.offer(Message.text(data)))

/** Stores a message as a connection would, and collects what its sender is told. */
const receive = (inbox: Service, message: Message.Message) => {
  const outcomes: Array<Inbox.Outcome> = []
  const entry = Result.getOrThrow(inbox.offerUnsafe({
    message,
    sender: { address: undefined, verified: false },
    bytes: 10,
    observer: { onOutcome: (outcome) => outcomes.push(outcome) > 0 }
  }, 0))
  return { entry, outcomes }
}

const none = { entries: 0, bytes: 0 }
const emptied = (inbox: Service) => Effect.repeat(inbox.size, { until: ({ entries }) => entries === 0 })

describe("Inbox.consume", () => {
  describe("success", () => {
    it.effect("marks an entry processing while it is handled, then processed", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { entry } = receive(inbox, Message.text("a"))
          assert.strictEqual(entry.status, "waiting")
          const done = yield* Latch.make()
          yield* consuming(inbox, () => done.await)
          yield* Effect.yieldNow
          assert.strictEqual(entry.status, "processing")
          yield* done.open
          yield* emptied(inbox)
          assert.strictEqual(entry.status, "processed")
        })
      ))

    it.effect("tells the sender handled, once", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { outcomes } = receive(inbox, Message.text("a"))
          yield* consuming(inbox, () => Effect.void)
          yield* emptied(inbox)
          assert.deepStrictEqual(outcomes, [{ _tag: "Handled" }])
        })
      ))

    it.effect("answers a query with the handler's value", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { outcomes } = receive(inbox, Message.query("a"))
          yield* consuming(inbox, () => Effect.succeed("yes"))
          yield* emptied(inbox)
          assert.deepStrictEqual(outcomes, [{ _tag: "Replied", data: "yes" }, { _tag: "Handled" }])
        })
      ))

    it.effect("leaves a query unanswered where the handler has no text for it", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { outcomes } = receive(inbox, Message.query("a"))
          yield* consuming(inbox, () => Effect.void)
          yield* emptied(inbox)
          assert.deepStrictEqual(outcomes, [{ _tag: "Handled" }])
        })
      ))

    it.effect("ignores the handler's value for other messages", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { outcomes } = receive(inbox, Message.notification("a"))
          yield* consuming(inbox, () => Effect.succeed("yes"))
          yield* emptied(inbox)
          assert.deepStrictEqual(outcomes, [{ _tag: "Handled" }])
        })
      ))

    it.effect("handles entries stored before and after the loop began", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const seen: Array<string | undefined> = []
          yield* offer(inbox, "a", "b")
          yield* consuming(inbox, ({ message }) => Effect.sync(() => void seen.push(message.data)))
          yield* emptied(inbox)
          yield* offer(inbox, "c")
          yield* emptied(inbox)
          assert.deepStrictEqual(seen, ["a", "b", "c"])
        })
      ))
  })

  describe("failure", () => {
    it.effect("is logged with the entry's id; a success is not", () => {
      const logged: Array<string> = []
      const logger = Logger.make(({ cause, logLevel, message }) => {
        logged.push(`${logLevel} ${String(message)}: ${Cause.pretty(cause)}`)
      })
      return withInbox((inbox) =>
        Effect.gen(function*() {
          yield* offer(inbox, "good", "bad", "good")
          const handler = ({ message }: Inbox.Entry) => message.data === "bad" ? Effect.fail("no room") : Effect.void
          const loop = yield* Effect.forkChild(inbox.consume(handler))
          yield* emptied(inbox)
          yield* Fiber.interrupt(loop)
          assert.lengthOf(logged, 1)
          assert.match(logged.join(), /^Warn the handler of uds-2 failed(,.*)?: .*no room/)
        })
      ).pipe(Effect.provide(Logger.layer([logger])))
    })

    it.effect.each<{ readonly what: string; readonly handler: Inbox.Handler<string, never> }>([
      { what: "fails", handler: () => Effect.fail("no") },
      { what: "dies", handler: () => Effect.die("no") },
      {
        what: "throws",
        handler: () => {
          throw new Error("no")
        }
      },
      {
        what: "is cancelled by its own work",
        handler: () => Effect.flatMap(Effect.forkChild(Effect.interrupt), Fiber.join)
      }
    ])(
      "marks the entry failed when its handler $what, tells the sender, and goes on",
      ({ handler }) =>
        withInbox((inbox) =>
          Effect.gen(function*() {
            const { entry, outcomes } = receive(inbox, Message.text("bad"))
            const next = receive(inbox, Message.text("good"))
            const loop = yield* consuming(
              inbox,
              (given) => given.message.data === "bad" ? handler(given) : Effect.void
            )
            yield* Effect.repeat(Effect.yieldNow, {
              until: () => next.entry.status === "processed" || loop.pollUnsafe() !== undefined
            })
            assert.deepStrictEqual([entry.status, next.entry.status], ["failed", "processed"])
            assert.deepStrictEqual(outcomes.map(({ _tag }) => _tag), ["Failed"])
            assert.isUndefined(loop.pollUnsafe())
            assert.deepStrictEqual(yield* inbox.size, none)
          })
        )
    )
  })

  describe("interruption", () => {
    it.effect("puts what is being handled back to the front, waiting and counted once", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const first = receive(inbox, Message.text("a"))
          yield* offer(inbox, "b")
          const before = yield* inbox.size
          const loop = yield* consuming(inbox, () => Effect.never)
          yield* Effect.yieldNow
          assert.strictEqual(first.entry.status, "processing")
          yield* Fiber.interrupt(loop)
          assert.strictEqual(first.entry.status, "waiting")
          assert.deepStrictEqual(first.outcomes, [])
          assert.deepStrictEqual(yield* inbox.size, before)
          assert.deepStrictEqual((yield* inbox.drain).map(({ id }) => id), ["uds-1", "uds-2"])
          assert.deepStrictEqual(yield* inbox.size, none)
        })
      ))

    it.effect("wakes a reader that waits", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          yield* offer(inbox, "a")
          const loop = yield* consuming(inbox, () => Effect.never)
          const reader = yield* Effect.forkChild(inbox.take, { startImmediately: true })
          // What the offer began to wake is awake by now.
          yield* Effect.yieldNow
          assert.isUndefined(reader.pollUnsafe())
          yield* Fiber.interrupt(loop)
          assert.strictEqual((yield* Fiber.join(reader)).id, "uds-1")
        })
      ))

    it.effect("keeps the order of arrival of all that was in hand", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          yield* offer(inbox, "1", "2", "3", "4", "5")
          const loop = yield* consuming(inbox, () => Effect.never, { concurrency: 3 })
          yield* Effect.yieldNow
          yield* Fiber.interrupt(loop)
          assert.deepStrictEqual(
            (yield* inbox.drain).map(({ id }) => id),
            ["uds-1", "uds-2", "uds-3", "uds-4", "uds-5"]
          )
        })
      ))

    it.effect("takes nothing while the loop waits", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const loop = yield* consuming(inbox, () => Effect.void)
          yield* Fiber.interrupt(loop)
          yield* offer(inbox, "a")
          assert.strictEqual((yield* inbox.take).id, "uds-1")
        })
      ))

    it.effect("does not put back an entry whose handler had ended", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          let loop: Fiber.Fiber<unknown> | undefined
          // Begins at the end of this turn, and ends in the same step in which it interrupts the loop.
          loop = yield* consuming(inbox, () => Effect.sync(() => loop?.interruptUnsafe()))
          const { entry, outcomes } = receive(inbox, Message.text("a"))
          assert.strictEqual(entry.status, "waiting")
          yield* Fiber.await(loop)
          assert.strictEqual(entry.status, "processed")
          assert.deepStrictEqual(outcomes, [{ _tag: "Handled" }])
        })
      ))

    it.effect("lets the next loop handle the entry", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { entry, outcomes } = receive(inbox, Message.text("a"))
          const loop = yield* consuming(inbox, () => Effect.never)
          yield* Fiber.interrupt(loop)
          yield* consuming(inbox, () => Effect.void)
          yield* emptied(inbox)
          assert.strictEqual(entry.status, "processed")
          assert.deepStrictEqual(outcomes, [{ _tag: "Handled" }])
        })
      ))
  })

  describe("concurrency", () => {
    /** How many handlers ran at once, and the order in which they began and ended; each takes a few turns. */
    const observe = Effect.fnUntraced(function*(inbox: Service, options?: Inbox.ConsumeOptions) {
      const data = Array.from({ length: 20 }, (_, n) => `${n}`)
      yield* offer(inbox, ...data)
      const [began, ended]: [Array<string>, Array<string>] = [[], []]
      let most = 0
      yield* consuming(inbox, ({ message: { data = "" } }) =>
        Effect.gen(function*() {
          began.push(data)
          most = Math.max(most, began.length - ended.length)
          // The earlier, the longer.
          for (let turn = 0; turn < 40 - 2 * Number(data); turn++) yield* Effect.yieldNow
          ended.push(data)
        }), options)
      yield* emptied(inbox)
      return { began, data, ended, most }
    })

    it.effect("is 1 by default, which keeps the order of arrival", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { began, data, ended, most } = yield* observe(inbox)
          assert.strictEqual(most, 1)
          assert.deepStrictEqual([began, ended], [data, data])
        })
      ))

    it.effect("handles as many at once as it says, and begins them in order", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const { began, data, ended, most } = yield* observe(inbox, { concurrency: 4 })
          assert.strictEqual(most, 4)
          assert.deepStrictEqual(began, data)
          assert.sameMembers(ended, data)
        })
      ))

    it.effect("keeps all its handlers where one entry wakes several that wait", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          let running = 0
          const both = yield* Deferred.make<void>()
          yield* consuming(inbox, ({ message }) =>
            Effect.suspend(() => {
              if (message.data === "alone") return Effect.void
              return ++running === 2 ? Effect.asVoid(Deferred.succeed(both, undefined)) : Effect.never
            }), { concurrency: 2 })
          yield* offer(inbox, "alone")
          yield* emptied(inbox)
          yield* offer(inbox, "one", "other")
          yield* Deferred.await(both)
          yield* Effect.repeat(inbox.size, { until: ({ entries }) => entries === 1 })
        })
      ))

    it.effect("lets a slow handler hold up none of the others", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const second = yield* Deferred.make<void>()
          yield* consuming(
            inbox,
            ({ message }) =>
              message.data === "slow" ? Effect.never : Deferred.succeed(second, undefined).pipe(Effect.asVoid),
            { concurrency: 2 }
          )
          yield* offer(inbox, "slow", "fast")
          yield* Deferred.await(second)
        })
      ))
  })

  describe("bounds", () => {
    it.effect("count entries being processed, and make room when they have been", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const done = yield* Latch.make()
          yield* offer(inbox, "a", "b")
          yield* consuming(inbox, () => done.await, { concurrency: 2 })
          yield* Effect.yieldNow
          assert.strictEqual((yield* inbox.size).entries, 2)
          const full = yield* Effect.flip(inbox.offer(Message.text("c")))
          assert.deepStrictEqual(full, new Inbox.InboxFull({ limit: "maxInboxEntries", value: 2 }))
          yield* done.open
          yield* emptied(inbox)
          yield* offer(inbox, "d")
        }), { maxInboxEntries: 2 }))

    it.effect("count the bytes of entries being processed", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          receive(inbox, Message.text("a"))
          yield* consuming(inbox, () => Effect.never)
          yield* Effect.yieldNow
          assert.deepStrictEqual(yield* inbox.size, { entries: 1, bytes: 10 })
          const full = yield* Effect.flip(inbox.offer(Message.text("x".repeat(70))))
          assert.deepStrictEqual(full, new Inbox.InboxFull({ limit: "maxInboxBytes", value: 100 }))
        }), { maxFrameBytes: 100, maxInboxBytes: 100 }))

    it.effect("leave what is being processed out of what others can take", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          yield* offer(inbox, "a", "b")
          yield* consuming(inbox, () => Effect.never)
          yield* Effect.yieldNow
          assert.deepStrictEqual((yield* inbox.drain).map(({ id }) => id), ["uds-2"])
          assert.strictEqual((yield* inbox.size).entries, 1)
        })
      ))
  })

  describe("an answer that waits for its asker", () => {
    /** A query whose asker has no room until the latch is opened. */
    const ask = (inbox: Service, data: string, room: Latch.Latch | undefined) => {
      const outcomes: Array<Inbox.Outcome> = []
      let hasRoom = room === undefined
      Result.getOrThrow(inbox.offerUnsafe({
        message: Message.query(data),
        sender: { address: undefined, verified: false },
        bytes: 10,
        observer: {
          onOutcome: (outcome) => outcomes.push(outcome) > 0,
          room: () => room === undefined || hasRoom ? undefined : Effect.map(room.await, () => void (hasRoom = true))
        }
      }, 0))
      return outcomes
    }
    const turns = Effect.repeat(Effect.yieldNow, { times: 10 })
    const replied = (data: string): Inbox.Outcome => ({ _tag: "Replied", data })

    it.effect("keeps no other from being handled, and is told before the end of its handling", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const room = yield* Latch.make()
          const [stuck, other] = [ask(inbox, "a", room), ask(inbox, "b", undefined)]
          yield* consuming(inbox, ({ message }) => Effect.succeed(`to ${message.data}`))
          yield* turns
          assert.deepStrictEqual([stuck, other], [[], [replied("to b"), { _tag: "Handled" }]])
          assert.strictEqual((yield* inbox.size).entries, 1)
          yield* room.open
          yield* emptied(inbox)
          assert.deepStrictEqual(stuck, [replied("to a"), { _tag: "Handled" }])
        })
      ))

    it.effect("gives its place away once: no more are handled at a time afterwards", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const [room, gate] = [yield* Latch.make(), yield* Latch.make()]
          ask(inbox, "stuck", room)
          for (const name of ["a", "b", "c"]) ask(inbox, name, undefined)
          let [running, most] = [0, 0]
          yield* consuming(inbox, ({ message }) =>
            message.data === "stuck" ? Effect.succeed("x") : Effect.suspend(() => {
              most = Math.max(most, ++running)
              return Effect.ensuring(gate.await, Effect.sync(() => running--))
            }))
          yield* turns
          yield* room.open
          yield* turns
          yield* gate.open
          yield* emptied(inbox)
          assert.strictEqual(most, 1)
        })
      ))

    it.effect("keeps others from being handled when too much waits already", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const room = yield* Latch.make()
          const began: Array<string | undefined> = []
          for (const name of ["a", "b", "c"]) ask(inbox, name, room)
          yield* consuming(inbox, ({ message }) =>
            Effect.sync(() => {
              began.push(message.data)
              return "x".repeat(60)
            }))
          yield* turns
          // The first one fits, the second keeps its place.
          assert.deepStrictEqual(began, ["a", "b"])
          yield* room.open
          yield* emptied(inbox)
          assert.deepStrictEqual(began, ["a", "b", "c"])
        }), { maxTotalUnreadBytes: 100 }))

    it.effect("keeps none from being handled where it just fits, nor once it has been told", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const rooms = [yield* Latch.make(), yield* Latch.make()]
          const began: Array<string | undefined> = []
          for (const room of rooms) for (const name of ["a", "b"]) ask(inbox, name, room)
          ask(inbox, "c", undefined)
          yield* consuming(inbox, ({ message }) =>
            Effect.sync(() => {
              began.push(message.data)
              return "x".repeat(50)
            }))
          yield* turns
          // Two fit, and the third keeps its place.
          assert.deepStrictEqual(began, ["a", "b", "a"])
          yield* rooms[0]?.open ?? Effect.void
          yield* turns
          assert.deepStrictEqual(began, ["a", "b", "a"])
          yield* rooms[1]?.open ?? Effect.void
          yield* emptied(inbox)
          assert.deepStrictEqual(began, ["a", "b", "a", "b", "c"])
          ask(inbox, "d", yield* Latch.make())
          ask(inbox, "e", undefined)
          yield* turns
          assert.deepStrictEqual(began.slice(5), ["d", "e"])
        }), { maxTotalUnreadBytes: 100 }))

    it.effect("that somebody else gives is told before the end of the handling, or not at all", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const room = yield* Latch.make()
          const [detached, failed] = [ask(inbox, "a", room), ask(inbox, "b", room)]
          yield* consuming(inbox, (entry) =>
            Effect.andThen(
              Effect.forkDetach(entry.reply("late"), { startImmediately: true }),
              entry.message.data === "b" ? Effect.fail("no") : Effect.void
            ))
          yield* emptied(inbox)
          assert.deepStrictEqual([detached, failed], [[], []])
          yield* room.open
          yield* turns
          assert.deepStrictEqual(detached, [replied("late"), { _tag: "Handled" }])
          assert.deepStrictEqual(failed, [replied("late"), { _tag: "Failed", answered: true }])
        })
      ))

    it.effect("waits again where others have taken the room", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const rooms = [yield* Latch.make(), yield* Latch.make()]
          const told: Array<Inbox.Outcome> = []
          const entry = Result.getOrThrow(inbox.offerUnsafe({
            message: Message.query("a"),
            sender: { address: undefined, verified: false },
            bytes: 10,
            observer: {
              onOutcome: (outcome) => told.push(outcome) > 0,
              room: () =>
                rooms[0] === undefined ? undefined : Effect.andThen(rooms[0].await, Effect.sync(() => rooms.shift()))
            }
          }, 0))
          const replying = yield* Effect.forkChild(entry.reply("yes"), { startImmediately: true })
          while (rooms[0] !== undefined) {
            yield* turns
            assert.deepStrictEqual(told, [])
            yield* rooms[0].open
            yield* turns
          }
          assert.isTrue(yield* Fiber.join(replying))
          assert.deepStrictEqual(told, [replied("yes")])
        })
      ))

    it.effect("is none once its handling has failed", () =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const outcomes = ask(inbox, "a", undefined)
          let reply: Inbox.Entry["reply"] | undefined
          yield* consuming(inbox, (entry) => {
            reply = entry.reply
            return Effect.fail("no")
          })
          yield* emptied(inbox)
          assert.isFalse(yield* reply?.("late") ?? Effect.die("not handled"))
          assert.deepStrictEqual(outcomes, [{ _tag: "Failed", answered: false }])
        })
      ))
  })
})

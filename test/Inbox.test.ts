import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, DateTime, Effect, Exit, Fiber, Metric, Result, Scheduler, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Inbox from "../src/Inbox.ts"
import * as Limits from "../src/Limits.ts"
import * as Message from "../src/Message.ts"

const message = (data: string) => Message.text(data)
const dataOf = (entries: ReadonlyArray<Inbox.Entry>) => entries.map((entry) => entry.message.data)

/** All that was due in this turn of the event loop has happened. */
const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** A test with an inbox of its own. */
const withInbox = <A, E>(
  limits: Limits.Options,
  use: (inbox: Inbox.Inbox["Service"]) => Effect.Effect<A, E>
) => Effect.flatMap(Inbox.make, use).pipe(Effect.scoped, Effect.provide(Limits.layer(limits)))

describe("Inbox", () => {
  it("is a service with a name of its own", () => {
    assert.strictEqual(Inbox.Inbox.key, "effect-messaging/Inbox")
  })

  it.effect("keeps the order of arrival and counts ids from 1", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        for (const data of ["a", "b", "c"]) yield* inbox.offer(message(data))
        const first = yield* inbox.take
        assert.strictEqual(first.id, "uds-1")
        assert.strictEqual(first.message.data, "a")
        const rest = yield* inbox.drain
        assert.deepStrictEqual(rest.map(({ id }) => id), ["uds-2", "uds-3"])
        assert.deepStrictEqual(yield* inbox.drain, [])
      })))

  it.effect("tells when a message was received, by Effect's clock, and whether it was taken", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        yield* TestClock.adjust("90 seconds")
        const entry = yield* inbox.offer(message("a"))
        assert.strictEqual(DateTime.formatIso(entry.receivedAt), "1970-01-01T00:01:30.000Z")
        assert.strictEqual(entry.status, "waiting")
        yield* inbox.take
        assert.strictEqual(entry.status, "taken")
      })))

  it.effect("refuses the entry after maxInboxEntries, and takes it once there is room", () =>
    withInbox({ maxInboxEntries: 2 }, (inbox) =>
      Effect.gen(function*() {
        yield* inbox.offer(message("a"))
        yield* inbox.offer(message("b"))
        const full = yield* Effect.flip(inbox.offer(message("c")))
        assert.deepStrictEqual(full, new Inbox.InboxFull({ limit: "maxInboxEntries", value: 2 }))
        assert.strictEqual(full.message, "inbox full: maxInboxEntries is 2")
        yield* inbox.take
        assert.strictEqual((yield* inbox.offer(message("d"))).id, "uds-3")
        assert.deepStrictEqual(dataOf(yield* inbox.drain), ["b", "d"])
      })))

  it.effect("refuses what would pass maxInboxBytes, counting wire bytes", () =>
    withInbox({ maxFrameBytes: 100, maxInboxBytes: 100 }, (inbox) =>
      Effect.gen(function*() {
        const received = (bytes: number): Inbox.Received => ({
          message: message("a"),
          sender: { address: undefined, verified: false },
          bytes
        })
        assert.isTrue(Result.isSuccess(inbox.offerUnsafe(received(60), 0)))
        assert.deepStrictEqual(
          inbox.offerUnsafe(received(41), 0),
          Result.fail(new Inbox.InboxFull({ limit: "maxInboxBytes", value: 100 }))
        )
        assert.isTrue(Result.isSuccess(inbox.offerUnsafe(received(40), 0)))
        assert.deepStrictEqual(yield* inbox.size, { entries: 2, bytes: 100 })
      })))

  it.effect("keeps who sent a message: this process itself, or whom the connection names", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const own = yield* inbox.offer(message("a"))
        assert.deepStrictEqual(own.sender, { address: undefined, verified: true })
        assert.isUndefined(own.traceparent)
        const received = Result.getOrThrow(inbox.offerUnsafe({
          message: message("b"),
          sender: { address: "/b.sock", verified: false },
          bytes: 7,
          traceparent: "00-1"
        }, 5))
        assert.deepStrictEqual(received.sender, { address: "/b.sock", verified: false })
        assert.deepStrictEqual([received.bytes, received.traceparent], [7, "00-1"])
        assert.strictEqual(received.receivedAt.epochMilliseconds, 5)
      })))

  it.effect("has nobody to tell of an answer where nobody waits for one", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const query = yield* inbox.offer(Message.query("a"))
        assert.isFalse(yield* query.reply("b"))
        const told: Array<Inbox.Outcome> = []
        const asked = (message: Message.Message) =>
          Result.getOrThrow(inbox.offerUnsafe({
            message,
            sender: { address: undefined, verified: false },
            bytes: 1,
            observer: { onOutcome: (outcome) => told.push(outcome) > 0 }
          }, 0))
        const text = asked(message("a"))
        assert.isFalse(yield* text.reply("b"))
        const waitedFor = asked(Message.query("a"))
        assert.isTrue(yield* waitedFor.reply("b"))
        assert.isFalse(yield* waitedFor.reply("c"))
        assert.deepStrictEqual(told, [{ _tag: "Replied", data: "b" }])
      })))

  it.effect("refuses an own message that no socket could have brought", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(inbox.offer(message("x".repeat(70_000))))
        assert.strictEqual(error._tag, "FramingError")
        assert.deepStrictEqual(yield* inbox.size, { entries: 0, bytes: 0 })
      })))

  it.effect("keeps of an own message only what a socket could have brought", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const meta = JSON.parse("{\"__proto__\":{\"x\":1},\"constructor\":2,\"authToken\":\"t\",\"kept\":3}")
        const entry = yield* inbox.offer({ type: "text", data: "a", extra: 1, meta } as Message.Message)
        assert.deepStrictEqual(entry.message, { type: "text", data: "a", meta: { kept: 3 } })
      })))

  it.effect("hands a waiting reader the next entry", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const reader = yield* Effect.forkChild(inbox.take, { startImmediately: true })
        yield* inbox.offer(message("a"))
        assert.strictEqual((yield* Fiber.join(reader)).message.data, "a")
      })))

  it.effect("lets a reader wait without work, also when what arrived was taken in the same turn", () =>
    Effect.gen(function*() {
      let tasks = 0
      class Counting extends Scheduler.MixedScheduler {
        override makeDispatcher() {
          const dispatcher = super.makeDispatcher()
          const scheduleTask = dispatcher.scheduleTask.bind(dispatcher)
          dispatcher.scheduleTask = (task, priority) => {
            tasks++
            scheduleTask(task, priority)
          }
          return dispatcher
        }
      }
      const reading = withInbox({}, (inbox) =>
        Effect.gen(function*() {
          yield* inbox.offer(message("a"))
          assert.lengthOf(yield* inbox.drain, 1)
          // And when it was not.
          yield* inbox.offer(message("a"))
          yield* turn
          yield* inbox.take
          yield* turn
          const reader = yield* Effect.forkChild(inbox.take, { startImmediately: true })
          const consumer = yield* Effect.forkChild(inbox.consume(() => Effect.void), { startImmediately: true })
          yield* turn
          const before = tasks
          for (let i = 0; i < 20; i++) yield* turn
          assert.isAtMost(tasks - before, 20)
          yield* inbox.offer(message("b"))
          assert.strictEqual((yield* Fiber.join(reader)).message.data, "b")
          yield* Fiber.interrupt(consumer)
        }))
      yield* Effect.provideService(reading, Scheduler.Scheduler, new Counting())
    }))

  it.effect("gives each entry to one of several waiting readers", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const readers = yield* Effect.forEach(
          Arr.range(1, 5),
          () => Effect.forkChild(inbox.take, { startImmediately: true })
        )
        for (const data of ["a", "b", "c", "d", "e"]) yield* inbox.offer(message(data))
        const taken = yield* Effect.forEach(readers, Fiber.join)
        assert.deepStrictEqual(dataOf(taken).sort(), ["a", "b", "c", "d", "e"])
      })))

  it.effect("takes nothing and leaks no count when waiting readers are interrupted", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        for (let run = 0; run < 200; run++) {
          const reader = yield* Effect.forkChild(inbox.take, { startImmediately: run % 2 === 0 })
          yield* inbox.offer(message("a"))
          yield* Fiber.interrupt(reader)
          const { bytes, entries } = yield* inbox.size
          assert.strictEqual(bytes, entries * 26)
          yield* inbox.drain
          assert.deepStrictEqual(yield* inbox.size, { entries: 0, bytes: 0 })
        }
      })))

  it.effect("streams one entry at a time, so that a slow consumer keeps the bounds", () =>
    withInbox({ maxInboxEntries: 3 }, (inbox) =>
      Effect.gen(function*() {
        for (const data of ["a", "b", "c"]) yield* inbox.offer(message(data))
        const first = yield* Stream.runCollect(Stream.take(inbox.stream, 1))
        assert.deepStrictEqual(dataOf(first), ["a"])
        assert.deepStrictEqual((yield* inbox.size).entries, 2)
        yield* inbox.offer(message("d"))
        assert.strictEqual((yield* Effect.flip(inbox.offer(message("e"))))._tag, "InboxFull")
        assert.deepStrictEqual(dataOf(yield* Stream.runCollect(Stream.take(inbox.stream, 3))), ["b", "c", "d"])
      })))

  it.effect("tells arrivals to every subscriber without taking them", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const watch = Stream.runCollect(Stream.take(inbox.arrivals, 2))
        const watchers = yield* Effect.forEach(
          ["x", "y"],
          () => Effect.forkChild(watch, { startImmediately: true })
        )
        yield* inbox.offer(message("a"))
        yield* inbox.offer(message("b"))
        for (const watcher of watchers) assert.deepStrictEqual(dataOf(yield* Fiber.join(watcher)), ["a", "b"])
        assert.strictEqual((yield* inbox.size).entries, 2)
      })))

  it.effect("ends arrivals when the inbox does, and leaves nothing behind for a subscriber that has left", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const inbox = yield* Inbox.make.pipe(Scope.provide(scope), Effect.provide(Limits.layer({ maxInboxEntries: 2 })))
      const leaver = yield* Effect.forkChild(Stream.runCollect(inbox.arrivals), { startImmediately: true })
      yield* Fiber.interrupt(leaver)
      const watchers = yield* Effect.replicateEffect(
        Effect.forkChild(Stream.runCollect(inbox.arrivals), { startImmediately: true }),
        2
      )
      yield* inbox.offer(message("a"))
      yield* Scope.close(scope, Exit.void)
      for (const watcher of watchers) assert.deepStrictEqual(dataOf(yield* Fiber.join(watcher)), ["a"])
    }))

  it.effect("tells the metrics how many entries and bytes it holds", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        const held = Effect.gen(function*() {
          // Told at the end of the turn.
          yield* turn
          const gauges = (yield* Metric.snapshot).filter(({ id }) => id.startsWith("effect_messaging_inbox"))
          return Object.fromEntries(gauges.map(({ id, state }) => [id, (state as { readonly value: number }).value]))
        })
        for (const data of ["a", "b", "c"]) yield* inbox.offer(message(data))
        assert.deepStrictEqual(yield* held, { effect_messaging_inbox_bytes: 78, effect_messaging_inbox_entries: 3 })
        yield* inbox.take
        assert.deepStrictEqual(yield* held, { effect_messaging_inbox_bytes: 52, effect_messaging_inbox_entries: 2 })
        const loop = yield* Effect.forkChild(inbox.consume(() => Effect.never), { startImmediately: true })
        yield* inbox.offer(message("d"))
        assert.deepStrictEqual(yield* held, { effect_messaging_inbox_bytes: 78, effect_messaging_inbox_entries: 3 })
        yield* Fiber.interrupt(loop)
        const handling = yield* Effect.forkChild(inbox.consume(() => Effect.void), { startImmediately: true })
        yield* Effect.repeat(inbox.size, { until: ({ entries }) => entries === 0 })
        assert.deepStrictEqual(yield* held, { effect_messaging_inbox_bytes: 0, effect_messaging_inbox_entries: 0 })
        yield* Fiber.interrupt(handling)
      })).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("keeps at most maxInboxEntries arrivals for a subscriber that falls behind: the newest", () =>
    withInbox({ maxInboxEntries: 4 }, (inbox) =>
      Effect.gen(function*() {
        const watcher = yield* Effect.forkChild(Stream.runCollect(Stream.take(inbox.arrivals, 4)), {
          startImmediately: true
        })
        // The subscriber's fiber does not get a turn before this one waits for it.
        for (let i = 0; i < 10; i++) {
          yield* inbox.offer(message(String(i)))
          yield* inbox.take
        }
        assert.deepStrictEqual(dataOf(yield* Fiber.join(watcher)), ["6", "7", "8", "9"])
      })))

  it.effect("keeps the order of thousands of entries that pass through without its ever being empty", () =>
    withInbox({}, (inbox) =>
      Effect.gen(function*() {
        yield* inbox.offer(message("0"))
        for (let i = 1; i < 5_000; i++) {
          yield* inbox.offer(message(`${i}`))
          assert.strictEqual((yield* inbox.take).message.data, `${i - 1}`)
        }
        assert.strictEqual((yield* inbox.size).entries, 1)
      })))
})

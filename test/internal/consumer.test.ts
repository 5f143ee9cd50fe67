import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { AsyncLocalStorage } from "node:async_hooks"
import * as Inbox from "../../src/Inbox.ts"
import * as consumer from "../../src/internal/consumer.ts"
import * as Limits from "../../src/Limits.ts"
import * as Message from "../../src/Message.ts"

type Service = Inbox.Inbox["Service"]

const withInbox = <A, E>(use: (inbox: Service) => Effect.Effect<A, E>) =>
  Effect.flatMap(Inbox.make, use).pipe(Effect.scoped, Effect.provide(Limits.layer({ maxInboxEntries: 10_000 })))

const offer = (inbox: Service, count: number) =>
  Effect.forEach(Array.from({ length: count }), (_, n) => inbox.offer(Message.text(`${n}`)), { discard: true })

const consuming = <E>(inbox: Service, handler: Inbox.Handler<E, never>, concurrency = 1) =>
  Effect.forkChild(inbox.consume(handler, { concurrency }), { startImmediately: true })

/** A source in which nothing waits, and how often it was looked at. */
const emptySource = () => {
  const looks = { count: 0 }
  const source: consumer.Source<consumer.Answerable> = {
    begin: () => undefined,
    finish: () => {},
    putBack: () => {},
    isFilled: () => {
      looks.count++
      return false
    },
    maxWaitingCharacters: 0,
    consumers: new Set()
  }
  return { looks, source }
}

/** Who waits goes on within the call; `open` leaves it to a later turn. */
const openNow = (gate: Latch.Latch) => Effect.sync(() => gate.openUnsafe())

const until = (isTrue: () => boolean) => Effect.repeat(Effect.yieldNow, { until: isTrue })

describe("consumer", () => {
  it.effect("begins nothing more once a handler has had the loop interrupted", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        let handled = 0
        let loop: Fiber.Fiber<never> | undefined
        loop = yield* consuming(inbox, () =>
          Effect.sync(() => {
            if (++handled === 3) loop?.interruptUnsafe()
          }))
        yield* offer(inbox, 10)
        yield* Fiber.await(loop)
        assert.strictEqual(handled, 3)
        assert.deepStrictEqual((yield* inbox.drain).map(({ message }) => message.data), [
          "3",
          "4",
          "5",
          "6",
          "7",
          "8",
          "9"
        ])
      })
    ))

  it.effect("lets others have their turn while handlers that end at once have thousands of entries", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        yield* offer(inbox, 10_000)
        let [handled, between] = [0, 0]
        yield* consuming(inbox, () => Effect.sync(() => void handled++))
        for (; handled < 10_000; between++) yield* Effect.yieldNow
        assert.isAtLeast(between, 2)
      })
    ))

  it.effect.each([1, 3])(
    "goes on behind a handler that waits, %d at once",
    (concurrency) =>
      withInbox((inbox) =>
        Effect.gen(function*() {
          const gate = yield* Latch.make()
          const handled: Array<string | undefined> = []
          const handler: Inbox.Handler<never, never> = ({ message: { data } }) =>
            Effect.andThen(
              Number(data) < concurrency ? gate.await : Effect.void,
              Effect.sync(() => void handled.push(data))
            )
          yield* consuming(inbox, handler, concurrency)
          yield* offer(inbox, 3_000)
          for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
          assert.lengthOf(handled, 0)
          yield* gate.open
          yield* until(() => handled.length === 3_000)
          assert.strictEqual(new Set(handled).size, 3_000)
        })
      )
  )

  it.effect("begins an entry that a handler's end leaves room for while another is being begun", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        const gate = yield* Latch.make()
        const began: Array<string | undefined> = []
        yield* consuming(inbox, ({ message: { data } }) => {
          began.push(data)
          // The second one's beginning ends the first.
          return data === "0" ? gate.await : data === "1" ? Effect.andThen(openNow(gate), Effect.never) : Effect.void
        }, 2)
        yield* offer(inbox, 4)
        yield* until(() => began.length >= 4)
        assert.deepStrictEqual(began, ["0", "1", "2", "3"])
      })
    ))

  it.effect("keeps to its number where the end of a handler begins one whose beginning ends another", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        const gates = [yield* Latch.make(), yield* Latch.make()] as const
        const began: Array<string | undefined> = []
        yield* consuming(inbox, ({ message: { data } }) => {
          began.push(data)
          if (data === "0" || data === "1") return gates[data].await
          return data === "2" ? Effect.andThen(openNow(gates[1]), Effect.never) : Effect.never
        }, 2)
        yield* offer(inbox, 5)
        yield* until(() => began.length === 2)
        yield* openNow(gates[0])
        yield* until(() => began.length >= 4)
        for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
        assert.deepStrictEqual(began, ["0", "1", "2", "3"])
      })
    ))

  it.effect("waits where there is nothing, and does not look again and again", () =>
    Effect.gen(function*() {
      const { looks, source } = emptySource()
      yield* Effect.forkChild(consumer.consume(source, () => Effect.void, 1), { startImmediately: true })
      const before = looks.count
      for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
      assert.deepStrictEqual([before, looks.count], [1, 1])
    }))

  it.effect("is not woken any more once it has ended", () =>
    Effect.gen(function*() {
      const { source } = emptySource()
      const loop = yield* Effect.forkChild(consumer.consume(source, () => Effect.void, 1), { startImmediately: true })
      assert.strictEqual(source.consumers.size, 1)
      yield* Fiber.interrupt(loop)
      assert.strictEqual(source.consumers.size, 0)
    }))

  it.effect("stops what a handler has forked when the handler ends", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        let forked: Fiber.Fiber<never> | undefined
        yield* consuming(inbox, () => Effect.map(Effect.forkChild(Effect.never), (fiber) => void (forked = fiber)))
        yield* offer(inbox, 1)
        yield* until(() => forked?.pollUnsafe() !== undefined)
        assert.strictEqual(forked?.pollUnsafe()?._tag, "Failure")
      })
    ))

  it.effect("waits for handlers to end before it is interrupted", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        let isReleased = false
        const release = Effect.andThen(Effect.yieldNow, Effect.sync(() => void (isReleased = true)))
        const loop = yield* consuming(inbox, () => Effect.ensuring(Effect.never, release), 2)
        yield* offer(inbox, 2)
        yield* Effect.yieldNow
        yield* Fiber.interrupt(loop)
        assert.isTrue(isReleased)
        assert.deepStrictEqual((yield* inbox.drain).map(({ status }) => status), ["taken", "taken"])
      })
    ))

  it.effect("runs handlers in the asynchronous context of the loop, whoever stores the message", () =>
    withInbox((inbox) =>
      Effect.gen(function*() {
        const storage = new AsyncLocalStorage<string>()
        const seen: Array<string | undefined> = []
        const loop = inbox.consume(() => Effect.sync(() => void seen.push(storage.getStore())))
        const context = yield* Effect.context()
        const fiber = storage.run("reader", () => Effect.runForkWith(context)(loop))
        yield* Effect.yieldNow
        yield* Effect.promise(() => storage.run("sender", () => Effect.runPromiseWith(context)(offer(inbox, 2))))
        yield* until(() => seen.length === 2)
        assert.deepStrictEqual(seen, ["reader", "reader"])
        yield* Fiber.interrupt(fiber)
      })
    ))
})

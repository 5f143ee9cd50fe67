/** The inbox against a plain list, in random sequences of commands that are shrunk to the shortest that still fails. */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Cause, Deferred, Effect, Exit, Fiber, References, Result, Schema, Scope, Stream } from "effect"
import * as Inbox from "../src/Inbox.ts"
import * as deliveriesOf from "../src/internal/deliveries.ts"
import * as Limits from "../src/Limits.ts"
import * as Message from "../src/Message.ts"
import { seed, sized } from "./utils/effort.ts"

const runs = sized(2_000, 50_000)
const limits: Limits.Options = { maxInboxEntries: 8, maxFrameBytes: 400, maxInboxBytes: 400, maxRememberedMessages: 16 }
const maxEntries = 8
const maxBytes = 400

const below = (maximum: number) => Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: maximum - 1 })))
const command = <const K extends string>(kind: K) => Schema.Struct({ kind: Schema.Literal(kind), n: below(120) })
/** `n` is a size, an id, or which of the handlers at work. */
const Command = Schema.Union([
  command("offer"),
  command("receive"),
  command("receive again"),
  command("take"),
  command("take with nobody offering"),
  command("take and wait"),
  command("pull"),
  command("drain"),
  command("consume"),
  command("succeed"),
  command("fail"),
  command("interrupt"),
  command("stop")
])
type Command = typeof Command.Type

interface Entry {
  readonly ordinal: number
  readonly data: string
  readonly bytes: number
}

interface Handling {
  readonly entry: Entry
  readonly loop: Fiber.Fiber<unknown, unknown>
  readonly verdict: Deferred.Deferred<void, string>
  readonly done: Deferred.Deferred<void>
}

const dataOf = (entries: ReadonlyArray<Inbox.Entry>) => entries.map(({ message }) => message.data)

/** Runs the commands on an inbox and on the list at once; a difference is a failure. */
const agree = (commands: ReadonlyArray<Command>) =>
  Effect.scoped(Effect.gen(function*() {
    const scope = yield* Scope.make()
    const inbox = yield* Scope.provide(Inbox.make, scope)
    const deliveries = deliveriesOf.make(yield* Limits.Limits)

    let ordinal = 0
    let waiting: Array<Entry> = []
    let handling: Array<Handling> = []
    // What each message id was first stored as.
    const known = new Map<string, string>()
    const size = () => {
      const all = [...waiting, ...handling.map(({ entry }) => entry)]
      return { entries: all.length, bytes: all.reduce((sum, { bytes }) => sum + bytes, 0) }
    }
    const fits = (bytes: number) => size().entries < maxEntries && size().bytes + bytes <= maxBytes

    const receive = (messageId: string, bytes: number) => {
      const seen = deliveries.find("", messageId, 0)
      assert.strictEqual(seen?.ackId, known.get(messageId))
      if (seen !== undefined) return
      const delivery = new deliveriesOf.Delivery(deliveries, 0)
      const room = fits(bytes)
      const sender: Inbox.Sender = { address: undefined, verified: false }
      const data = `${messageId} ${ordinal}`
      const stored = inbox.offerUnsafe({ message: Message.text(data), sender, bytes }, 0)
      assert.strictEqual(Result.isSuccess(stored), room)
      if (Result.isFailure(stored)) {
        assert.deepStrictEqual(
          stored.failure,
          size().entries >= maxEntries
            ? new Inbox.InboxFull({ limit: "maxInboxEntries", value: maxEntries })
            : new Inbox.InboxFull({ limit: "maxInboxBytes", value: maxBytes })
        )
        return
      }
      ordinal++
      assert.strictEqual(stored.success.id, `uds-${ordinal}`)
      delivery.ackId = stored.success.id
      deliveries.remember("", messageId, delivery)
      known.set(messageId, stored.success.id)
      for (const oldest of known.keys()) {
        if (known.size <= 16) break
        known.delete(oldest)
      }
      waiting.push({ ordinal, data, bytes })
    }

    /** A loop that has one entry in hand, and would wait with any other. */
    const consume = Effect.gen(function*() {
      const [entry] = waiting
      if (entry === undefined) return
      const verdict = yield* Deferred.make<void, string>()
      const begun = yield* Deferred.make<string | undefined>()
      const done = yield* Deferred.make<void>()
      const loop = yield* inbox.consume((given) =>
        Deferred.isDoneUnsafe(begun)
          ? Effect.andThen(Deferred.succeed(done, undefined), Effect.never)
          : Effect.andThen(Deferred.succeed(begun, given.message.data), Deferred.await(verdict))
      ).pipe(Effect.forkChild({ startImmediately: true }))
      assert.strictEqual(yield* Deferred.await(begun), entry.data)
      waiting.shift()
      handling.push({ entry, loop, verdict, done })
    })

    const finish = (n: number, end: (handling: Handling) => Effect.Effect<boolean>) =>
      Effect.gen(function*() {
        const one = handling[n % handling.length]
        if (one === undefined) return
        handling = handling.filter((other) => other !== one)
        if (yield* end(one)) waiting = [...waiting, one.entry].sort((a, b) => a.ordinal - b.ordinal)
      })

    const run = Effect.fnUntraced(function*({ kind, n }: Command) {
      switch (kind) {
        case "offer": {
          const data = `own ${"x".repeat(n)}`
          const bytes = JSON.stringify(Message.text(data)).length
          const room = fits(bytes)
          assert.strictEqual(Exit.isSuccess(yield* Effect.exit(inbox.offer(Message.text(data)))), room)
          if (room) waiting.push({ ordinal: ++ordinal, data, bytes })
          return
        }
        case "receive":
          return receive(`m${n} ${ordinal}`, n + 1)
        case "receive again":
          return receive(`again ${n % 20}`, n + 1)
        case "take": {
          const expected = waiting.shift()
          if (expected !== undefined) assert.strictEqual((yield* inbox.take).message.data, expected.data)
          return
        }
        case "take with nobody offering": {
          if (waiting.length > 0) return
          const taker = yield* Effect.forkChild(inbox.take, { startImmediately: true })
          assert.isUndefined(taker.pollUnsafe())
          return yield* Fiber.interrupt(taker)
        }
        case "take and wait": {
          if (waiting.length > 0) return
          const taker = yield* Effect.forkChild(inbox.take, { startImmediately: true })
          receive(`m${n} ${ordinal}`, n + 1)
          const expected = waiting.shift()
          // Handlers may fill the inbox, so that nothing came.
          if (expected === undefined) return yield* Fiber.interrupt(taker)
          assert.strictEqual((yield* Fiber.join(taker)).message.data, expected.data)
          return
        }
        case "pull": {
          const expected = waiting.splice(0, n % 3)
          const pulled = yield* Stream.runCollect(Stream.take(inbox.stream, expected.length))
          assert.deepStrictEqual(dataOf(pulled), expected.map(({ data }) => data))
          return
        }
        case "drain":
          assert.deepStrictEqual(dataOf(yield* inbox.drain), waiting.map(({ data }) => data))
          waiting = []
          return
        case "consume":
          return yield* consume
        case "succeed":
        case "fail":
          return yield* finish(n, ({ loop, verdict }) =>
            Effect.gen(function*() {
              yield* kind === "succeed" ? Deferred.succeed(verdict, undefined) : Deferred.fail(verdict, "no")
              yield* Effect.repeat(Effect.yieldNow, { times: 5 })
              yield* Fiber.interrupt(loop)
              return false
            }))
        case "interrupt":
          return yield* finish(n, ({ loop }) => Effect.as(Fiber.interrupt(loop), true))
        case "stop":
          // Ends what listens for arrivals. Entries stay, for whoever still has the inbox.
          return yield* Scope.close(scope, Exit.void)
      }
    })

    for (const command of commands) {
      yield* run(command)
      assert.deepStrictEqual(yield* inbox.size, size(), command.kind)
    }
    yield* Effect.forEach(handling, ({ loop }) => Fiber.interrupt(loop))
  })).pipe(
    Effect.provide(Limits.layer(limits)),
    Effect.provideService(References.MinimumLogLevel, "None"),
    // A failed assertion is a defect, which would not be shrunk.
    Effect.catchCause((cause) => Effect.fail(Cause.pretty(cause)))
  )

describe("Inbox", () => {
  it.effect(`agrees with a plain list in ${runs} runs of up to 200 commands`, () =>
    Effect.gen(function*() {
      const commands = Arbitrary.array(Arbitrary.schema(Command), { maxLength: 200 })
      const checked = yield* Arbitrary.checkEffect(commands, (_) => Effect.as(agree(_), true), {
        runs,
        seed,
        size: 200
      })
      assert.isUndefined(Arbitrary.formatCheckFailure(checked))
    }))
})

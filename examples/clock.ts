/**
 * A test of one's own program that takes an hour, in no time: endpoints in memory, and a clock that the test moves. Needs
 * no test runner; in a test file each `ensure` would be an assertion, and `it.effect` would bring the clock.
 *
 * Run it with `node --conditions=effect-messaging-source examples/clock.ts` from a checkout. It exits with 1 if a check
 * failed.
 */
import { Context, Effect, Fiber, Layer, Schema } from "effect"
import { Inbox, Layers, Messaging } from "effect-messaging"
import { TestClock } from "effect/testing"

// The program under test: asks for a permission, and takes an hour of silence for a no.

const leadPath = "/memory/lead.sock"

const permitted = Effect.fnUntraced(function*(question: string) {
  const { ask } = yield* Messaging.Messaging
  return yield* ask(leadPath, question, { timeout: "1 hour" }).pipe(
    Effect.map((answer) => answer === "yes"),
    Effect.catchReason("MessagingError", "Timeout", () => Effect.succeed(false))
  )
})

// Its tests.

class CheckFailed extends Schema.TaggedError<CheckFailed>()("CheckFailed", { what: Schema.String }) {
  override get message() {
    return `failed: ${this.what}`
  }
}
const say = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))
const ensure = (what: string, holds: boolean) => holds ? say(`ok: ${what}`) : Effect.fail(new CheckFailed({ what }))

/** Asks in a fiber, and has the question arrive at the lead. */
const asked = Effect.gen(function*() {
  const lead = yield* Layer.build(Layers.layerMemory({ socketPath: leadPath }))
  const worker = yield* Layer.build(Layers.layerMemory({ socketPath: "/memory/worker.sock" }))
  const asking = yield* Effect.forkScoped(Effect.provide(permitted("may I deploy?"), worker))
  const question = yield* Context.get(lead, Inbox.Inbox).take
  return { asking, question }
})

const withNetwork = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  test.pipe(Effect.scoped, Effect.provide(Layer.merge(Layers.memoryNetwork, TestClock.layer())))

const lateAnswer = withNetwork(Effect.gen(function*() {
  const { asking, question } = yield* asked
  yield* TestClock.adjust("59 minutes")
  yield* question.reply("yes")
  yield* ensure("an answer in the last minute counts", yield* Fiber.join(asking))
}))

const silence = withNetwork(Effect.gen(function*() {
  const { asking } = yield* asked
  yield* TestClock.adjust("59 minutes")
  yield* ensure("it still waits after 59 minutes", asking.pollUnsafe() === undefined)
  yield* TestClock.adjust("1 minute")
  yield* ensure("an hour of silence is a no", !(yield* Fiber.join(asking)))
}))

await Effect.runPromise(
  Effect.andThen(Effect.all([lateAnswer, silence], { discard: true }), say("clock: all checks passed"))
)

/**
 * A network between in-memory endpoints that delays, reorders, cuts and loses, the same way every time it is run with the
 * same seed.
 *
 * What it does to each frame is drawn from the seed, the number of the connection and the direction, and happens on
 * Effect's clock; so under `TestClock` a run depends on nothing else, and two runs have the same log. Frames of one
 * connection keep their order, as on every stream socket; those of different connections overtake each other.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { Interposer } from "../internal/interposer.ts"
import { connectThrough, type Event, type Fate, type Judge } from "../internal/shapedSocket.ts"
import { Transport } from "../Transport.ts"

export type { Event }

/** What the network does to frames. */
export interface Conditions {
  /** The least time a frame is under way. Default zero. */
  readonly minDelay?: Duration.Input | undefined
  /** The most. Each frame's is drawn evenly between the two. Default `minDelay`, or zero. */
  readonly maxDelay?: Duration.Input | undefined
  /**
   * The share of acks, 0 to 1, that are lost although their connection stays. Default 0. The sender waits until the
   * connection is cut, and then sends again, or until its deadline.
   */
  readonly dropAcks?: number | undefined
  /** The share of frames, 0 to 1, in whose place the connection ends, with all that is under way. Default 0. */
  readonly cut?: number | undefined
}

/** The conditions at the start, and the seed from which everything is drawn. */
export interface Options extends Conditions {
  /** Any whole number. Default 1. */
  readonly seed?: number | undefined
}

/** A condition was given a value that cannot be. */
export class InvalidCondition extends Schema.TaggedError<InvalidCondition>()("InvalidCondition", {
  /** Which condition. */
  field: Schema.String,
  /** The value as text. */
  value: Schema.String
}) {
  override get message() {
    return `the network's ${this.field} cannot be ${this.value}`
  }
}

/** The network that its layer has made: changes it, cuts it, tells what it did. */
export class Network extends Context.Service<Network, {
  /** Changes what is given for the frames that are sent from now on. Fails with `InvalidCondition`. */
  readonly set: (conditions: Conditions) => Effect.Effect<void, InvalidCondition>
  /** Ends the connections to the endpoint at the path, or all, with what is under way. Answers with how many. */
  readonly cut: (socketPath?: string) => Effect.Effect<number>
  /** What has happened so far, in order. */
  readonly log: Effect.Effect<ReadonlyArray<Event>>
}>()("effect-messaging/testing/Network") {}

interface Values {
  readonly minDelay: number
  readonly maxDelay: number
  readonly dropAcks: number
  readonly cut: number
}

const calm: Values = { minDelay: 0, maxDelay: 0, dropAcks: 0, cut: 0 }

const validate = Effect.fnUntraced(function*(conditions: Conditions, former: Values) {
  const millis = (field: "minDelay" | "maxDelay", otherwise: number) => {
    const input = conditions[field]
    if (input === undefined) return Effect.succeed(otherwise)
    const value = Duration.toMillis(Duration.fromInputUnsafe(input))
    return Number.isFinite(value) ? Effect.succeed(value) : new InvalidCondition({ field, value: String(value) })
  }
  const share = (field: "dropAcks" | "cut") => {
    const value = conditions[field] ?? former[field]
    return value >= 0 && value <= 1 ? Effect.succeed(value) : new InvalidCondition({ field, value: String(value) })
  }
  const minDelay = yield* millis("minDelay", former.minDelay)
  const maxDelay = yield* millis("maxDelay", Math.max(minDelay, former.maxDelay))
  if (maxDelay < minDelay) {
    return yield* new InvalidCondition({ field: "maxDelay", value: `${maxDelay} ms, less than minDelay` })
  }
  return { minDelay, maxDelay, dropAcks: yield* share("dropAcks"), cut: yield* share("cut") } satisfies Values
})

/** Uniform in [0, 1): mulberry32, the same numbers for the same state on every machine. */
const makeRandom = (...from: ReadonlyArray<number>) => {
  let state = 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  for (const part of from) state = (Math.floor(next() * 4_294_967_296) ^ part) >>> 0
  return next
}

const make = Effect.fnUntraced(function*({ seed = 1, ...initial }: Options) {
  // Read for every frame, written by `set`.
  let conditions = yield* validate(initial, calm)
  const builtAt = yield* Clock.currentTimeMillis
  const log: Array<Event> = []
  // The open connections, and how each is ended. Written by the dials and their releases.
  const open = new Map<number, { readonly to: string; readonly cut: Effect.Effect<void> }>()
  let dialled = 0

  /** Always as many numbers for a frame, so that a condition changes the fate of its own kind only. */
  const judge = (random: () => number): Judge => (isAck): Fate => {
    const [delay, lost, ended] = [random(), random(), random()]
    const { cut, dropAcks, maxDelay, minDelay } = conditions
    return {
      delay: Math.round(minDelay + delay * (maxDelay - minDelay)),
      end: ended < cut ? "cut" : isAck && lost < dropAcks ? "dropped" : "delivered"
    }
  }

  const transport = (real: Transport["Service"]): Transport["Service"] =>
    Transport.of({
      ...real,
      dial: Effect.fnUntraced(function*(path) {
        const socket = yield* real.dial(path)
        const number = ++dialled
        const { cut, shaped } = yield* connectThrough(socket, {
          connection: number,
          to: path,
          judgeRequest: judge(makeRandom(seed, number, 1)),
          judgeReply: judge(makeRandom(seed, number, 2)),
          builtAt,
          note: (event) => log.push(event)
        })
        yield* Effect.acquireRelease(
          Effect.sync(() => open.set(number, { to: path, cut })),
          () => Effect.sync(() => open.delete(number))
        )
        return shaped
      })
    })
  const network = Network.of({
    set: (changed) =>
      Effect.map(validate(changed, conditions), (values) => {
        conditions = values
      }),
    cut: (socketPath) =>
      Effect.suspend(() => {
        const chosen = [...open.values()].filter(({ to }) => socketPath === undefined || to === socketPath)
        return Effect.as(Effect.forEach(chosen, ({ cut }) => cut, { discard: true }), chosen.length)
      }),
    log: Effect.sync(() => [...log])
  })
  return { network, transport, random: makeRandom(seed, 0) }
})

/**
 * The network of all in-memory endpoints that are built with it: provide it around `Layers.layerMemory`, and use the
 * `Network` it gives. It also gives Effect's `Random` from the seed, from which the library draws the waits between its
 * tries. Name the endpoints by `socketPath`, since default paths are new each time. Fails with `InvalidCondition`.
 */
export const layer = (options: Options = {}): Layer.Layer<Network, InvalidCondition> =>
  Layer.effectContext(Effect.gen(function*() {
    const { network, random, transport } = yield* make(options)
    const outer = yield* Interposer
    return Context.make(Network, network).pipe(
      Context.add(Interposer, { ...outer, transport: (real) => transport(outer.transport(real)) }),
      Context.add(Random.Random, {
        nextDoubleUnsafe: random,
        nextIntUnsafe: () => Math.floor((random() * 2 - 1) * Number.MAX_SAFE_INTEGER)
      })
    )
  }))

/**
 * Runs `effect` to its end and moves the `TestClock` meanwhile, by `step` at a time; so waits of any length cost nothing.
 * Default step: 10 milliseconds.
 */
export const run = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  step: Duration.Input = "10 millis"
): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(step)
    return yield* Fiber.join(fiber)
  })

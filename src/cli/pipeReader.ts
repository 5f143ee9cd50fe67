/**
 * Whether somebody still holds the reading end of the pipe that is standard output. The system tells it of a writing end
 * without a write, as POLLERR, and of all that Node has only WASI polls a descriptor that is no socket.
 *
 * Nothing else in Node tells: a `net.Socket` does not read what is open for writing only (ENOTCONN), `fs.watch` does not
 * ask for closes, a write of nothing succeeds, and to open the pipe again succeeds too, unless it has a name.
 */
import * as Effect from "effect/Effect"
import type * as wasi from "node:wasi"

const section = (id: number, ...content: ReadonlyArray<number>) => [id, content.length, ...content]
const named = (name: string) => [name.length, ...Array.from(name, (character) => character.charCodeAt(0))]

/** A module that exports the `poll_oneoff` it imports, and a page of memory for its arguments. */
const pollModule = () =>
  Uint8Array.from([
    0,
    0x61,
    0x73,
    0x6d,
    1,
    0,
    0,
    0,
    // One type: four i32, and an i32 back.
    ...section(1, 1, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f),
    ...section(2, 1, ...named("wasi_snapshot_preview1"), ...named("poll_oneoff"), 0, 0),
    ...section(5, 1, 0, 1),
    ...section(7, 2, ...named("memory"), 2, 0, ...named("poll"), 0, 0)
  ])

/** Loads WASI without the warning that it is experimental: where it is missing or different, nothing is told. */
const load = (): typeof wasi => {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return process.getBuiltinModule("node:wasi")
  } finally {
    process.emitWarning = emitWarning
  }
}

// Offsets and numbers of wasi_snapshot_preview1: two subscriptions of 48 bytes, events of 32, and their count.
const subscriptionBytes = 48
const eventsAt = 256
const countAt = 512
const fdRead = 1
const stdout = 1
const millisecond = 1_000_000n

/** Asks, and waits a millisecond for the answer. Throws where it cannot be asked. */
const makeAsk = (): () => boolean => {
  const { WASI } = load()
  const system = new WASI({ version: "preview1", stdout })
  const instance = new WebAssembly.Instance(
    new WebAssembly.Module(pollModule()),
    system.getImportObject() as WebAssembly.Imports
  )
  system.initialize(instance)
  const { memory, poll } = instance.exports as {
    readonly memory: WebAssembly.Memory
    readonly poll: (subscriptions: number, events: number, count: number, countAt: number) => number
  }
  const view = new DataView(memory.buffer)
  // What a writing end is never ready for, and so only its error; the time, as the second.
  view.setUint8(8, fdRead)
  view.setUint32(16, stdout, true)
  view.setUint8(subscriptionBytes, 1)
  view.setBigUint64(subscriptionBytes + 24, millisecond, true)
  view.setUint32(subscriptionBytes + 16, 1, true)
  return () => poll(0, eventsAt, 2, countAt) === 0 && view.getUint8(eventsAt) === 0
}

const interval = "200 millis"

/** Ends when the pipe has no reader any more; never where that cannot be told. `wrote` says that a write has just told. */
export const gone = (wrote: () => boolean): Effect.Effect<void> =>
  Effect.gen(function*() {
    const ask = yield* Effect.option(Effect.try({ try: makeAsk, catch: () => "unknown" }))
    if (ask._tag === "None") return yield* Effect.never
    while (true) {
      yield* Effect.sleep(interval)
      if (!wrote() && ask.value()) return
    }
  })

/** Valid frames made wrong, or strange: one change at a time, from numbers that a seed gives back. */
import { Buffer } from "node:buffer"

export interface Mutator {
  readonly pick: <A>(items: ReadonlyArray<A>) => A
  readonly below: (limit: number) => number
  readonly chance: (probability: number) => boolean
  /** The frame with its LF, unless that was what was changed. */
  readonly mutate: (frame: unknown) => Buffer
  /** The frame as it should be. */
  readonly plain: (frame: unknown) => Buffer
  /** The same bytes in one to four pieces. */
  readonly cut: (bytes: Buffer) => Array<Buffer>
}

/** Keys and ids that mean something to JavaScript. */
export const biting = [
  "__proto__",
  "constructor",
  "prototype",
  "toString",
  "valueOf",
  "toJSON",
  "then",
  "length",
  "hasOwnProperty",
  "_tag",
  "~effect/Effect",
  "0",
  "-1",
  ""
] as const

// Numbers that `JSON.stringify` would not write, by the text that stands for them.
const numbers = [
  "1e999",
  "-1e999",
  "-0",
  "1e-999",
  "1.0",
  "9007199254740993",
  "1e308",
  "123456789012345678901234567890"
]
const stand = (text: string) => `@number:${text}@`
const spell = (json: string) => json.replace(/"@number:([^@"]*)@"/g, "$1")

const nested = (depth: number, inner: unknown): unknown => {
  let value = inner
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}

type Container = Record<string, unknown>

export const makeMutator = (random: () => number): Mutator => {
  const below = (limit: number) => Math.floor(random() * limit)
  const pick = <A>(items: ReadonlyArray<A>): A => items[below(items.length)] as A
  const chance = (probability: number) => random() < probability

  const strange = (): unknown =>
    pick<() => unknown>([
      () => null,
      () => chance(0.5),
      () => below(3) - 1,
      () => stand(pick(numbers)),
      () => below(2 ** 31),
      () => "",
      () => "\ud800 \u2028 \u0000 \u001b[31m \u202e ☃",
      () => "x".repeat(below(300)),
      () => [],
      () => ({}),
      () => ({ length: 1e9 }),
      () => nested(below(chance(0.1) ? 70 : 60), null),
      () => Array.from({ length: below(40) }, () => ({})),
      () => pick(biting)
    ])()

  /** Assignment would set the prototype. */
  const define = (at: Container, value: unknown) => {
    const key = Array.isArray(at) ? "0" : pick(biting)
    Object.defineProperty(at, key, { value, enumerable: true, configurable: true, writable: true })
  }

  /** Every object and array of the frame, the frame first. */
  const containers = (value: unknown): Array<Container> =>
    typeof value !== "object" || value === null
      ? []
      : [value as Container, ...Object.values(value).flatMap(containers)]

  // One part of the frame becomes something else. Most leave it a frame, and some of those a message.
  const changes: ReadonlyArray<(frame: Container) => void> = [
    (frame) => {
      const at = pick(containers(frame))
      delete at[pick(Object.keys(at))]
    },
    (frame) => {
      const at = pick(containers(frame))
      const key = pick(Object.keys(at))
      if (key !== undefined) at[key] = strange()
    },
    (frame) => {
      const at = pick(containers(frame))
      const key = pick(Object.keys(at))
      if (key === undefined) return
      const value = at[key]
      delete at[key]
      define(at, value)
    },
    // Strange things where anything goes.
    ...Array.from({ length: 14 }, () => (frame: Container) => {
      const meta = frame["meta"]
      const at = typeof meta === "object" && meta !== null && chance(0.8) ? meta as Container : frame
      define(at, strange())
    }),
    (frame) => {
      frame["type"] = pick(["response", "error", "pong", "ping", "query", "notification", "challenge"])
    },
    (frame) => {
      frame["data"] = pick(["ok", "handled", "failed", "inbox full", "unauthorized", "idle timeout", "\n\r\u2028"])
    },
    (frame) => {
      const meta = frame["meta"]
      if (typeof meta !== "object" || meta === null) return
      Object.assign(
        meta,
        pick([
          { receipt: "handled" },
          { receipt: [] },
          { inReplyTo: "1" },
          { id: "uds-1" },
          {
            duplicate: true
          },
          { retryAfter: stand("1e308") },
          { traceparent: "00-" },
          { traceparent: {} },
          { messageId: pick(biting) }
        ])
      )
    }
  ]

  const insert = (bytes: Buffer, at: number, piece: Uint8Array) =>
    Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)])

  // The text becomes something else. Most of these no longer hold JSON.
  const damages: ReadonlyArray<(bytes: Buffer) => Buffer> = [
    (bytes) => bytes.subarray(0, below(bytes.length)),
    (bytes) => Buffer.concat([bytes.subarray(0, below(bytes.length)), Buffer.from("\n")]),
    (bytes) => insert(bytes, below(bytes.length), Uint8Array.of(below(256))),
    (bytes) =>
      insert(
        bytes,
        below(bytes.length),
        pick([
          Uint8Array.of(0xc3, 0x28),
          Uint8Array.of(0xed, 0xa0, 0x80),
          Uint8Array.of(0xf8, 0x88),
          Uint8Array.of(0xc0, 0xaf)
        ])
      ),
    (bytes) => {
      const copy = Buffer.from(bytes)
      copy[below(copy.length)] = below(256)
      return copy
    },
    (bytes) => Buffer.concat([bytes.subarray(0, -1), bytes]),
    (bytes) => Buffer.concat([Buffer.from(pick(["\ufeff", "\0", "\f", "[", "1 "])), bytes]),
    (bytes) => insert(bytes, below(bytes.length), Buffer.from("\n"))
  ]
  // The text changes and means the same, or says twice what it says.
  const disguises: ReadonlyArray<(bytes: Buffer) => Buffer> = [
    (bytes) => Buffer.concat([bytes, bytes]),
    (bytes) => Buffer.concat([Buffer.from(pick(["\n", " \t\r\n", "\r\n\r\n", "  "])), bytes]),
    (bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.from(" \t\r\n")]),
    (bytes) => Buffer.from(bytes.toString().replaceAll("\"type\"", "\"\\u0074ype\"").replaceAll(":", ":\r")),
    (bytes) => Buffer.from(bytes.toString().replace("{", "{\"type\":\"shout\",\"\\u005f_proto__\":{\"data\":\"x\"},")),
    (bytes) => Buffer.from(bytes.toString().replace(/}\n$/, ",\"x\":[0,{\"y\":\"€😀\"}]}\n"))
  ]

  const plain = (frame: unknown) => Buffer.from(`${spell(JSON.stringify(frame))}\n`)
  return {
    pick,
    below,
    chance,
    plain,
    mutate: (frame) => {
      const dice = random()
      if (dice < 0.0005) return plain({ ...frame as object, x: "y".repeat(65_400 + below(300)) })
      if (dice < 0.3) return pick(disguises)(plain(frame))
      if (dice < 0.36) return pick(damages)(plain(frame))
      const changed = structuredClone(frame) as Container
      pick(changes)(changed)
      return plain(changed)
    },
    cut: (bytes) => {
      const edges = Array.from({ length: below(4) }, () => below(bytes.length)).sort((a, b) => a - b)
      return [0, ...edges].map((edge, i) => bytes.subarray(edge, edges[i] ?? bytes.length)).filter((_) => _.length > 0)
    }
  }
}

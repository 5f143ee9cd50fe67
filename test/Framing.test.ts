import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Effect, Result, Stream } from "effect"
import * as Framing from "../src/Framing.ts"
import * as Limits from "../src/Limits.ts"
import type { Message } from "../src/Message.ts"

const bytesOf = (text: string) => new TextEncoder().encode(text)

const decodeAll = (chunks: ReadonlyArray<Uint8Array>) => {
  const seen: Array<Message> = []
  return Framing.decode(Stream.fromIterable(chunks)).pipe(
    Stream.runForEach((message) => Effect.sync(() => seen.push(message))),
    Effect.match({ onSuccess: () => undefined, onFailure: (error) => error.reason }),
    Effect.map((failure) => ({ seen, failure }))
  )
}

const text = (data: string) => `{"type":"text","data":${JSON.stringify(data)}}`
const message = (data: string): Message => ({ type: "text", data })

/** Cuts `bytes` at the given offsets. */
const cut = (bytes: Uint8Array, offsets: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const edges = [0, ...[...offsets].sort((a, b) => a - b), bytes.length]
  return edges.slice(1).map((edge, i) => bytes.subarray(edges[i], edge))
}

/** A frame of exactly `bytes` bytes. */
const frameOf = (bytes: number) => text("x".repeat(bytes - text("").length))

describe("Framing.decode", () => {
  it.effect.each([
    { name: "one frame in one chunk", chunks: [`${text("a")}\n`], expected: ["a"] },
    {
      name: "many frames in one chunk",
      chunks: [`${text("a")}\n${text("b")}\n${text("c")}\n`],
      expected: ["a", "b", "c"]
    },
    {
      name: "one frame over many chunks",
      chunks: ["{\"type\":", "\"text\",\"da", "ta\":\"a\"", "}", "\n"],
      expected: ["a"]
    },
    { name: "a cut between CR and LF", chunks: [`${text("a")}\r`, `\n${text("b")}\n`], expected: ["a", "b"] },
    { name: "a lone CR between tokens", chunks: ["{\"type\":\r\"text\",\r\"data\":\"a\"}\n"], expected: ["a"] },
    { name: "spaces around a frame", chunks: [` \t${text("a")} \t\r\n`], expected: ["a"] },
    { name: "lines of spaces, tabs and CR", chunks: ["\n \n\t\r\n", `${text("a")}\n`, "\r\n"], expected: ["a"] },
    { name: "bytes after the last LF", chunks: [`${text("a")}\n${text("b")}`], expected: ["a"] },
    { name: "an empty chunk", chunks: ["", `${text("a")}\n`, ""], expected: ["a"] },
    { name: "unknown top-level keys", chunks: ["{\"type\":\"text\",\"data\":\"a\",\"x\":1}\n"], expected: ["a"] }
  ])("reads $name", ({ chunks, expected }) =>
    Effect.gen(function*() {
      const { failure, seen } = yield* decodeAll(chunks.map(bytesOf))
      assert.isUndefined(failure)
      assert.deepStrictEqual(seen, expected.map(message))
    }))

  it.effect.each([
    { name: "JSON that ends early", frame: "{\"type\":", problem: "not JSON" },
    { name: "a BOM", frame: `\ufeff${text("a")}`, problem: "not JSON" },
    { name: "a NUL", frame: `\0${text("a")}`, problem: "not JSON" },
    { name: "a form feed", frame: "\f", problem: "not JSON" },
    { name: "two values", frame: `${text("a")} ${text("b")}`, problem: "not JSON" },
    { name: "null", frame: "null", problem: "not an object" },
    { name: "an array", frame: "[]", problem: "not an object" },
    { name: "a string", frame: "\"text\"", problem: "not an object" },
    { name: "an unknown type", frame: "{\"type\":\"shout\"}", problem: "not a message" },
    { name: "a newline in type", frame: "{\"type\":\"text\\n\"}", problem: "not a message" },
    { name: "no type", frame: "{}", problem: "not a message" },
    { name: "data that is not a string", frame: "{\"type\":\"text\",\"data\":1}", problem: "not a message" },
    { name: "data that is null", frame: "{\"type\":\"text\",\"data\":null}", problem: "not a message" },
    { name: "meta that is an array", frame: "{\"type\":\"text\",\"meta\":[]}", problem: "not a message" }
  ])("refuses $name, after the good frames and before what follows", ({ frame, problem }) =>
    Effect.gen(function*() {
      const { failure, seen } = yield* decodeAll([bytesOf(`${text("a")}\n${frame}\n${text("b")}\n`)])
      assert.deepStrictEqual(seen, [message("a")])
      assert.deepStrictEqual(failure, new Framing.InvalidFrame({ problem: problem as "not JSON" }))
    }))

  it.effect("refuses invalid UTF-8 after the good frames of the same chunk", () =>
    Effect.gen(function*() {
      const bad = Uint8Array.from([
        ...bytesOf(`${text("ä")}\n{"type":"text","data":"`),
        0xc3,
        0x28,
        ...bytesOf("\"}\n")
      ])
      const { failure, seen } = yield* decodeAll([bad])
      assert.deepStrictEqual(seen, [message("ä")])
      assert.deepStrictEqual(failure, new Framing.InvalidFrame({ problem: "not UTF-8" }))
    }))

  it.effect.each([
    { name: "a line over the limit", before: frameOf(65_537), tag: "FrameTooLarge" },
    { name: "a line that is not JSON", before: "nonsense", tag: "InvalidFrame" },
    { name: "a line at the limit, which passes", before: frameOf(65_536), tag: undefined },
    { name: "blank lines, which are skipped", before: "\n \t\r", tag: undefined }
  ])(
    "judges lines in order where a later one of the chunk is not UTF-8: $name",
    ({ before, tag }) =>
      Effect.gen(function*() {
        const chunk = Buffer.concat([bytesOf(`${text("a")}\n${before}\n${text("b")}\n`), Buffer.of(0xff, 0x0a)])
        const { failure, seen } = yield* decodeAll([chunk])
        const read = seen.map(({ data = "" }) => data.length > 1 ? "long" : data)
        if (tag === undefined) {
          assert.deepStrictEqual(read, before.length > 10 ? ["a", "long", "b"] : ["a", "b"])
          assert.deepStrictEqual(failure, new Framing.InvalidFrame({ problem: "not UTF-8" }))
          return
        }
        assert.deepStrictEqual(read, ["a"])
        assert.strictEqual(failure?._tag, tag)
        if (failure?._tag === "FrameTooLarge") assert.strictEqual(failure.bytesSeen, 65_537)
        else assert.deepInclude(failure, { problem: "not JSON" })
      })
  )

  it.effect("refuses invalid UTF-8 wherever a chunk edge cuts its frame", () =>
    Effect.gen(function*() {
      const good = bytesOf(`${text("ä")}\n`)
      const bad = Buffer.concat([
        good,
        bytesOf("{\"type\":\"text\",\"data\":\""),
        Buffer.of(0xc3, 0x28),
        bytesOf("\"}\n")
      ])
      for (let at = good.length; at < bad.length; at++) {
        for (const offsets of [[at], [good.length + 1, at]]) {
          const { failure, seen } = yield* decodeAll(cut(bad, offsets))
          assert.deepStrictEqual(seen, [message("ä")])
          assert.deepStrictEqual(failure, new Framing.InvalidFrame({ problem: "not UTF-8" }))
        }
      }
    }))

  it.effect("joins a character that a chunk edge cuts", () =>
    Effect.gen(function*() {
      const bytes = bytesOf(`${text("a😀b")}\n`)
      const at = bytes.indexOf(0xf0)
      for (const offset of [1, 2, 3]) {
        const { failure, seen } = yield* decodeAll(cut(bytes, [at + offset]))
        assert.isUndefined(failure)
        assert.deepStrictEqual(seen, [message("a😀b")])
      }
    }))

  it.effect("passes a frame at the limit, in one chunk and byte by byte", () =>
    Effect.gen(function*() {
      const bytes = bytesOf(`${frameOf(65_536)}\n`)
      const dripped = Array.from(bytes, (byte) => Uint8Array.of(byte))
      for (const chunks of [[bytes], dripped]) {
        const { failure, seen } = yield* decodeAll(chunks)
        assert.isUndefined(failure)
        assert.strictEqual(seen[0]?.data?.length, 65_536 - text("").length)
      }
    }))

  it.effect.each([
    { name: "in one burst with its end", chunks: [`${frameOf(65_537)}\n`] },
    { name: "in one burst without an end", chunks: [frameOf(65_537)] },
    { name: "with its end in a later chunk", chunks: [frameOf(65_536), " \n"] },
    { name: "in drips without an end", chunks: Array.from({ length: 700 }, () => "x".repeat(100)) },
    { name: "of blanks", chunks: [`${" ".repeat(65_537)}\n`] },
    { name: "of characters of two bytes", chunks: [`${text("ä".repeat(32_760))}\n`] }
  ])("refuses a frame over the limit $name", ({ chunks }) =>
    Effect.gen(function*() {
      const { failure, seen } = yield* decodeAll([bytesOf(`${text("a")}\n`), ...chunks.map(bytesOf)])
      assert.deepStrictEqual(seen, [message("a")])
      assert.strictEqual(failure?._tag, "FrameTooLarge")
      if (failure?._tag !== "FrameTooLarge") return
      assert.strictEqual(failure.maxBytes, 65_536)
      assert.isAbove(failure.bytesSeen, 65_536)
    }))

  it.effect("counts CR and spaces towards the limit", () =>
    Effect.gen(function*() {
      const at = yield* decodeAll([bytesOf(`${frameOf(65_534)} \r\n`)])
      assert.isUndefined(at.failure)
      const over = yield* decodeAll([bytesOf(`${frameOf(65_535)} \r\n`)])
      assert.strictEqual(over.failure?._tag, "FrameTooLarge")
    }))

  it.effect("counts nesting from the frame itself: 64 deep passes, 65 does not", () =>
    Effect.gen(function*() {
      const nested = (depth: number) =>
        `{"type":"text","meta":{"a":${"[".repeat(depth - 2)}${"]".repeat(depth - 2)}}}\n`
      assert.isUndefined((yield* decodeAll([bytesOf(nested(64))])).failure)
      const { failure } = yield* decodeAll([bytesOf(nested(65))])
      assert.deepStrictEqual(failure, new Framing.InvalidFrame({ problem: "nested too deep" }))
      const unknownKey = `{"type":"text","x":${"[".repeat(4_000)}${"]".repeat(4_000)}}\n`
      assert.deepStrictEqual((yield* decodeAll([bytesOf(unknownKey)])).failure, failure)
    }))

  it.effect("drops keys that name a prototype, however they are spelled and wherever they stand", () =>
    Effect.gen(function*() {
      const frame =
        "{\"type\":\"text\",\"__proto__\":{\"data\":\"x\"},\"meta\":{\"a\":{\"__pr\\u006fto__\":{\"b\":1}," +
        "\"constructor\":{\"prototype\":1},\"c\":[{\"prototype\":2,\"d\":3}]}}}\n"
      const { seen } = yield* decodeAll([bytesOf(frame)])
      assert.deepStrictEqual(seen, [{ type: "text", meta: { a: { c: [{ d: 3 }] } } }])
      assert.strictEqual(JSON.stringify(seen), "[{\"type\":\"text\",\"meta\":{\"a\":{\"c\":[{\"d\":3}]}}}]")
    }))

  it.effect("keeps lone surrogates harmless", () =>
    Effect.gen(function*() {
      const { failure, seen } = yield* decodeAll([bytesOf("{\"type\":\"text\",\"data\":\"\\ud800\"}\n")])
      assert.isUndefined(failure)
      assert.strictEqual(seen[0]?.data, "\ud800")
    }))

  it.effect("passes an upstream failure unchanged, after what came before it", () =>
    Effect.gen(function*() {
      const seen: Array<Message> = []
      const upstream = Stream.concat(Stream.succeed(bytesOf(`${text("a")}\n`)), Stream.fail("lost" as const))
      const failure = yield* Framing.decode(upstream).pipe(
        Stream.runForEach((message) => Effect.sync(() => seen.push(message))),
        Effect.flip
      )
      assert.strictEqual(failure, "lost")
      assert.deepStrictEqual(seen, [message("a")])
    }))

  it.effect("keeps batches: the frames of one read come as one array", () =>
    Effect.gen(function*() {
      const sizes: Array<number> = []
      yield* Framing.decode(Stream.fromIterable([bytesOf(`${text("a")}\n${text("b")}\n`)], { chunkSize: 1 })).pipe(
        Stream.runForEachArray((batch) => Effect.sync(() => sizes.push(batch.length)))
      )
      assert.deepStrictEqual(sizes, [2])
    }))

  it.effect("gives no batch for a read that completes no frame", () =>
    Effect.gen(function*() {
      const sizes: Array<number> = []
      const reads = [text("a"), "\n", "\n", `${text("b")}\n${text("c")}`, "\n"].map(bytesOf)
      yield* Framing.decode(Stream.fromIterable(reads, { chunkSize: 1 })).pipe(
        Stream.runForEachArray((batch) => Effect.sync(() => sizes.push(batch.length)))
      )
      assert.deepStrictEqual(sizes, [1, 1, 1])
    }))

  it.effect("uses the limits in force", () =>
    Effect.gen(function*() {
      const { failure } = yield* decodeAll([bytesOf(`${text("more than twenty bytes")}\n`)])
      assert.deepStrictEqual(
        failure,
        new Framing.FrameTooLarge({ maxBytes: 20, bytesSeen: text("more than twenty bytes").length })
      )
    }).pipe(Effect.provide(Limits.layer({ maxFrameBytes: 20 }))))

  it.effect("tells the limit and what was seen, or what the frame is not", () =>
    Effect.gen(function*() {
      const long = yield* decodeAll([bytesOf(`${frameOf(65_537)}\n`)])
      assert.strictEqual(long.failure?.message, "frame of 65537 bytes or more exceeds the limit of 65536 bytes")
      const wrong = yield* Effect.flip(Stream.runDrain(Framing.decode(Stream.succeed(bytesOf("null\n")))))
      assert.strictEqual(wrong.message, "frame is not an object")
    }))

  it.effect("quotes nothing of a bad frame in its error", () =>
    Effect.gen(function*() {
      const token = "0123456789abcdef".repeat(4)
      const { failure } = yield* decodeAll([bytesOf(`${token}\n`)])
      assert.notInclude(`${failure?.message} ${JSON.stringify(failure)}`, "0123")
    }))
})

describe("Framing.makeDecoder", () => {
  it("puts what a shortcut makes of a line in the frame's place, however the line arrives", () => {
    const bytes = Buffer.from("{\"a\":1}\n!b\n\n{\"c\":\"é\"}\n!d\n")
    for (const size of [1, 2, 3, 5, bytes.length]) {
      const decoder = Framing.makeDecoder(
        Limits.defaults,
        (text, start, end) => text.startsWith("!", start) ? text.slice(start + 1, end) : undefined
      )
      const out: Array<Framing.Frame | string> = []
      for (let at = 0; at < bytes.length; at += size) {
        assert.isUndefined(decoder.push(bytes.subarray(at, at + size), out))
      }
      assert.deepStrictEqual(out.map((item) => typeof item === "string" ? item : item.value), [
        { a: 1 },
        "b",
        { c: "é" },
        "d"
      ])
    }
  })

  it("shows a shortcut no line that is too long, damaged, or behind a bad one", () => {
    const shown: Array<string> = []
    const decode = (bytes: Uint8Array) =>
      Framing.makeDecoder({ ...Limits.defaults, maxFrameBytes: 4 }, (text, start, end) => {
        shown.push(text.slice(start, end))
        return text
      }).push(bytes, [])
    assert.isDefined(decode(Buffer.from("a\n12345\nb\n")))
    assert.isDefined(decode(Buffer.from([0x63, 0x0a, 0xff, 0x0a, 0x64, 0x0a])))
    assert.deepStrictEqual(shown, ["a", "c"])
  })

  it("keeps no small piece of half a frame but the first: the others are gathered in a buffer of its own", () => {
    const decoder = Framing.makeDecoder(Limits.defaults)
    const out: Array<Framing.Frame> = []
    for (const [i, byte] of [...bytesOf(`${text("gathered")}\n`)].entries()) {
      const piece = Uint8Array.of(byte)
      decoder.push(piece, out)
      if (i > 0) piece[0] = 0
    }
    assert.deepStrictEqual(out.map(({ value }) => value), [{ type: "text", data: "gathered" }])
  })

  it("keeps half a frame of any length where pieces of it come one by one", () => {
    const limits = { ...Limits.defaults, maxFrameBytes: 1_000_000 }
    const whole = Buffer.from(`${text("0123456789".repeat(99_990))}\n`)
    const pieces = (size: number) =>
      Array.from({ length: Math.ceil(whole.length / size) }, (_, i) => whole.subarray(i * size, (i + 1) * size))
    for (const size of [1_000, 40_000, 300_000, 600_000]) {
      const decoder = Framing.makeDecoder(limits)
      const out: Array<Framing.Frame> = []
      // Twice, since the buffer of the first frame is not that of the second.
      for (const piece of [...pieces(size), ...pieces(size)]) assert.isUndefined(decoder.push(piece, out))
      const frame = { value: JSON.parse(whole.toString()) as unknown, bytes: whole.length - 1 }
      assert.deepStrictEqual(out.map(({ bytes, value }) => ({ value, bytes })), [frame, frame], `pieces of ${size}`)
    }
  })

  it("counts what it holds before it takes more", () => {
    const decoder = Framing.makeDecoder({ ...Limits.defaults, maxFrameBytes: 10 })
    const out: Array<Framing.Frame> = []
    assert.isUndefined(decoder.push(bytesOf("{    "), out))
    assert.isUndefined(decoder.push(bytesOf("    }"), out))
    assert.isUndefined(decoder.push(bytesOf("\n12345"), out))
    assert.deepStrictEqual(out.map(({ bytes }) => bytes), [10])
    assert.isUndefined(decoder.push(bytesOf("678"), out))
    const tooLarge = (bytesSeen: number) => new Framing.FrameTooLarge({ maxBytes: 10, bytesSeen })
    assert.deepStrictEqual(decoder.push(bytesOf("901"), out)?.reason, tooLarge(11))
    const other = Framing.makeDecoder({ ...Limits.defaults, maxFrameBytes: 10 })
    assert.isUndefined(other.push(bytesOf("1"), out))
    assert.isUndefined(other.push(bytesOf("2"), out))
    assert.deepStrictEqual(other.push(bytesOf("3456789012\n"), out)?.reason, tooLarge(12))
  })

  it("numbers half frames, so that a new one is told from an old one", () => {
    const decoder = Framing.makeDecoder(Limits.defaults)
    const out: Array<Framing.Frame> = []
    assert.isUndefined(decoder.partialFrame())
    decoder.push(bytesOf("{"), out)
    const first = decoder.partialFrame()
    decoder.push(bytesOf("}\n{"), out)
    const second = decoder.partialFrame()
    assert.isNumber(first)
    assert.isNumber(second)
    assert.notStrictEqual(first, second)
    decoder.push(bytesOf("}\n"), out)
    assert.isUndefined(decoder.partialFrame())
  })
})

describe("Framing.encode", () => {
  const encodeAll = (messages: ReadonlyArray<Message>) =>
    Framing.encode(Stream.fromIterable(messages)).pipe(Stream.decodeText, Stream.mkString)

  it.effect("gives one chunk for each batch, which decode reads back", () =>
    Effect.gen(function*() {
      const messages: ReadonlyArray<Message> = [
        message("ä\n\"😀"),
        { type: "query", data: "q", from: "/a", ts: "2026-01-01T00:00:00.000Z", meta: { a: [1, null, { b: true }] } }
      ]
      const chunks = yield* Stream.runCollect(Framing.encode(Stream.fromIterable(messages)))
      assert.strictEqual(chunks.length, 1)
      assert.deepStrictEqual((yield* decodeAll(chunks)).seen, messages)
    }))

  const cyclic: Record<string, unknown> = {}
  cyclic["self"] = cyclic
  it.effect.each([
    { name: "a BigInt", meta: { n: 1n }, problem: "meta.n is a bigint, which JSON cannot hold" },
    { name: "a cycle", meta: cyclic, problem: "is nested too deep, or refers to itself" },
    { name: "NaN", meta: { n: Number.NaN }, problem: "meta.n is NaN, which JSON cannot hold" },
    { name: "a function", meta: { f: () => 1 }, problem: "meta.f is a function, which JSON cannot hold" },
    { name: "undefined", meta: { a: [undefined] }, problem: "meta.a.0 is a undefined, which JSON cannot hold" },
    { name: "a Date", meta: { d: new Date(0) }, problem: "meta.d is an instance of a class, which JSON cannot hold" }
  ])("refuses $name in meta, naming the place", ({ meta, problem }) =>
    Effect.gen(function*() {
      // What a caller without types can pass.
      const error = yield* Effect.flip(encodeAll([{ type: "text", meta: meta as {} }]))
      assert.strictEqual(error.reason._tag, "InvalidMessage")
      assert.include(error.message, problem)
    }))

  it("refuses an object that is shared so often that its JSON would explode", () => {
    let value: {} = {}
    for (let i = 0; i < 60; i++) value = { a: value, b: value }
    const encoded = Framing.encodeFrame({ type: "text", meta: { value } }, Limits.defaults)
    assert.include(Result.isFailure(encoded) ? encoded.failure.message : "", "holds too many objects")
  })

  it.each([
    { type: "shout" },
    { data: "a" },
    { type: "text", data: 1 },
    { type: "text", data: null },
    { type: "text", from: 1 },
    { type: "text", ts: new Date(0) },
    { type: "text", meta: null },
    { type: "text", meta: [] },
    { type: "text", meta: "a" },
    null
  ])("refuses what does not fit the schema: %j", (given) => {
    // What a caller without types can pass.
    const encoded = Framing.encodeFrame(given as unknown as Message, Limits.defaults)
    assert.match(
      Result.isFailure(encoded) ? encoded.failure.message : "",
      given === null
        ? /^message cannot be sent: one of its properties throws/
        : /^message cannot be sent: it does not fit the message schema \(type, data, from, ts, meta\)$/
    )
  })

  it("refuses a property that throws, without repeating what it throws", () => {
    const meta = Object.defineProperty({}, "secret", {
      enumerable: true,
      get: () => {
        throw new Error("5ec2e7")
      }
    })
    const encoded = Framing.encodeFrame({ type: "text", meta }, Limits.defaults)
    assert.strictEqual(
      Result.isFailure(encoded) ? encoded.failure.message : "",
      "message cannot be sent: one of its properties throws when it is read"
    )
  })

  it("counts the nesting of meta from the frame itself: 64 deep passes, 65 does not", () => {
    const meta = (depth: number): {} => depth === 0 ? {} : { a: meta(depth - 1) }
    assert.isTrue(Result.isSuccess(Framing.encodeFrame({ type: "text", meta: meta(62) }, Limits.defaults)))
    const encoded = Framing.encodeFrame({ type: "text", meta: meta(63) }, Limits.defaults)
    assert.include(Result.isFailure(encoded) ? encoded.failure.message : "", "is nested too deep")
  })

  it("passes a frame at the limit, its LF not counted", () => {
    const limit = (maxFrameBytes: number) => Framing.encodeFrame(message("ä"), { ...Limits.defaults, maxFrameBytes })
    const bytes = Buffer.byteLength(text("ä"))
    assert.deepStrictEqual(limit(bytes), Result.succeed(`${text("ä")}\n`))
    assert.isTrue(Result.isFailure(limit(bytes - 1)))
  })

  it("adds the protocol's part of meta, which wins, and the sender where the message states none", () => {
    const encode = (message: Message, envelope?: {}) =>
      JSON.parse(Result.getOrThrow(Framing.encodeFrame(message, Limits.defaults, envelope, "/own"))) as unknown
    const meta = { a: 1, messageId: "mine" }
    assert.deepStrictEqual(encode({ type: "text", meta }, { messageId: "m" }), {
      type: "text",
      from: "/own",
      meta: { a: 1, messageId: "m" }
    })
    assert.deepStrictEqual(encode({ type: "text" }, { messageId: "m" }), {
      type: "text",
      from: "/own",
      meta: { messageId: "m" }
    })
    assert.deepStrictEqual(encode({ type: "text", meta }), { type: "text", from: "/own", meta })
    assert.deepStrictEqual(encode({ type: "text", from: "/stated" }), { type: "text", from: "/stated" })
    assert.deepStrictEqual(encode({ type: "ping" }), { type: "ping" })
    assert.deepStrictEqual(encode({ type: "ping", from: "/stated" }), { type: "ping", from: "/stated" })
  })

  it.effect("refuses a message over the limit, after those before it", () =>
    Effect.gen(function*() {
      const seen: Array<Uint8Array> = []
      const error = yield* Framing.encode(Stream.fromIterable([message("a"), message("x".repeat(65_536))])).pipe(
        Stream.runForEach((chunk) => Effect.sync(() => seen.push(chunk))),
        Effect.flip
      )
      assert.deepStrictEqual(
        error.reason,
        new Framing.FrameTooLarge({ maxBytes: 65_536, bytesSeen: text("").length + 65_536 })
      )
      assert.strictEqual(Buffer.concat(seen).toString(), `${text("a")}\n`)
    }))

  it.effect("gives no chunk where no message comes before the bad one", () =>
    Effect.gen(function*() {
      const chunks: Array<Uint8Array> = []
      const bad = { type: "text", meta: { n: Number.NaN } } as Message
      yield* Framing.encode(Stream.fromIterable([bad, message("a")])).pipe(
        Stream.runForEach((chunk) => Effect.sync(() => chunks.push(chunk))),
        Effect.flip
      )
      assert.deepStrictEqual(chunks, [])
    }))

  it.effect("keeps the order of a batch", () =>
    Effect.gen(function*() {
      const all = Arr.makeBy(500, (i) => message(String(i)))
      assert.strictEqual(yield* encodeAll(all), all.map((m) => `${text(m.data ?? "")}\n`).join(""))
    }))
})

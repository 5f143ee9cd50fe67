import { assert, describe, it } from "@effect/vitest"
import { Option, Result } from "effect"
import * as Address from "../src/Address.ts"

const failure = <A>(result: Result.Result<A, Address.AddressError>) =>
  Result.isFailure(result) ? result.failure.reason : assert.fail("expected a failure")
const success = <A, E>(result: Result.Result<A, E>) =>
  Result.isSuccess(result) ? result.success : assert.fail("expected a success")

describe("Address.parse", () => {
  it.each(
    [
      ["uds:/run/a.sock", "linux", "/run/a.sock"],
      ["/run/a.sock", "linux", "/run/a.sock"],
      ["uds:\\\\.\\pipe\\a", "win32", "\\\\.\\pipe\\a"],
      ["\\\\.\\pipe\\a", "win32", "\\\\.\\pipe\\a"]
    ] as const
  )("reads %s on %s", (text, platform, socketPath) => {
    assert.deepStrictEqual(success(Address.parse(text, platform)), { socketPath })
  })

  it.each([
    ["", "is empty"],
    ["uds:", "is empty"],
    ["a.sock", "is not absolute"],
    ["./a.sock", "is not absolute"],
    ["uds:a.sock", "is not absolute"],
    ["tcp://localhost", "is not absolute"],
    ["/run/a\0b", "NUL"],
    ["\\\\.\\pipe\\a", "Windows pipe"]
  ])("refuses %j, naming it and the remedy", (text, problem) => {
    const reason = failure(Address.parse(text, "linux"))
    assert.strictEqual(reason._tag, "InvalidAddress")
    assert.include(reason.message, problem)
    assert.include(reason.message, JSON.stringify(text))
  })

  it("refuses a pipe without a name", () => {
    assert.include(failure(Address.parse("\\\\.\\pipe\\", "win32")).message, "is not absolute")
  })

  it.each(["/a#token=5ec2e7", "uds:/a#TOKEN=5ec2e7", "#token=5ec2e7"])("refuses %s without repeating it", (text) => {
    const reason = failure(Address.parse(text, "linux"))
    assert.notInclude(`${reason.message} ${JSON.stringify(reason)} ${String(reason)}`, "5ec2e7")
    assert.include(reason.message, "looked up in the capability file")
  })

  it.each([["linux", 107], ["darwin", 103], ["freebsd", 103]] as const)(
    "counts bytes on %s: %d pass",
    (platform, max) => {
      const path = (bytes: number) => `/${"ä".repeat((bytes - 1) >> 1)}${"x".repeat((bytes - 1) & 1)}`
      assert.strictEqual(success(Address.parse(path(max), platform)).socketPath, path(max))
      assert.deepStrictEqual(
        failure(Address.parse(path(max + 1), platform)),
        new Address.PathTooLong({ path: path(max + 1), bytes: max + 1, maxBytes: max })
      )
    }
  )

  it("takes a pipe of up to 256 bytes on Windows", () => {
    const pipe = (bytes: number) => "\\\\.\\pipe\\".padEnd(bytes, "x")
    assert.strictEqual(success(Address.parse(pipe(256), "win32")).socketPath, pipe(256))
    assert.strictEqual(failure(Address.parse(pipe(257), "win32"))._tag, "PathTooLong")
  })

  it("tells in its error what the reason tells: the path, both numbers and the remedy", () => {
    const text = `/${"x".repeat(107)}`
    const result = Address.parse(text, "linux")
    const message = Result.isFailure(result) ? result.failure.message : ""
    assert.strictEqual(
      message,
      `socket path "${text}" is 108 bytes long, and this platform allows 107: choose a shorter directory`
    )
  })

  it("begins with what was given, or with the word where that may be a secret", () => {
    assert.match(failure(Address.parse("a.sock", "linux")).message, /^"a\.sock" is not absolute/)
    assert.match(failure(Address.parse("/a#token=5ec2e7", "linux")).message, /^address holds a token/)
  })
})

describe("Address.isName", () => {
  it.each(["build", "a b", "2", "ü", "a.sock"])("takes %j for a name", (text) => {
    assert.isTrue(Address.isName(text))
  })

  it.each(["", "/a", "a/b", "uds:a", "a\\b", "a#b", "a\n", "a\u0000b", "a:"])("takes %j for no name", (text) => {
    assert.isFalse(Address.isName(text))
  })
})

describe("Address.format", () => {
  it("puts the scheme before a path and leaves a pipe as it is", () => {
    assert.strictEqual(Address.format({ socketPath: "/run/a.sock" }), "uds:/run/a.sock")
    assert.strictEqual(Address.format({ socketPath: "\\\\.\\pipe\\a" }), "\\\\.\\pipe\\a")
    assert.strictEqual(Address.format({ socketPath: "/run/\\\\.\\pipe\\" }), "uds:/run/\\\\.\\pipe\\")
  })

  it("gives what parse reads back", () => {
    for (const [socketPath, platform] of [["/run/a.sock", "linux"], ["\\\\.\\pipe\\a", "win32"]] as const) {
      assert.deepStrictEqual(success(Address.parse(Address.format({ socketPath }), platform)), { socketPath })
    }
  })
})

describe("Address.defaultPath", () => {
  const nonce = "0123456789abcdef0123456789abcdef"
  const linux = { platform: "linux", uid: Option.some(1000), pid: 42, tmpdir: "/tmp" } as const
  const none = Option.none<string>()

  it("is private to the user below the temporary directory", () => {
    assert.deepStrictEqual(success(Address.defaultPath(linux, "claude-code", nonce, none)), {
      socketPath: `/tmp/claude-code-socks-1000/42-${nonce}/messaging.sock`,
      base: Option.some("/tmp/claude-code-socks-1000")
    })
  })

  it("prefers the runtime directory", () => {
    const path = success(Address.defaultPath(linux, "claude-code", nonce, Option.some("/run/user/1000")))
    assert.strictEqual(path.socketPath, `/run/user/1000/claude-code-socks/42-${nonce}/messaging.sock`)
  })

  it("takes its names from the namespace", () => {
    const path = success(Address.defaultPath(linux, "acme", nonce, none))
    assert.strictEqual(path.socketPath, `/tmp/acme-socks-1000/42-${nonce}/messaging.sock`)
  })

  it("shortens the nonce where the path would be too long, and fills the room there is", () => {
    const host = { ...linux, platform: "darwin", tmpdir: "/private/var/folders/ab/cdefghijkl" } as const
    const { socketPath } = success(Address.defaultPath(host, "claude-code", nonce, none))
    assert.strictEqual(Buffer.byteLength(socketPath), 103)
    assert.match(socketPath, /\/42-[0-9a-f]{16,31}\/messaging\.sock$/)
  })

  it.each([[0, 32], [1, 31], [16, 16]] as const)("with %d bytes less than enough has %d digits", (missing, digits) => {
    const fixed = "/claude-code-socks-1000/42-/messaging.sock".length
    const tmpdir = `/${"x".repeat(107 - fixed - Address.nonceDigits - 1 + missing)}`
    const { base, socketPath } = success(Address.defaultPath({ ...linux, tmpdir }, "claude-code", nonce, none))
    assert.strictEqual(socketPath, `${tmpdir}/claude-code-socks-1000/42-${nonce.slice(0, digits)}/messaging.sock`)
    assert.strictEqual(Buffer.byteLength(socketPath), 107)
    assert.deepStrictEqual(base, Option.some(`${tmpdir}/claude-code-socks-1000`))
  })

  it("falls back to /tmp where 15 digits would fit, and from the runtime directory to the temporary one", () => {
    const fixed = "/claude-code-socks-1000/42-/messaging.sock".length
    const tmpdir = `/${"x".repeat(107 - fixed - 15 - 1)}`
    const { base } = success(Address.defaultPath({ ...linux, tmpdir }, "claude-code", nonce, none))
    assert.deepStrictEqual(base, Option.some("/tmp/claude-code-socks-1000"))
    const runtime = Option.some(`/${"x".repeat(100)}`)
    const second = success(Address.defaultPath(linux, "claude-code", nonce, runtime))
    assert.deepStrictEqual(second.base, Option.some("/tmp/claude-code-socks-1000"))
  })

  it("falls back to the real name of /tmp on macOS", () => {
    const host = { ...linux, platform: "darwin", tmpdir: `/${"x".repeat(60)}` } as const
    const { base } = success(Address.defaultPath(host, "claude-code", nonce, none))
    assert.deepStrictEqual(base, Option.some("/private/tmp/claude-code-socks-1000"))
  })

  it("counts as user 0 where the platform knows no users", () => {
    const host = { ...linux, platform: "freebsd", uid: Option.none<number>() } as const
    const { base } = success(Address.defaultPath(host, "claude-code", nonce, none))
    assert.deepStrictEqual(base, Option.some("/tmp/claude-code-socks-0"))
  })

  it("falls back to /tmp where 16 digits do not fit", () => {
    const host = { ...linux, tmpdir: `/${"x".repeat(60)}` }
    const { base, socketPath } = success(Address.defaultPath(host, "claude-code", nonce, none))
    assert.deepStrictEqual(base, Option.some("/tmp/claude-code-socks-1000"))
    assert.strictEqual(socketPath, `/tmp/claude-code-socks-1000/42-${nonce}/messaging.sock`)
  })

  it("fails with both numbers where nothing fits", () => {
    const host = { ...linux, platform: "darwin", pid: 1234567890 } as const
    const reason = failure(Address.defaultPath(host, "n".repeat(48), nonce, none))
    const shortest = `/private/tmp/${"n".repeat(48)}-socks-1000/1234567890-${nonce.slice(0, 16)}/messaging.sock`
    assert.deepStrictEqual(
      reason,
      new Address.PathTooLong({ path: shortest, bytes: Buffer.byteLength(shortest), maxBytes: 103 })
    )
  })

  it("is a pipe on Windows, where no directory is needed", () => {
    const host = { platform: "win32", uid: Option.none<number>(), pid: 42, tmpdir: "C:\\Temp" } as const
    assert.deepStrictEqual(success(Address.defaultPath(host, "claude-code", nonce, none)), {
      socketPath: `\\\\.\\pipe\\claude-code-42-${nonce}`,
      base: Option.none()
    })
  })
})

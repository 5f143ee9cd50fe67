import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import type { HostFacts } from "../src/Host.ts"
import { DirectoryNotPrivate } from "../src/internal/privateFiles.ts"
import * as NodeTransport from "../src/NodeTransport.ts"
import { DialError, ListenError, NotListening, SocketNotTrusted, type Transport } from "../src/Transport.ts"
import { deadSocket } from "./utils/deadSocket.ts"
import { contents, withTempHost } from "./utils/tempHost.ts"

interface Setup {
  readonly host: HostFacts
  readonly transport: Transport["Service"]
  /** Private, below `parent`. */
  readonly directory: string
  /** Private, below the temporary directory. */
  readonly parent: string
  readonly socketPath: string
}

const withTransport = <A, E, R>(use: (setup: Setup) => Effect.Effect<A, E, R>) =>
  withTempHost(Effect.fnUntraced(function*(host) {
    const parent = path.join(host.tmpdir, "parent")
    const directory = path.join(parent, "own")
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
    const transport = yield* NodeTransport.make
    return yield* use({ host, transport, directory, parent, socketPath: path.join(directory, "messaging.sock") })
  })).pipe(Effect.provide(NodeFileSystem.layer))

const itAsRoot = it.live.skipIf(process.getuid?.() !== 0)
const otherUser = 1001

const snapshot = (directory: string) =>
  contents(directory).map((name) => {
    const { ctimeMs, ino, mode, mtimeMs, nlink, size, uid } = fs.lstatSync(path.join(directory, name))
    return { name, ctimeMs, ino, mode, mtimeMs, nlink, size, uid }
  })

const notPrivate = (path: string, problem: DirectoryNotPrivate["problem"], remedy: string) =>
  new DirectoryNotPrivate({ path, problem, remedy })

const assertListenRefused = Effect.fnUntraced(function*(
  { host, socketPath, transport }: Setup,
  reason: DirectoryNotPrivate
) {
  const before = snapshot(host.tmpdir)
  const error = yield* Effect.flip(Effect.scoped(transport.listen({ socketPath })))
  assert.deepStrictEqual(error, new ListenError({ reason }))
  assert.deepStrictEqual(snapshot(host.tmpdir), before)
})

const assertNotTrusted = Effect.fnUntraced(function*({ socketPath, transport }: Setup, problem: string) {
  const error = yield* Effect.flip(transport.verify(socketPath))
  assert.deepStrictEqual(error, new DialError({ reason: new SocketNotTrusted({ path: socketPath, problem }) }))
})

describe("NodeTransport", () => {
  describe("listen", () => {
    it.live("refuses a directory that is a link", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const link = path.join(setup.parent, "link")
        fs.symlinkSync(setup.directory, link)
        yield* assertListenRefused(
          { ...setup, socketPath: path.join(link, "messaging.sock") },
          notPrivate(link, "a link", "name the directory it points at instead")
        )
      })))

    it.live.each(["755", "750", "701", "777"])(
      "refuses a directory with mode 0%s",
      (mode) =>
        withTransport(Effect.fnUntraced(function*(setup) {
          fs.chmodSync(setup.directory, Number.parseInt(mode, 8))
          yield* assertListenRefused(
            setup,
            notPrivate(setup.directory, "open to others", `chmod 700 ${setup.directory}`)
          )
        }))
    )

    it.live("refuses a shared directory such as /tmp and tells what to do instead", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.chmodSync(setup.directory, 0o1777)
        yield* assertListenRefused(
          setup,
          notPrivate(setup.directory, "open to others", `mkdir -m 700 ${setup.directory}/NAME and use that`)
        )
      })))

    itAsRoot(
      "refuses another user's directory (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*(setup) {
          fs.chownSync(setup.directory, otherUser, otherUser)
          yield* assertListenRefused(
            setup,
            notPrivate(setup.directory, "foreign owner", "use a directory of your own")
          )
        }))
    )

    it.live("refuses an ancestor that others can write to", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.chmodSync(setup.parent, 0o777)
        yield* assertListenRefused(
          setup,
          notPrivate(setup.parent, "writable by others", `chmod go-w ${setup.parent}`)
        )
      })))

    it.live("makes no directory below an ancestor that others can write to", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.rmdirSync(setup.directory)
        fs.chmodSync(setup.parent, 0o777)
        yield* assertListenRefused(
          setup,
          notPrivate(setup.parent, "writable by others", `chmod go-w ${setup.parent}`)
        )
      })))

    it.live("makes no directory behind an ancestor that is a link", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        const link = path.join(setup.host.tmpdir, "link")
        fs.symlinkSync(setup.parent, link)
        yield* assertListenRefused(
          { ...setup, socketPath: path.join(link, "new", "messaging.sock") },
          notPrivate(link, "a link", "name the directory it points at instead")
        )
      })))

    itAsRoot(
      "refuses an ancestor of another user (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*(setup) {
          fs.chownSync(setup.parent, otherUser, otherUser)
          yield* assertListenRefused(
            setup,
            notPrivate(setup.parent, "foreign owner", "use a directory below one of your own or root's")
          )
        }))
    )

    it.live("refuses a base that is open to others", () =>
      withTransport(Effect.fnUntraced(function*({ host, parent, transport }) {
        fs.chmodSync(parent, 0o755)
        const before = snapshot(host.tmpdir)
        const error = yield* Effect.flip(
          transport.listen({ socketPath: path.join(parent, "new", "messaging.sock"), base: parent })
        )
        assert.deepStrictEqual(
          error,
          new ListenError({ reason: notPrivate(parent, "open to others", `chmod 700 ${parent}`) })
        )
        assert.deepStrictEqual(snapshot(host.tmpdir), before)
      })))
  })

  describe("verify", () => {
    it.live("accepts a listener's socket", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        yield* transport.listen({ socketPath })
        assert.isUndefined(yield* transport.verify(socketPath))
      })))

    it.live("refuses a file", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        fs.writeFileSync(setup.socketPath, "")
        yield* assertNotTrusted(setup, "it is not a socket")
      })))

    it.live("refuses a link to a socket", () =>
      withTransport(Effect.fnUntraced(function*(setup) {
        yield* setup.transport.listen({ socketPath: path.join(setup.directory, "real.sock") })
        fs.symlinkSync("real.sock", setup.socketPath)
        yield* assertNotTrusted(setup, "it is not a socket")
      })))

    itAsRoot(
      "refuses another user's socket (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*(setup) {
          yield* deadSocket(setup.socketPath)
          fs.chownSync(setup.socketPath, otherUser, otherUser)
          yield* assertNotTrusted(setup, "it belongs to another user")
        }))
    )

    it.live.each(["directory", "parent"] as const)(
      "refuses a %s that others can write to",
      (which) =>
        withTransport(Effect.fnUntraced(function*(setup) {
          yield* deadSocket(setup.socketPath)
          fs.chmodSync(setup[which], 0o722)
          const { message } = notPrivate(setup[which], "writable by others", `chmod go-w ${setup[which]}`)
          yield* assertNotTrusted(setup, message)
        }))
    )

    itAsRoot(
      "refuses a directory of another user (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*(setup) {
          yield* deadSocket(setup.socketPath)
          fs.chownSync(setup.directory, otherUser, otherUser)
          const remedy = "use a directory below one of your own or root's"
          yield* assertNotTrusted(setup, notPrivate(setup.directory, "foreign owner", remedy).message)
        }))
    )

    it.live("tells that there is no socket", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        assert.deepStrictEqual(
          yield* Effect.flip(transport.verify(socketPath)),
          new DialError({ reason: new NotListening({ path: socketPath, code: "ENOENT" }) })
        )
      })))
  })

  describe("discard", () => {
    const endpoint = "17-0123456789abcdef"

    it.live("removes a dead socket and the directory an endpoint made for it", () =>
      withTransport(Effect.fnUntraced(function*({ parent, transport }) {
        const socketPath = path.join(parent, endpoint, "messaging.sock")
        fs.mkdirSync(path.dirname(socketPath), { mode: 0o700 })
        yield* deadSocket(socketPath)
        assert.strictEqual(yield* transport.discard(socketPath), "removed")
        assert.deepStrictEqual(contents(parent), ["own"])
      })))

    it.live("keeps the directory of a dead socket when the user made it", () =>
      withTransport(Effect.fnUntraced(function*({ parent, socketPath, transport }) {
        yield* deadSocket(socketPath)
        assert.strictEqual(yield* transport.discard(socketPath), "removed")
        assert.deepStrictEqual(contents(parent), ["own"])
      })))

    it.live("keeps a live socket", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        yield* transport.listen({ socketPath })
        assert.strictEqual(yield* transport.discard(socketPath), "kept")
        assert.strictEqual(yield* transport.probe(socketPath), "live")
      })))

    it.live("keeps a file", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        fs.writeFileSync(socketPath, "mine")
        assert.strictEqual(yield* transport.discard(socketPath), "kept")
        assert.strictEqual(fs.readFileSync(socketPath, "utf8"), "mine")
      })))

    it.live("keeps a dead socket where others could have put it", () =>
      withTransport(Effect.fnUntraced(function*({ directory, host, socketPath, transport }) {
        yield* deadSocket(socketPath)
        fs.chmodSync(directory, 0o755)
        const before = snapshot(host.tmpdir)
        assert.strictEqual(yield* transport.discard(socketPath), "kept")
        assert.deepStrictEqual(snapshot(host.tmpdir), before)
      })))

    itAsRoot(
      "keeps another user's dead socket (only root can set this up)",
      () =>
        withTransport(Effect.fnUntraced(function*({ host, socketPath, transport }) {
          yield* deadSocket(socketPath)
          fs.chownSync(socketPath, otherUser, otherUser)
          const before = snapshot(host.tmpdir)
          assert.strictEqual(yield* transport.discard(socketPath), "kept")
          assert.deepStrictEqual(snapshot(host.tmpdir), before)
        }))
    )

    it.live("tells where nothing is", () =>
      withTransport(Effect.fnUntraced(function*({ socketPath, transport }) {
        assert.strictEqual(yield* transport.discard(socketPath), "absent")
      })))
  })

  describe("scan", () => {
    it.live("finds what is in endpoint directories, and removes the empty ones", () =>
      withTransport(Effect.fnUntraced(function*({ parent, transport }) {
        const used = path.join(parent, "17-0123456789abcdef")
        fs.mkdirSync(used, { mode: 0o700 })
        fs.mkdirSync(path.join(parent, "18-0123456789abcdef0123456789abcdef"), { mode: 0o700 })
        yield* deadSocket(path.join(used, "messaging.sock"))
        assert.deepStrictEqual(yield* transport.scan(parent), [path.join(used, "messaging.sock")])
        assert.deepStrictEqual(contents(parent), [
          "17-0123456789abcdef",
          "17-0123456789abcdef/messaging.sock",
          "own"
        ])
      })))

    it.live("finds nothing in a base that is open to others, and changes nothing there", () =>
      withTransport(Effect.fnUntraced(function*({ host, parent, transport }) {
        fs.mkdirSync(path.join(parent, "17-0123456789abcdef"), { mode: 0o700 })
        fs.chmodSync(parent, 0o755)
        const before = snapshot(host.tmpdir)
        assert.deepStrictEqual(yield* transport.scan(parent), [])
        assert.deepStrictEqual(snapshot(host.tmpdir), before)
      })))

    it.live("finds nothing where no base is", () =>
      withTransport(Effect.fnUntraced(function*({ host, transport }) {
        assert.deepStrictEqual(yield* transport.scan(path.join(host.tmpdir, "missing")), [])
      })))
  })
})

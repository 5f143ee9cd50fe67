/**
 * The clients of examples/clients against a real endpoint. They were written from PROTOCOL.md alone, so this is what that
 * document is worth. Where a machine lacks what a client needs, its tests are skipped, and their names say so.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Option, References, type Scope } from "effect"
import { execFile, execFileSync } from "node:child_process"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { HostFacts } from "../../src/Host.ts"
import { Inbox } from "../../src/Inbox.ts"
import * as Layers from "../../src/Layers.ts"
import { Messaging } from "../../src/Messaging.ts"
import { withTempHost } from "../utils/tempHost.ts"

const clients = fileURLToPath(new URL("../../examples/clients", import.meta.url))

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

interface Endpoint {
  readonly socketPath: string
  readonly inbox: Inbox["Service"]
  readonly host: HostFacts
  /** The capability file. */
  readonly file: string
}

/** A client, what is missing to run it here, and how it says what the command line says. */
interface Client {
  readonly name: string
  readonly missing: string | undefined
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly environment?: Readonly<Record<string, string>>
}

/** Nothing, or what is missing. */
const missing = (command: string, args: ReadonlyArray<string>, mark: string): string | undefined => {
  try {
    const said = execFileSync("/bin/sh", ["-c", `"$@" 2>&1 || :`, "sh", command, ...args], { encoding: "utf8" })
    return said.includes(mark) ? undefined : `no ${command} that can do this`
  } catch {
    return "no /bin/sh"
  }
}

const python: Client = {
  name: "client.py",
  missing: missing("python3", ["--version"], "Python 3"),
  command: "python3",
  args: [path.join(clients, "client.py")]
}

const shells: ReadonlyArray<Client> = [
  { tool: "nc", asked: ["-h"], mark: "-U" },
  { tool: "socat", asked: ["-V"], mark: "socat version" },
  { tool: "perl", asked: ["-MIO::Socket::UNIX", "-e", "print 'loaded'"], mark: "loaded" }
].map(({ asked, mark, tool }) => ({
  name: `client.sh with ${tool}`,
  missing: missing(tool, asked, mark),
  command: "/bin/sh",
  args: [path.join(clients, "client.sh")],
  environment: { VIA: tool }
}))

const all = [python, ...shells]
// The default reporter does not name tests that are skipped.
for (const { missing, name } of all) {
  if (missing !== undefined) process.stderr.write(`tests of ${name} are skipped: ${missing}\n`)
}

const homeOf = (host: HostFacts) => path.join(host.homedir, ".claude")
const fileOf = (host: HostFacts, socketPath: string) =>
  path.join(
    homeOf(host),
    "messaging-capabilities",
    `${crypto.createHash("sha256").update(socketPath).digest("hex")}.json`
  )

/** Runs a client as a child of the endpoint at `socketPath`; the scope of the test ends it. */
const run = (
  { args, command, environment }: Client,
  host: HostFacts,
  socketPath: string,
  ...words: ReadonlyArray<string>
) =>
  Effect.callback<Ended>((resume) => {
    const env = {
      ...environment,
      PATH: process.env["PATH"],
      HOME: host.homedir,
      CLAUDE_CONFIG_DIR: homeOf(host),
      CLAUDE_CODE_MESSAGING_SOCKET: socketPath
    }
    const child = execFile(command, [...args, ...words], { env }, (error, stdout, stderr) => {
      resume(
        Effect.succeed({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, stdout, stderr })
      )
    })
    return Effect.sync(() => child.kill())
  })

const withEndpoint = <A, E, R>(use: (endpoint: Endpoint) => Effect.Effect<A, E, R>, options?: Layers.Options) =>
  withTempHost((host) =>
    Effect.gen(function*() {
      const { socketPath } = Option.getOrThrow((yield* Messaging).address)
      return yield* use({ socketPath, inbox: yield* Inbox, host, file: fileOf(host, socketPath) })
    }).pipe(
      Effect.provide(Layers.layer(options)),
      // What it warns of is what these tests do on purpose.
      Effect.provideService(References.MinimumLogLevel, "None"),
      Effect.scoped
    )
  )

const texts = (inbox: Inbox["Service"]) =>
  Effect.map(inbox.drain, (entries) => entries.map((entry) => entry.message.data))
const said = (stdout: string): Ended => ({ code: 0, stdout: `${stdout}\n`, stderr: "" })
const failed = (name: "client.py" | "client.sh", problem: string): Ended => ({
  code: 1,
  stdout: "",
  stderr: `${name}: ${problem}\n`
})

/** Changes the capability file in place, which the endpoint leaves alone. */
const rewrite = ({ file }: Endpoint, change: (capability: Record<string, unknown>) => Record<string, unknown>) =>
  Effect.sync(() => fs.writeFileSync(file, JSON.stringify(change(JSON.parse(fs.readFileSync(file, "utf8"))))))
const asProtocol1 = (endpoint: Endpoint) =>
  rewrite(endpoint, ({ authToken, socketPath }) => ({ socketPath, authToken }))
const withWrongToken = (endpoint: Endpoint) =>
  rewrite(endpoint, (capability) => ({ ...capability, authToken: "0".repeat(64) }))

/** A server of protocol 2 that says one thing, or nothing, to its first client, and gives what it was sent in the end. */
const impostor = Effect.fnUntraced(function*(host: HostFacts, reply?: unknown) {
  const socketPath = path.join(host.homedir, "impostor.sock")
  const received = yield* Deferred.make<string>()
  yield* Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer((conn) => {
        let bytes = ""
        conn.on("error", () => {})
        conn.on("data", (chunk) => bytes += chunk)
        conn.on("close", () => Deferred.doneUnsafe(received, Effect.succeed(bytes)))
        if (reply !== undefined) conn.write(`${JSON.stringify(reply)}\n`)
      })
      server.listen(socketPath, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )
  const capability = { socketPath, authToken: "f".repeat(64), protocol: 2 }
  fs.writeFileSync(fileOf(host, socketPath), JSON.stringify(capability), { mode: 0o600 })
  return { socketPath, received: Deferred.await(received) }
})

/** A test of one client, skipped with the reason in its name where the client cannot run. */
const testOf = (client: Client) => <A, E>(name: string, test: () => Effect.Effect<A, E, Scope.Scope>) =>
  client.missing === undefined
    ? it.live(name, () => test())
    : it.live.skip(`${name} (skipped: ${client.missing})`, () => test())

const awkward = "say \"größe\" \\ and\na second line, 相手 😀 %s $HOME `id`"

describe("examples/clients/client.py", () => {
  const test = testOf(python)
  const client = (endpoint: Pick<Endpoint, "host" | "socketPath">, ...words: ReadonlyArray<string>) =>
    run(python, endpoint.host, endpoint.socketPath, ...words)

  test("stores a message over protocol 2 and prints its id", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* client(endpoint, "text", awkward), said("uds-1"))
        assert.deepStrictEqual(yield* texts(endpoint.inbox), [awkward])
      }), { protocol1: false }))

  test("stores a message over protocol 1 and prints its id", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* asProtocol1(endpoint)
        assert.deepStrictEqual(yield* client(endpoint, "text", awkward), said("uds-1"))
        // Nobody answers; in protocol 2 this would wait for somebody who does.
        assert.deepStrictEqual(yield* client(endpoint, "query", "how far?"), said("uds-2"))
        assert.deepStrictEqual(yield* client(endpoint, "ping", ""), said("pong"))
        assert.deepStrictEqual(yield* texts(endpoint.inbox), [awkward, "how far?"])
      })
    ))

  test("pings", () =>
    withEndpoint((endpoint) =>
      Effect.map(client(endpoint, "ping", ""), (ended) => assert.deepStrictEqual(ended, said("pong")))
    ))

  test("prints the answer to a query", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(endpoint.inbox.consume((entry) => Effect.succeed(`you said ${entry.message.data}`)))
        assert.deepStrictEqual(yield* client(endpoint, "query", "größe"), said("you said größe"))
      }).pipe(Effect.scoped)
    ))

  test("says that a handler failed", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(endpoint.inbox.consume(() => Effect.fail("no idea")))
        assert.deepStrictEqual(yield* client(endpoint, "query", "how far?"), failed("client.py", "failed"))
      }).pipe(Effect.scoped)
    ))

  test("says that the inbox is full, in both protocols", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* client(endpoint, "text", "one")
        assert.deepStrictEqual(yield* client(endpoint, "text", "two"), failed("client.py", "inbox full"))
        yield* asProtocol1(endpoint)
        assert.deepStrictEqual(yield* client(endpoint, "text", "two"), failed("client.py", "inbox full"))
      }), { limits: { maxInboxEntries: 1 } }))

  test("says that its token was refused over protocol 1", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* asProtocol1(endpoint)
        yield* withWrongToken(endpoint)
        assert.deepStrictEqual(yield* client(endpoint, "text", "hello"), failed("client.py", "unauthorized"))
      })
    ))

  test("hangs up on a server that cannot prove itself over protocol 2, and tells it nothing more", () =>
    withEndpoint(({ host }) =>
      Effect.gen(function*() {
        const zeros = "0".repeat(64)
        const { received, socketPath } = yield* impostor(host, { type: "challenge", nonce: zeros, proof: zeros })
        assert.deepStrictEqual(
          yield* client({ host, socketPath }, "text", "hello"),
          failed("client.py", "the server does not know its token")
        )
        assert.match(yield* received, /^\{"type": ?"hello", ?"protocol": ?2, ?"nonce": ?"[0-9a-f]{64}"\}\n$/)
      }).pipe(Effect.scoped)
    ))

  test("refuses a capability file that others may read", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        fs.chmodSync(endpoint.file, 0o640)
        const problem = `${endpoint.file} is not what this user alone can have put there`
        assert.deepStrictEqual(yield* client(endpoint, "text", "hello"), failed("client.py", problem))
      })
    ))

  test("sends no token of protocol 1 to a socket that others could have put there", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* asProtocol1(endpoint)
        const directory = path.dirname(endpoint.socketPath)
        fs.chmodSync(directory, 0o777)
        const problem = `${directory} is a link, another user's, or others can write to it`
        assert.deepStrictEqual(yield* client(endpoint, "text", "hello"), failed("client.py", problem))
        fs.chmodSync(directory, 0o700)
      })
    ))

  test("gives up on a server that says nothing", () =>
    withEndpoint(({ host }) =>
      Effect.gen(function*() {
        const { socketPath } = yield* impostor(host)
        assert.deepStrictEqual(
          yield* client({ host, socketPath }, "text", "hello"),
          failed("client.py", "no answer within 5 seconds")
        )
      }).pipe(Effect.scoped)
    ))

  test("exits with 1 and one line without an address, and for one that nobody has published", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        const none = yield* client({ ...endpoint, socketPath: "" }, "text", "hello")
        const problem = "SOCKET, or else CLAUDE_CODE_MESSAGING_SOCKET, must be an absolute path"
        assert.deepStrictEqual(none, failed("client.py", problem))
        const { code, stderr } = yield* client(endpoint, "text", "hello", "/nowhere/messaging.sock")
        assert.strictEqual(code, 1)
        assert.match(stderr, /^client\.py: .*No such file or directory.*\n$/)
      })
    ))
})

describe.each(shells)("examples/clients/$name", (shell) => {
  const test = testOf(shell)
  const client = (endpoint: Pick<Endpoint, "host" | "socketPath">, ...words: ReadonlyArray<string>) =>
    run(shell, endpoint.host, endpoint.socketPath, ...words)

  test("stores a message and prints its id", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* client(endpoint, awkward), said("uds-1"))
        assert.deepStrictEqual(yield* client(endpoint, "a\tb", endpoint.socketPath), said("uds-2"))
        assert.deepStrictEqual(yield* texts(endpoint.inbox), [awkward, "a b"])
      })
    ))

  test("prints what the server says against it", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        yield* client(endpoint, "one")
        assert.deepStrictEqual(yield* client(endpoint, "two"), failed("client.sh", "inbox full"))
        yield* withWrongToken(endpoint)
        assert.deepStrictEqual(yield* client(endpoint, "two"), failed("client.sh", "unauthorized"))
      }), { limits: { maxInboxEntries: 1 } }))

  test("refuses a capability file that others may read, or that is another socket's", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        const other = path.join(endpoint.host.homedir, "other.sock")
        fs.copyFileSync(endpoint.file, fileOf(endpoint.host, other))
        assert.deepStrictEqual(
          yield* client(endpoint, "hello", other),
          failed("client.sh", "that is another socket's file")
        )
        fs.chmodSync(endpoint.file, 0o604)
        assert.deepStrictEqual(
          yield* client(endpoint, "hello"),
          failed("client.sh", "the capability file is not private")
        )
        assert.deepStrictEqual(yield* texts(endpoint.inbox), [])
      })
    ))

  test("sends no token to a socket that others could have put there, and none where nobody has published", () =>
    withEndpoint((endpoint) =>
      Effect.gen(function*() {
        const directory = path.dirname(endpoint.socketPath)
        fs.chmodSync(directory, 0o777)
        const problem = `${directory} is a link, another user's, or others can write to it`
        assert.deepStrictEqual(yield* client(endpoint, "hello"), failed("client.sh", problem))
        fs.chmodSync(directory, 0o700)
        const nowhere = "/nowhere/messaging.sock"
        assert.deepStrictEqual(
          yield* client(endpoint, "hello", nowhere),
          failed("client.sh", `no endpoint has published ${nowhere}`)
        )
      })
    ))
})

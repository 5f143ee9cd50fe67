import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileName } from "../../src/Capability.ts"
import * as Layers from "../../src/Layers.ts"
import * as Message from "../../src/Message.ts"
import { MessagingError, NotSupported } from "../../src/MessagingError.ts"
import { askingSuite } from "../suites/asking.ts"
import { endpointsOf, handling, makeDialler, nodeNetwork } from "../utils/endpoints.ts"
import { withTempHost } from "../utils/tempHost.ts"

askingSuite("real sockets", {
  test: it.live,
  around: (body) => withTempHost(() => body),
  layer: Layers.layer,
  network: nodeNetwork,
  secondsPass: Effect.void
})

describe("a peer whose capability file names no protocol", () => {
  it.live("is sent to, and asked nothing", () =>
    withTempHost((host) =>
      Effect.gen(function*() {
        const [{ messaging }, bob] = [yield* endpointsOf(Layers.layer)(), yield* endpointsOf(Layers.layer)()]
        const file = path.join(host.homedir, ".claude", "messaging-capabilities", fileName(bob.socketPath))
        const { authToken, socketPath } = JSON.parse(fs.readFileSync(file, "utf8")) as Record<string, unknown>
        fs.writeFileSync(file, JSON.stringify({ socketPath, authToken }))
        yield* messaging.send(bob.socketPath, Message.text("hello"))
        const error = yield* Effect.flip(messaging.ask(bob.socketPath, "why?"))
        const reason = new NotSupported({ socketPath: bob.socketPath, what: "answers" })
        assert.deepStrictEqual(error, new MessagingError({ reason }))
        assert.deepStrictEqual((yield* bob.inbox.drain).map(({ message }) => message.data), ["hello"])
      })
    ))
})

describe("more questions at once than the inbox has room for", () => {
  it.live("10,000 each get their own answer where they can wait, over one connection", () =>
    withTempHost(() =>
      Effect.gen(function*() {
        const [alice, bob] = [yield* makeDialler(nodeNetwork), yield* endpointsOf(Layers.layer)()]
        yield* handling(bob, ({ message }) => Effect.succeed(`to ${message.data}`))
        const questions = Array.from({ length: 10_000 }, (_, n) => `question ${n}`)
        const options = { timeout: "1 hour", retryWhenFull: true } as const
        const answers = yield* Effect.forEach(questions, (question) => alice.ask(bob.socketPath, question, options), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(answers, questions.map((question) => `to ${question}`))
        assert.deepStrictEqual([alice.dials(), yield* bob.inbox.drain], [1, []])
      })
    ))
})

/**
 * Answers from a command: it gets the question on its standard input and nowhere else, neither as an argument nor inside
 * what the shell reads, and what it prints is the answer. It runs in a process group of its own, and all of that ends
 * when nobody waits any more.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Buffer, isUtf8 } from "node:buffer"
import { type ChildProcess, spawn } from "node:child_process"
import { errnoOf } from "../internal/fileFailed.ts"

/** The command gave no answer; the asker is told that it failed. */
export class NoAnswer extends Data.TaggedError("NoAnswer")<{ readonly problem: string }> {
  override get message() {
    return this.problem
  }
}

export interface Options {
  readonly timeout: Duration.Duration
  /** More than this cannot be an answer. */
  readonly maxBytes: number
}

const hasGroups = process.platform !== "win32"

/** The command and whatever it has started in its group. */
const killAll = (child: ChildProcess) => {
  if (child.pid === undefined) return
  try {
    if (hasGroups) process.kill(-child.pid, "SIGKILL")
    else child.kill("SIGKILL")
  } catch {
    // It has ended by itself.
  }
}

/** Ends when nobody can print any more, so that the answer is whole. */
const answerOf = (child: ChildProcess, question: string, maxBytes: number) =>
  Effect.callback<string, NoAnswer>((resume) => {
    const fail = (problem: string) => resume(Effect.fail(new NoAnswer({ problem })))
    const chunks: Array<Buffer> = []
    let bytes = 0
    child.once("error", (error) => fail(`the command cannot be run: ${errnoOf(error)}`))
    child.stdout?.on("data", (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > maxBytes) fail(`the command printed more than a message may hold, ${maxBytes} bytes`)
      else chunks.push(chunk)
    })
    child.once("close", (code, signal) => {
      if (code !== 0) return fail(`the command ended with ${code ?? signal}`)
      const answer = Buffer.concat(chunks)
      if (!isUtf8(answer)) return fail("the command printed something that is not UTF-8")
      resume(Effect.succeed(answer.toString("utf8").replace(/\r?\n$/, "")))
    })
    // A command need not read its input.
    child.stdin?.on("error", () => {}).end(question)
  })

/** What `command`, a line for the shell, answers to a question; its last line end is left out. */
export const answer = (
  command: string,
  question: string,
  { maxBytes, timeout }: Options
): Effect.Effect<string, NoAnswer> =>
  Effect.acquireUseRelease(
    Effect.sync(() => spawn(command, { shell: true, detached: hasGroups, stdio: ["pipe", "pipe", "inherit"] })),
    (child) => answerOf(child, question, maxBytes),
    (child) => Effect.sync(() => killAll(child))
  ).pipe(Effect.timeoutOrElse({
    duration: timeout,
    orElse: () => Effect.fail(new NoAnswer({ problem: `the command took longer than ${Duration.format(timeout)}` }))
  }))

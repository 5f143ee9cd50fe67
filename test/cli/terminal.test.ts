/** What is only shown on a terminal: colours, tables, bars. `script` of util-linux provides the terminal. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as CliOutput from "effect/cli/CliOutput"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { stripVTControlCharacters } from "node:util"
import { elastic, heading } from "../../src/cli/peerRow.ts"
import { table, truncateMiddle, wrap } from "../../src/cli/stdout.ts"
import * as Message from "../../src/Message.ts"
import { bin, endpoint, listening, run, start } from "../utils/cli.ts"
import { tempDirectory } from "../utils/tempHost.ts"

const json = (line: string | undefined): Record<string, unknown> => JSON.parse(line ?? "null")

const hasTerminal = spawnSync("script", ["-qec", "test -t 1", "/dev/null"], { stdio: "ignore" }).status === 0
const itOnTerminal: typeof it.live = hasTerminal
  ? it.live
  : ((name: string) =>
    it.live.skip(`${name} (skipped: no script(1) that makes a terminal)`, () => Effect.void)) as never

/** Only where that shell is. */
const itWith = (shell: string): typeof it.live =>
  spawnSync(shell, ["-c", "true"]).status === 0
    ? it.live
    : ((name: string) => it.live.skip(`${name} (skipped: no ${shell})`, () => Effect.void)) as never

const colours = { NO_COLOR: "", TERM: "xterm" }

/** The command line on a terminal of 150 columns; `before` is run by the shell first. */
const onTerminal = (line: string) =>
  `exec script -qec "stty cols 150; '${process.execPath}' '${bin}' ${line}" /dev/null < /dev/null`

/** What a terminal is told, without what it is told by. */
const plain = (text: string) => stripVTControlCharacters(text).replaceAll("\r", "")

const isWide = (line: string) => CliOutput.displayWidth(plain(line)) > 100

/** Waits until a terminal has shown it; long before the test's own limit it says what was shown instead. */
const showing = (started: Effect.Success<ReturnType<typeof start>>) => (pattern: RegExp): Effect.Effect<void> => {
  const hasShown = () => pattern.test(plain(started.lines.join("\n")))
  const shown = () => `${pattern} was not shown, but: ${plain(started.lines.join("\n"))}${started.stderr()}`
  const look: Effect.Effect<void> = Effect.suspend(() =>
    hasShown() ? Effect.void : Effect.andThen(Effect.sleep(20), look)
  )
  const ended = Effect.flatMap(
    started.wait,
    ({ code }) => hasShown() ? Effect.void : Effect.die(`ended with ${code}; ${shown()}`)
  )
  return Effect.raceFirst(look, ended).pipe(
    Effect.timeoutOrElse({ duration: "2 minutes", orElse: () => Effect.die(shown()) })
  )
}

describe("on a terminal", () => {
  itOnTerminal("peers is a table of at most 100 columns, in colour", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { first } = yield* listening(home, "--name", "n".repeat(200))
      const shown = yield* run(home, [], { script: onTerminal("peers"), environment: colours })
      assert.strictEqual(shown.code, 0)
      assert.match(plain(shown.stdout[0] ?? ""), /^NAME +PID +SINCE +DIRECTORY +ADDRESS$/)
      assert.include(shown.stdout[0], "\u001B[1mNAME")
      assert.include(shown.stdout[1], "…")
      assert.deepStrictEqual(shown.stdout.filter(isWide), [])
      // Elsewhere the address is whole.
      assert.include((yield* run(home, ["peers"], { environment: colours })).stdout[0], first["address"] ?? "?")
    }))

  itOnTerminal("NO_COLOR takes the colours, and nothing else", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const environment = { TERM: "xterm", NO_COLOR: "1" }
      const checked = yield* run(home, [], { script: onTerminal("doctor"), environment })
      assert.notInclude(checked.stdout.join("\n"), "\u001B")
      const coloured = yield* run(home, [], { script: onTerminal("doctor"), environment: colours })
      assert.include(coloured.stdout[0], "\u001B[32mok")
      assert.deepStrictEqual(coloured.stdout.filter(isWide), [])
    }))

  itOnTerminal("doctor cuts a long remedy so that a shell still reads it as one line", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const deep = path.join(home, "d".repeat(120))
      fs.mkdirSync(path.join(deep, "messaging-capabilities"), { recursive: true, mode: 0o755 })
      const environment = { ...colours, NO_COLOR: "1", CLAUDE_CONFIG_DIR: deep }
      const checked = yield* run(home, [], { script: onTerminal("doctor"), environment })
      assert.deepStrictEqual(checked.stdout.filter(isWide), [])
      const at = checked.stdout.findIndex((line) => line.startsWith("chmod 700"))
      const remedy = plain(checked.stdout.slice(at, at + 2).join("\n"))
      fs.chmodSync(deep, 0o700)
      assert.strictEqual(spawnSync("sh", ["-c", remedy]).status, 0)
      assert.strictEqual(fs.statSync(path.join(deep, "messaging-capabilities")).mode & 0o777, 0o700)
    }))

  itOnTerminal("nothing that a command says is wider than 100 columns", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const socketPath = path.join(home, "d".repeat(78 - home.length), "messaging.sock")
      fs.mkdirSync(path.dirname(socketPath), { mode: 0o700 })
      const show = (line: string) =>
        Effect.map(run(home, [], { script: onTerminal(line), environment: colours }), ({ stdout }) => {
          assert.deepStrictEqual(stdout.filter(isWide), [], line)
          return plain(stdout.join("\n"))
        })
      const listener = yield* start(home, [], {
        script: onTerminal(`listen --socket-path ${socketPath} --count 4`),
        environment: colours
      })
      yield* showing(listener)(/^listening at\n {2}uds:\//m)
      const told = yield* show(`send --to ${socketPath} '${"word ".repeat(50)}'`)
      // Whole again without the line ends.
      assert.include(told.replaceAll("\n ", ""), `stored as uds-1 by uds:${socketPath}`)
      yield* show(`send --to ${socketPath} ${"w".repeat(300)}`)
      assert.include((yield* show(`ping --to ${socketPath}`)).replaceAll("\n ", ""), `pong from ${socketPath} in`)
      yield* show("peers")
      yield* show("doctor")
      yield* show(`ask --to ${socketPath} '${"why ".repeat(50)}'`)
      yield* show(`send --to ${socketPath} --until handled last`)
      yield* listener.wait
      assert.deepStrictEqual(listener.lines.filter(isWide), [])
      for (const mistake of ["send", "bogus", `send --to ${"n".repeat(150)} x`, `ping --to ${socketPath}`]) {
        yield* show(mistake)
      }
      const killed = yield* listening(home, "--socket-path", socketPath)
      killed.child.kill("SIGKILL")
      yield* killed.wait
      assert.include((yield* show("sweep")).replaceAll("\n ", ""), `removed uds:${socketPath}`)
      yield* show("sweep")
    }), 180_000)

  itOnTerminal("send --lines shows how far it is, and clears it", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      yield* listening(home, "--name", "me")
      const file = path.join(home, "lines")
      fs.writeFileSync(file, Array.from({ length: 15_000 }, (_, n) => `line ${n}`).join("\n"))
      const script = onTerminal(`send --to me --lines < ${file}`)
      const sent = yield* run(home, [], { script, environment: colours })
      const shown = sent.stdout.join("\n")
      assert.include(shown, "\r\u001B[K[#")
      assert.match(shown, /\[#+ *\] \d+ lines, \d+ a second/)
      assert.match(plain(sent.stdout.at(-1)?.split("\u001B[K").at(-1) ?? ""), /^handled 15000 lines/)
      const elsewhere = yield* run(home, ["send", "--to", "me", "--lines"], { input: "a\nb\n", environment: colours })
      assert.strictEqual(elsewhere.stderr, "")
    }))

  itOnTerminal("peers --watch draws who comes and goes, and how far away they are", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const watching = yield* start(home, [], { script: onTerminal("peers --watch"), environment: colours })
      const shows = showing(watching)
      yield* shows(/^ROUND TRIP {2}INBOX {2}NAME/m)
      const peer = yield* listening(home, "--name", "worker")
      yield* shows(/^\d+\.\d ms +nothing +worker +\d+/m)
      yield* shows(/worker arrived at \d\d:\d\d:\d\d/)
      peer.child.kill("SIGTERM")
      yield* shows(/worker departed at \d\d:\d\d:\d\d/)
      yield* listening(home, "--name", "n".repeat(120))
      yield* shows(/^n+…n* arrived at \d\d:\d\d:\d\d/m)
      assert.deepStrictEqual(watching.lines.filter(isWide), [])
    }))

  itOnTerminal("peers --watch shows an inbox that fills", () =>
    Effect.gen(function*() {
      const { inbox, start } = yield* endpoint()
      const watching = yield* start([], { script: onTerminal("peers --watch"), environment: colours })
      const shows = showing(watching)
      yield* shows(/^\d+\.\d ms +nothing /m)
      yield* inbox.offer(Message.text("one"))
      yield* shows(/^\d+\.\d ms +1 message, \d+ B /m)
      yield* inbox.offer(Message.text("x".repeat(2_000)))
      yield* shows(/^\d+\.\d ms +2 messages, 2\.\d kB /m)
    }))
})

describe("elsewhere", () => {
  it.live("peers --watch prints a line for each arrival and departure", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const before = yield* listening(home, "--name", "before")
      const watching = yield* start(home, ["peers", "--watch", "--json"])
      const there = json(yield* watching.line(0))
      assert.deepInclude(there, { event: "arrived", name: "before", address: before.first["address"] })
      assert.isNumber(there["milliseconds"])
      assert.deepStrictEqual(there["inbox"], { entries: 0, bytes: 0 })
      const peer = yield* listening(home, "--name", "worker")
      assert.deepInclude(json(yield* watching.line(1)), { event: "arrived", name: "worker" })
      peer.child.kill("SIGTERM")
      assert.deepInclude(json(yield* watching.line(2)), {
        event: "departed",
        name: "worker",
        milliseconds: null,
        inbox: null
      })
      // Without a word.
      before.child.kill("SIGKILL")
      assert.deepInclude(json(yield* watching.line(3)), { event: "departed", name: "before" })
      watching.child.stdout.destroy()
      assert.strictEqual((yield* watching.wait).code, 0)
    }))

  it.live.each(["", "listen", "send", "ask", "ping", "peers", "sweep", "doctor"])(
    "help of %j has an example, and no line over 100 columns",
    (command) =>
      Effect.gen(function*() {
        const shown = yield* run(yield* tempDirectory, [...command === "" ? [] : [command], "--help"])
        assert.deepStrictEqual([shown.code, shown.stdout.filter(isWide)], [0, []])
        assert.include(shown.stdout.join("\n"), `\n  ${"effect-messaging"} ${command}`)
        assert.include(shown.stdout, "EXAMPLES")
      })
  )

  it.live("completions are a script that bash accepts and completes with", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const printed = yield* run(home, ["--completions", "bash"])
      const file = path.join(home, "completions")
      fs.writeFileSync(file, printed.stdout.join("\n"))
      const name = /complete .*-F (\S+)/.exec(printed.stdout.join("\n"))?.[1]
      const script = `. ${file}; COMP_WORDS=(effect-messaging do); COMP_CWORD=1; COMP_LINE="effect-messaging do"; ` +
        `COMP_POINT=\${#COMP_LINE}; ${name} effect-messaging do effect-messaging; echo "\${COMPREPLY[@]}"`
      const completed = spawnSync("bash", ["-c", script], { encoding: "utf8" })
      assert.strictEqual(completed.stdout.trim(), "doctor", completed.stderr)
    }))
})

describe("completions", () => {
  itWith("fish")("are a script that fish accepts and completes with", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { stdout } = yield* run(home, ["--completions", "fish"])
      fs.writeFileSync(path.join(home, "script"), stdout.join("\n"))
      const complete = (line: string) =>
        spawnSync("fish", ["-c", `source ${home}/script; complete -C '${line}'`], {
          encoding: "utf8",
          env: { ...process.env, HOME: home }
        }).stdout.split("\n").map((each) => each.split("\t")[0]).filter((each) => each !== "")
      assert.deepStrictEqual(complete("effect-messaging do"), ["doctor"])
      assert.deepStrictEqual(complete("effect-messaging send --until "), ["handled", "stored"])
    }))

  itWith("zsh")("are a script that zsh accepts and completes with", () =>
    Effect.gen(function*() {
      const home = yield* tempDirectory
      const { stdout } = yield* run(home, ["--completions", "zsh"])
      fs.writeFileSync(path.join(home, "_effect-messaging"), stdout.join("\n"))
      // A shell inside a terminal of its own; each read waits for its pattern.
      const script = `zmodload zsh/zpty; zpty z zsh -f -i
        zpty -w z "fpath=(${home} $fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' complete-word; echo RE''ADY"
        zpty -r z line '*READY*'
        zpty -w -n z $'effect-messaging send --until h\t'; zpty -r z line '*--until handled*'; print $line; zpty -d z`
      const completed = spawnSync("zsh", ["-f", "-c", script], { encoding: "utf8", timeout: 50_000 })
      assert.include(completed.stdout, "send --until handled", completed.stderr)
    }))
})

describe("wrap", () => {
  it.each([
    ["fits", ["fits"]],
    ["a word and a word", ["a word", "  and a", "  word"]],
    ["abcdefghijklmnop", ["abcdefgh", "  ijklmn", "  op"]],
    ["フファイルル", ["フファイ", "  ルル"]]
  ])("cuts %j at spaces, and continues below", (line, lines) => {
    assert.deepStrictEqual(wrap(line, 8), lines)
  })
})

describe("table", () => {
  it("cuts the widest columns in the middle until it fits", () => {
    const lines = table(["A", "LONG"], [["short", "/a/path/that/is/much/too/long"]], { width: 20, elastic: [] })
    assert.deepStrictEqual(lines, ["A      LONG", "short  /a/pat…o/long"])
  })

  it.each([
    [35, ["PATH      NUMBERS             OTHER", "/a/p…ong  2 messages, 2.1 kB  /b"]],
    [28, ["PATH      NUMBERS      OTHER", "/a/p…ong  2 mes….1 kB  /b"]]
  ])("cuts numbers only where %i cells do not hold them beside eight of each path", (width, lines) => {
    const cells = ["/a/path/that/is/too/long", "2 messages, 2.1 kB", "/b"]
    const drawn = table(["PATH", "NUMBERS", "OTHER"], [cells], { width, elastic: ["PATH", "OTHER"] })
    assert.deepStrictEqual(drawn, lines)
  })

  it("of peers cuts their paths, and no number", () => {
    const numbers = ["19.0 ms", "2 messages, 2.1 kB", "4194304", "2026-11-26T07:08:49Z"]
    const [roundTrip = "", inbox = "", pid = "", since = ""] = numbers
    const cells = [roundTrip, inbox, "worker", pid, since, "/home/user/work/main", `uds:/tmp/${"s".repeat(80)}`]
    const lines = table(["ROUND TRIP", "INBOX", ...heading], [cells], { width: 100, elastic })
    assert.deepStrictEqual(lines.filter(isWide), [])
    for (const number of numbers) assert.include(lines[1], number)
  })

  it("counts cells, not characters", () => {
    assert.strictEqual(truncateMiddle("ファイル名前", 7), "フ…前")
    assert.isAtMost(CliOutput.displayWidth(truncateMiddle("ファイル名前", 7)), 7)
  })
})

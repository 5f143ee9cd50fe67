/** A server and a client that belong together, each in a process of its own, for as long as a row lasts. */
import * as fs from "node:fs"
import * as path from "node:path"
import * as processes from "./processes.ts"
import type { Methods } from "./role.ts"
import type { Load, ServeOptions, Target } from "./system.ts"
import type * as turns from "./turns.ts"
import type { Player, Turn } from "./turns.ts"

export interface Contender {
  /** As the table shows it. */
  readonly name: string
  /** Modules in `systems/`. */
  readonly server: string
  readonly client: string
  /** What differs from the row's load, and from a server without options. */
  readonly load?: Partial<Load> | undefined
  readonly serve?: Partial<ServeOptions> | undefined
  /** Whether it is no part of the project, and so left out where figures do not matter. */
  readonly isPeer?: boolean | undefined
  /** What must be installed for it: a peer's package, or `gcc`. */
  readonly needs?: string | undefined
  /** The library, where it is not the one the run was started with. */
  readonly library?: string | undefined
}

export interface Settings extends turns.Settings {
  /** How long one turn takes. */
  readonly millis: number
  /** The URL of the library's index. */
  readonly library: string
  /** The URL of another one's, to take turns with it. */
  readonly against?: string | undefined
  /** The names of the contenders to run beside the first of each row. */
  readonly systems: RegExp
  /** Where to leave CPU profiles; none are made if undefined. */
  readonly profiles?: string | undefined
  /** A temporary directory, which the caller removes. */
  readonly directory: string
  /** Where the compiled C programs are. */
  readonly native: string
  /** Why what a contender needs is not there, by its name. */
  readonly missing: ReadonlyMap<string, string>
}

export interface Pair {
  readonly contender: Contender
  readonly server: Methods
  readonly client: Methods
  readonly target: Target
  readonly directory: string
}

export interface LaunchOptions {
  readonly cores?: string | undefined
  readonly nodeOptions?: ReadonlyArray<string> | undefined
}

const profiling = (settings: Settings, name: string) =>
  settings.profiles === undefined ? [] : [
    "--cpu-prof",
    `--cpu-prof-dir=${settings.profiles}`,
    `--cpu-prof-name=${name.replaceAll(/\W+/g, "-")}.cpuprofile`
  ]

export const launch = async (contender: Contender, settings: Settings, options: LaunchOptions = {}): Promise<Pair> => {
  const directory = fs.mkdtempSync(path.join(settings.directory, "p-"))
  const start = (system: string, end: string) =>
    processes.start({
      system,
      directory,
      library: contender.library ?? settings.library,
      native: settings.native,
      cores: options.cores,
      nodeOptions: [...options.nodeOptions ?? [], ...profiling(settings, `${contender.name}-${end}`)]
    })
  const server = start(contender.server, "server")
  const client = start(contender.client, "client")
  return { contender, server, client, directory, target: await server.serve({ ...contender.serve, directory }) }
}

/** Ends both processes. They may be gone already. */
export const stop = async ({ client, server }: Pair) => {
  await client.stop().catch(() => {})
  await server.stop().catch(() => {})
}

/** Opens the connections of a load; they stay for the turns that follow, until the next call. */
export const connect = async ({ client, contender, target }: Pair, load: Load) => {
  await client.disconnect()
  await client.connect(target, { ...load, ...contender.load })
}

/** One turn over them. The value is acks per second or, with one message in flight, microseconds to an ack. */
export const runLoad = async ({ client, server }: Pair, load: Load, millis: number): Promise<Turn> => {
  await server.begin()
  const [serverBefore, clientBefore] = [await server.cpu(), await client.cpu()]
  const sample = await client.run(millis)
  const [serverAfter, clientAfter] = [await server.cpu(), await client.cpu()]
  await server.end()
  return {
    value: load.inFlight === 1 ? sample.latencies?.p50 ?? Number.NaN : (sample.acks / sample.millis) * 1_000,
    p99: load.inFlight === 1 ? sample.latencies?.p99 : undefined,
    serverMicros: (serverAfter - serverBefore) / sample.acks,
    clientMicros: (sample.cpuMicros ?? clientAfter - clientBefore) / sample.acks
  }
}

const isOurs = ({ client, server }: Contender) => server.startsWith("ours") || client.startsWith("ours")

/** The first contender, the floor, and those asked for; where ours is an end of one, beside it the other library's. */
export const select = (
  contenders: ReadonlyArray<Contender>,
  { against, systems }: Settings
): ReadonlyArray<Contender> =>
  contenders.filter(({ name }, i) => i === 0 || systems.test(name)).flatMap((contender) =>
    against === undefined || !isOurs(contender)
      ? [contender]
      : [contender, { ...contender, name: `${contender.name} (against)`, library: against }]
  )

const isPair = (value: unknown): value is Pair => typeof value === "object" && value !== null && "target" in value

/** Players who keep their processes from the start to `close`. A pair that does not start fails when it is to play. */
export const players = async (
  contenders: ReadonlyArray<Contender>,
  settings: Settings,
  options: LaunchOptions,
  play: (pair: Pair, isCounted: boolean) => Promise<Turn>
): Promise<{ readonly players: ReadonlyArray<Player>; readonly close: () => Promise<void> }> => {
  const absence = ({ isPeer, needs }: Contender) =>
    settings.quick && isPeer === true ? "--quick" : settings.missing.get(needs ?? "")
  const launched = await Promise.all(
    select(contenders, settings).map(async (contender) => ({
      contender,
      absent: absence(contender),
      pair: absence(contender) === undefined
        ? await launch(contender, settings, options).catch((error: unknown) => error)
        : undefined
    }))
  )
  return {
    players: launched.map(({ absent, contender: { name }, pair }) => ({
      name,
      absent,
      play: (isCounted) => isPair(pair) ? play(pair, isCounted) : Promise.reject(pair)
    })),
    close: async () => {
      await Promise.all(launched.map(({ pair }) => isPair(pair) ? stop(pair) : undefined))
    }
  }
}

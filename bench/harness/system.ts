/** What the benchmark knows of a system under test. Server and client of one always live in two processes. */

/** How a client finds a server. Goes from one process to the other as JSON. */
export interface Target {
  readonly socketPath: string
  readonly token: string
}

export interface ServeOptions {
  /** A private directory for the server's socket and files. */
  readonly directory: string
  /** Entries put in the inbox before the start, and kept in it. Default 0. */
  readonly waiting?: number | undefined
  /** Other peers in the directory, none of them alive. Default 0. */
  readonly peers?: number | undefined
  /** Whether the server says that it speaks protocol 1 only. Default false. */
  readonly protocol1?: boolean | undefined
  /** Whether a handler takes each entry and answers queries, so that nothing has to be drained. Default false. */
  readonly answers?: boolean | undefined
}

export interface Served {
  readonly target: Target
  /** Takes all entries out of the inbox but those that are to wait. */
  readonly drain?: (() => void) | undefined
  /** CPU time used so far, where another process does the work. */
  readonly cpuMicros?: (() => number) | undefined
  /** Memory in use, where another process does the work. */
  readonly memoryBytes?: (() => number) | undefined
  readonly close: () => Promise<void>
}

/** How a client is to load a server. */
export interface Load {
  readonly connections: number
  /** Messages sent and not acknowledged, over all connections. */
  readonly inFlight: number
  /** Characters of `data` in a message. */
  readonly bytes: number
  /** Whether each message is a query that waits for its answer. Default false. */
  readonly ask?: boolean | undefined
}

/** What a client counted while it ran. */
export interface Sample {
  readonly acks: number
  readonly millis: number
  /** CPU time, where another process than the client's did the work. */
  readonly cpuMicros?: number | undefined
  /** Microseconds from request to ack; only with one message in flight. */
  readonly latencies?: { readonly p50: number; readonly p99: number } | undefined
}

/** A client that has connected, and sent one message over each connection. */
export interface Session {
  /** Keeps the load up for `millis`. Returns when nothing is in flight any more. May be called again. */
  readonly run: (millis: number) => Promise<Sample>
  readonly close: () => Promise<void>
}

/** A module in `systems/`. What it cannot do it leaves out. */
export interface System {
  readonly serve?: ((options: ServeOptions) => Promise<Served>) | undefined
  readonly connect?: ((target: Target, load: Load) => Promise<Session>) | undefined
}

/** Both sides' inboxes: nothing is refused, as long as the timer that drains them is not a second late. */
export const inboxLimits = { entries: 1_000_000, bytes: 1_073_741_824 }

/** Both sides' inboxes are drained by a timer, whatever is in them: equal retention, and no reader to wake. */
export const drainMillis = 5

export const message = (bytes: number) => "x".repeat(bytes)

/**
 * The library under test, as `run.ts` chose it: from source, as built in `dist`, or another checkout's. By URL, since
 * `bench` is a package of its own, in which the name `effect-messaging` means nothing.
 */
import type * as Library from "../src/index.ts"

export const load = async (): Promise<typeof Library> =>
  await import(process.env["BENCH_LIBRARY"] ?? new URL("../src/index.ts", import.meta.url).href) as typeof Library

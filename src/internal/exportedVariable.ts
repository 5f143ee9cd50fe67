/**
 * An environment variable set for the children of this process while a scope is open. The environment belongs to the
 * whole process, so endpoints may set the same variable one over the other and end in any order: the value that was there
 * before all of them comes back when the last one ends, and no value of one that has ended ever does.
 */
import * as Effect from "effect/Effect"

type Environment = Record<string, string | undefined>

interface Export {
  readonly name: string
  readonly value: string
  /** What stood there before; passed on to the next one when the export below it ends first. */
  former: string | undefined
}

// The exports in force in each environment, of which a process has one. Written at acquire and release only.
const exported = new WeakMap<Environment, Set<Export>>()

const release = (environment: Environment, ended: Export) => {
  const others = exported.get(environment) ?? new Set<Export>()
  others.delete(ended)
  const above = [...others].find(({ former, name }) => name === ended.name && former === ended.value)
  if (above !== undefined) above.former = ended.former
  // Somebody else may have set it meanwhile; theirs stays.
  if (environment[ended.name] !== ended.value) return
  if (ended.former === undefined) delete environment[ended.name]
  else environment[ended.name] = ended.former
}

export const exportVariable = (environment: Environment, name: string, value: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const entry: Export = { name, value, former: environment[name] }
      const others = exported.get(environment) ?? new Set<Export>()
      exported.set(environment, others.add(entry))
      environment[name] = value
      return entry
    }),
    (entry) => Effect.sync(() => release(environment, entry))
  )

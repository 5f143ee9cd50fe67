/**
 * The one name from which directories and the environment variable derive. Programs meet only those of the same
 * namespace. The default is the one existing protocol 1 programs use (PROTOCOL.md section 5).
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** The namespace in force where none is chosen: the one of existing protocol 1 programs. */
export const defaultNamespace = "claude-code"

/** The namespace is not 1 to 32 lower-case letters, digits and hyphens, starting with a letter. */
export class InvalidNamespace extends Schema.TaggedError<InvalidNamespace>()("InvalidNamespace", {
  /** The text that was given. */
  namespace: Schema.String
}) {
  override get message() {
    return `namespace ${JSON.stringify(this.namespace)} must be 1 to 32 lower-case letters, digits and hyphens, ` +
      "starting with a letter"
  }
}

/** What derives from a namespace. */
export interface Names {
  /** The namespace itself. */
  readonly namespace: string
  /** The variable that tells children their parent's socket path. */
  readonly environmentVariable: string
  /** The variable that moves the configuration home. */
  readonly configVariable: string
  /** The name of the configuration home below the user's home, where that variable is not set. */
  readonly configDirectory: string
}

const derive = (namespace: string): Names => {
  const upper = namespace.toUpperCase().replaceAll("-", "_")
  return {
    namespace,
    environmentVariable: `${upper}_MESSAGING_SOCKET`,
    // Protocol 1 programs keep their capabilities in ~/.claude, not ~/.claude-code.
    configVariable: namespace === defaultNamespace ? "CLAUDE_CONFIG_DIR" : `${upper}_CONFIG_DIR`,
    configDirectory: namespace === defaultNamespace ? ".claude" : `.${namespace}`
  }
}

/** The names in force. Needs no layer; `layer` chooses another namespace. */
export class Namespace extends Context.Reference<Names>("effect-messaging/Namespace", {
  defaultValue: () => derive(defaultNamespace)
}) {}

/** The names of a namespace. Default `defaultNamespace`. Fails with `InvalidNamespace` when the name cannot stand in a path and a variable. */
export const make = (namespace: string = defaultNamespace): Effect.Effect<Names, InvalidNamespace> =>
  /^[a-z][a-z0-9-]{0,31}$/.test(namespace)
    ? Effect.succeed(derive(namespace))
    : Effect.fail(new InvalidNamespace({ namespace }))

/** Chooses the namespace. Fails with `InvalidNamespace`. */
export const layer = (namespace?: string): Layer.Layer<never, InvalidNamespace> =>
  Layer.effect(Namespace, make(namespace))

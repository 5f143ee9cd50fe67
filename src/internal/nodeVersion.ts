/**
 * The oldest Node this library supports, as `@effect/platform-node` 4.1 states it. Before 22 a socket path that is too
 * long is cut silently instead of refused.
 */
export const requiredNode = "22.19.0"

/** Whether `version`, such as `process.versions.node`, is at least `requiredNode`. */
export const isSupportedNode = (version: string): boolean => {
  const [major = 0, minor = 0] = version.split(".").map(Number)
  const [requiredMajor = 0, requiredMinor = 0] = requiredNode.split(".").map(Number)
  return major > requiredMajor || (major === requiredMajor && minor >= requiredMinor)
}

export const unsupportedNode = (version: string): string =>
  `effect-messaging needs Node ${requiredNode} or later, and this is Node ${version}`

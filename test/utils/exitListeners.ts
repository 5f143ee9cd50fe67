/**
 * What was registered for the end of the process since the call, in the order in which the process would run it: a test
 * runs it without ending.
 */
export const exitListeners = () => {
  const before = new Set(process.listeners("exit"))
  return () => process.listeners("exit").filter((listener) => !before.has(listener))
}

/** The signals that end an endpoint in order: everything is released before the process ends. */
export const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

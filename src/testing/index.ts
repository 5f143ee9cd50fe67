export * as Faults from "./Faults.ts"
export * as Network from "./Network.ts"

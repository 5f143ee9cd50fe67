/** Bytes of the heap that are in use after a full collection. */
import * as v8 from "node:v8"
import * as vm from "node:vm"

v8.setFlagsFromString("--expose-gc")
const collect = vm.runInNewContext("gc") as () => void

export const heapInUse = (): number => {
  // Twice, since what the first collection finalises is freed by the second.
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

export const mebibyte = 1_048_576

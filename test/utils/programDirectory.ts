import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

/** The place of test/utils/programs.ts for one run of the tests. */
export default () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "em-programs-"))
  fs.chmodSync(directory, 0o755)
  process.env["MESSAGING_TEST_PROGRAMS"] = directory
  return () => fs.rmSync(directory, { recursive: true, force: true })
}

/** Says what a test has measured, beside what it asserts. SECURITY.md quotes it. */
export const figure = (text: string) => void process.stderr.write(`figure: ${text}\n`)

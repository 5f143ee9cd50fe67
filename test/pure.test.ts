import { assert, describe, it } from "@effect/vitest"
import { annotate } from "../scripts/pure.ts"

describe("annotate", () => {
  it.each([
    ["a call", "export const a = f(1)", "export const a = /* @__PURE__ */ f(1)"],
    ["calls in a call", "const a = f(g()).h(i)", "const a = /* @__PURE__ */ f(/* @__PURE__ */ g()).h(i)"],
    ["new", "const a = [new A()]", "const a = [/* @__PURE__ */ new A()]"],
    ["what a class extends", "class A extends f()(\"A\", {}) {}", "class A extends /* @__PURE__ */ f()(\"A\", {}) {}"],
    ["types", "const a = f<A>(b as C) satisfies D", "const a = /* @__PURE__ */ f<A>(b as C) satisfies D"]
  ])("marks %s", (_, code, annotated) => {
    assert.strictEqual(annotate(code, "ts"), annotated)
  })

  it.each([
    ["what a function does", "const a = () => f(g())"],
    ["what a method does", "class A { a() { return f() } }"],
    ["what a generator does", "export function* a() { yield f() }"],
    ["statements, which are there for what they do", "process.on(\"exit\", f())"]
  ])("leaves %s", (_, code) => {
    assert.strictEqual(annotate(code, "ts"), code)
  })
})

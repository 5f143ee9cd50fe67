import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Option, Result } from "effect"
import { systemError } from "effect/PlatformError"
import * as fs from "node:fs"
import * as path from "node:path"
import { Host } from "../../src/Host.ts"
import { FileFailed } from "../../src/internal/fileFailed.ts"
import { Posix } from "../../src/internal/posix.ts"
import * as privateFiles from "../../src/internal/privateFiles.ts"
import { contents, withTempHost } from "../utils/tempHost.ts"

const withFiles = <A, E, R>(use: (files: privateFiles.PrivateFiles, root: string) => Effect.Effect<A, E, R>) =>
  withTempHost((host) => Effect.flatMap(privateFiles.make, (files) => use(files, host.tmpdir))).pipe(
    Effect.provide(NodeFileSystem.layer)
  )

describe("privateFiles", () => {
  it.effect("makes every missing directory 0700, whatever the process's mask is", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      yield* Effect.acquireUseRelease(
        Effect.sync(() => process.umask(0)),
        () => files.ensurePrivate(path.join(root, "a", "b")),
        (former) => Effect.sync(() => process.umask(former))
      )
      assert.strictEqual(fs.statSync(path.join(root, "a")).mode & 0o7777, 0o700)
      assert.strictEqual(fs.statSync(path.join(root, "a", "b")).mode & 0o7777, 0o700)
    })))

  it.effect("tells who made a directory when several want it at once", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      const made = yield* Effect.all(
        Array.from({ length: 8 }, () => files.ensurePrivate(path.join(root, "a"))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(made.flat(), [path.join(root, "a")])
    })))

  it.effect("accepts a private directory that is there, and did not make it", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      assert.deepStrictEqual(yield* files.ensurePrivate(root), [])
    })))

  it.effect("checks the chain up to the root, not only the next directory", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      const open = path.join(root, "open")
      fs.mkdirSync(path.join(open, "a", "b", "c"), { recursive: true, mode: 0o700 })
      fs.chmodSync(open, 0o777)
      assert.deepStrictEqual(
        yield* Effect.flip(files.checkPrivate(path.join(open, "a", "b", "c"))),
        new privateFiles.DirectoryNotPrivate({
          path: open,
          problem: "writable by others",
          remedy: `chmod go-w ${open}`
        })
      )
    })))

  it.effect("takes root's directories for safe, and those of a third for nobody's to use", () =>
    withTempHost(Effect.fnUntraced(function*(host) {
      const asStranger = { ...host, uid: Option.some(4_242) }
      const files = yield* privateFiles.make.pipe(Effect.provideService(Host, asStranger))
      yield* files.checkAncestors("/somewhere")
      const root = Option.getOrThrow(yield* files.inspect("/"))
      assert.isFalse(files.isOwn(root))
      assert.isTrue(files.isOwn({ ...root, uid: Option.some(4_242) }))
      const error = yield* Effect.flip(files.checkPrivate("/"))
      assert.strictEqual(error.message, "/ is not private (foreign owner): use a directory of your own")
    })).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("tells that a directory is missing, and does not make it", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      const missing = path.join(root, "missing")
      assert.deepStrictEqual(
        yield* Effect.flip(files.checkPrivate(missing)),
        new FileFailed({ operation: "inspect", path: missing, code: "ENOENT" })
      )
      assert.deepStrictEqual(contents(root), [])
    })))

  it.effect("says whether there is one, and checks the chain only where there is", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      const open = path.join(root, "open")
      fs.mkdirSync(path.join(open, "a"), { recursive: true, mode: 0o700 })
      assert.isTrue(yield* files.checkPrivateIfAny(path.join(open, "a")))
      fs.chmodSync(open, 0o777)
      assert.isFalse(yield* files.checkPrivateIfAny(path.join(open, "missing")))
      assert.isFalse(yield* files.checkPrivateIfAny(path.join(open, "missing", "too")))
      assert.include(yield* Effect.flip(files.checkPrivateIfAny(path.join(open, "a"))), { path: open })
    })))

  it.effect("names the innermost of those at fault", () =>
    withFiles(Effect.fnUntraced(function*(files, root) {
      const [outer, inner] = [path.join(root, "outer"), path.join(root, "outer", "inner")]
      fs.mkdirSync(path.join(inner, "own"), { recursive: true, mode: 0o700 })
      for (const directory of [outer, inner]) fs.chmodSync(directory, 0o777)
      assert.include(yield* Effect.flip(files.checkAncestors(path.join(inner, "own"))), { path: inner })
    })))

  it.effect("asks for no owner or mode where the platform has none", () =>
    withTempHost(Effect.fnUntraced(function*(host) {
      fs.chmodSync(host.tmpdir, 0o777)
      const files = yield* privateFiles.make.pipe(Effect.provideService(Host, { ...host, uid: Option.none() }))
      const directory = path.join(host.tmpdir, "a")
      assert.deepStrictEqual(yield* files.ensurePrivate(directory), [directory])
      fs.chmodSync(directory, 0o777)
      yield* files.checkPrivate(directory)
      const info = Option.getOrThrow(yield* files.inspect(directory))
      assert.isTrue(files.isOwn(info))
      assert.isTrue(files.isOwn({ ...info, uid: Option.none() }))
    })).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("names the root itself as what cannot be private, and what to do", () =>
    withTempHost(Effect.fnUntraced(function*(host) {
      // The root belongs to root, and everybody can read it.
      const asRoot = { ...host, uid: Option.some(0) }
      const files = yield* privateFiles.make.pipe(Effect.provideService(Host, asRoot))
      assert.deepStrictEqual(
        yield* Effect.flip(files.checkPrivate("/")),
        new privateFiles.DirectoryNotPrivate({
          path: "/",
          problem: "open to others",
          remedy: "mkdir -m 700 /NAME and use that"
        })
      )
    })).pipe(Effect.provide(NodeFileSystem.layer)))

  it.effect("ends at the root where nothing is there at all", () =>
    withTempHost(Effect.fnUntraced(function*() {
      const lstat = () => Effect.fail(systemError({ _tag: "NotFound", module: "FileSystem", method: "lstat" }))
      const missing = (path: string) => new FileFailed({ operation: "inspect", path, code: "ENOENT" })
      const files = yield* privateFiles.make.pipe(
        Effect.provideService(FileSystem.FileSystem, { ...yield* FileSystem.FileSystem, lstat }),
        Effect.provideService(Posix, {
          ...yield* Posix,
          lookAt: (paths) => Effect.succeed(paths.map((path) => Result.fail(missing(path))))
        })
      )
      assert.deepStrictEqual(
        yield* Effect.flip(files.ensurePrivate("/no/where")),
        new FileFailed({ operation: "inspect", path: "/", code: "ENOENT" })
      )
    })).pipe(Effect.provide(NodeFileSystem.layer)))
})

/**
 * Directories and files that only this user can have made (PROTOCOL.md section 5.5). Whoever can rename a directory on
 * the way to a file can replace the file, so the whole chain is checked, link by link, and nothing is repaired: a wrong
 * mode or owner is somebody's mistake or attack, and is reported with its remedy.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as path from "node:path"
import { Host } from "../Host.ts"
import { failed, type FileFailed } from "./fileFailed.ts"
import { type EntryFacts, Posix } from "./posix.ts"

/** A directory, or one above it, could be changed by somebody else. Nothing was created or altered. */
export class DirectoryNotPrivate extends Schema.TaggedError<DirectoryNotPrivate>()("DirectoryNotPrivate", {
  /** The directory at fault. */
  path: Schema.String,
  /** What it is, or is open to, that it must not be. */
  problem: Schema.Literals(["not a directory", "a link", "foreign owner", "open to others", "writable by others"]),
  /** What its user can do about it. */
  remedy: Schema.String
}) {
  override get message() {
    return `${this.path} is not private (${this.problem}): ${this.remedy}`
  }
}

export interface PrivateFiles {
  /** The entry itself, not what a link points at; none when there is none. */
  readonly inspect: (path: string) => Effect.Effect<Option.Option<FileSystem.File.Info>, FileFailed>
  /** Every directory above `path` belongs to root or the user, and nobody else can write to it unless it is sticky. */
  readonly checkAncestors: (path: string) => Effect.Effect<void, DirectoryNotPrivate | FileFailed>
  /** `path` is a real directory of the user's without group or other bits, and so is the chain above it safe. */
  readonly checkPrivate: (path: string) => Effect.Effect<void, DirectoryNotPrivate | FileFailed>
  /** As `checkPrivate`, where there is such a directory; says whether there is. */
  readonly checkPrivateIfAny: (path: string) => Effect.Effect<boolean, DirectoryNotPrivate | FileFailed>
  /**
   * As `checkPrivate`, after making what is missing of the directory. Adds what it made to `made`, inmost last, and
   * answers with it; what it made before it failed is there too. Not interruptible, so that the list is whole.
   */
  readonly ensurePrivate: (
    path: string,
    made?: Array<string>
  ) => Effect.Effect<ReadonlyArray<string>, DirectoryNotPrivate | FileFailed>
  /** Whether the entry belongs to the user; always so where the platform knows no owners. */
  readonly isOwn: (info: FileSystem.File.Info) => boolean
}

const openBits = 0o077
const writableBits = 0o022
const stickyBit = 0o1000

const refuse = (path: string, problem: DirectoryNotPrivate["problem"], remedy: string) =>
  new DirectoryNotPrivate({ path, problem, remedy })

const judgeDirectory = ({ path, type }: EntryFacts) => {
  if (type === "SymbolicLink") return refuse(path, "a link", "name the directory it points at instead")
  return type === "Directory" ? undefined : refuse(path, "not a directory", "move the file away")
}

export const make: Effect.Effect<PrivateFiles, never, FileSystem.FileSystem> = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const posix = yield* Posix
  const host = yield* Host
  const knowsOwners = Option.isSome(host.uid)
  const isOwner = (uid: number) => Option.contains(host.uid, uid)
  const isOwn = (info: FileSystem.File.Info) => !knowsOwners || Option.exists(info.uid, isOwner)

  const inspect: PrivateFiles["inspect"] = (path) =>
    Effect.matchEffect(fs.lstat(path), {
      onSuccess: (info) => Effect.succeedSome(info),
      onFailure: (error) =>
        error.reason._tag === "NotFound" ? Effect.succeedNone : Effect.fail(failed("inspect", path)(error))
    })

  const ancestorsOf = (target: string): ReadonlyArray<string> => {
    const ancestors: Array<string> = []
    for (let at = path.dirname(path.resolve(host.cwd, target));; at = path.dirname(at)) {
      ancestors.push(at)
      if (at === path.dirname(at)) return ancestors
    }
  }

  /** Looks at all of them at once, since each look waits for the system, and names the first that is at fault. */
  const judgeAll = Effect.fnUntraced(function*(
    paths: ReadonlyArray<string>,
    judge: (facts: EntryFacts) => DirectoryNotPrivate | undefined
  ) {
    for (const look of yield* posix.lookAt(paths)) {
      const problem = judge(yield* Effect.fromResult(look))
      if (problem !== undefined) return yield* problem
    }
  })

  const judgeAncestor = (facts: EntryFacts) => {
    const { path } = facts
    const problem = judgeDirectory(facts)
    if (problem !== undefined || !knowsOwners) return problem
    if (facts.uid !== 0 && !isOwner(facts.uid)) {
      return refuse(path, "foreign owner", "use a directory below one of your own or root's")
    }
    return (facts.mode & writableBits) !== 0 && (facts.mode & stickyBit) === 0
      ? refuse(path, "writable by others", `chmod go-w ${path}`)
      : undefined
  }

  const judgePrivate = (facts: EntryFacts) => {
    const { path } = facts
    const problem = judgeDirectory(facts)
    if (problem !== undefined || !knowsOwners) return problem
    if (!isOwner(facts.uid)) return refuse(path, "foreign owner", "use a directory of your own")
    if ((facts.mode & openBits) === 0) return undefined
    // A sticky directory, such as /tmp, is shared on purpose, and so is the root.
    const isShared = (facts.mode & stickyBit) !== 0 || path === "/"
    const remedy = isShared ? `mkdir -m 700 ${path === "/" ? "" : path}/NAME and use that` : `chmod 700 ${path}`
    return refuse(path, "open to others", remedy)
  }

  const checkAncestors: PrivateFiles["checkAncestors"] = (target) => judgeAll(ancestorsOf(target), judgeAncestor)

  const checkPrivate: PrivateFiles["checkPrivate"] = (target) =>
    judgeAll(
      [target, ...ancestorsOf(target)],
      (facts) => facts.path === target ? judgePrivate(facts) : judgeAncestor(facts)
    )

  const checkPrivateIfAny: PrivateFiles["checkPrivateIfAny"] = (target) =>
    Effect.as(checkPrivate(target), true).pipe(
      Effect.catchIf(
        (error) => error._tag === "FileFailed" && error.code === "ENOENT" && error.path === target,
        () => Effect.succeed(false)
      )
    )

  /** One level at a time and never recursive: nothing is made below a directory that has not been checked. */
  const create = Effect.fnUntraced(function*(
    target: string,
    made: Array<string>
  ): Effect.fn.Return<void, DirectoryNotPrivate | FileFailed> {
    if (Option.isSome(yield* inspect(target))) return
    const parent = path.dirname(target)
    if (parent !== target) yield* create(parent, made)
    yield* checkAncestors(target)
    return yield* Effect.matchEffect(fs.makeDirectory(target, { mode: 0o700 }), {
      onSuccess: () => Effect.sync(() => void made.push(target)),
      // Somebody was faster. Whoever it was, the check that follows judges the result.
      onFailure: (error) =>
        error.reason._tag === "AlreadyExists" ? Effect.void : Effect.fail(failed("create", target)(error))
    })
  })

  return {
    inspect,
    checkAncestors,
    checkPrivate,
    checkPrivateIfAny,
    isOwn,
    ensurePrivate: Effect.fnUntraced(function*(target: string, made: Array<string> = []) {
      yield* create(target, made)
      yield* checkPrivate(target)
      return made
    }, Effect.uninterruptible)
  }
})

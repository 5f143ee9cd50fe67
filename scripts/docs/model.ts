/** The public surface as data: what a page of the reference shows, and what a page is made of. */

/** A piece of a name: a member of a service or interface, a field of an error, an entry of an options object. */
export interface Member {
  readonly name: string
  /** Its type, as TypeScript text on one line. */
  readonly type: string
  readonly optional: boolean
  readonly doc: string
}

export type Kind = "service" | "reference" | "error" | "value" | "interface" | "type"

export interface Item {
  readonly name: string
  readonly kind: Kind
  /** What is shown as code: a whole declaration, or nothing where the members say it all. */
  readonly code: string | undefined
  /** The key of a service, or what an interface extends. */
  readonly note: string | undefined
  readonly doc: string
  readonly members: ReadonlyArray<Member>
  /** The public module that declares it, where that is another one. */
  readonly from: string | undefined
}

export interface Module {
  /** As it is imported below the package, such as `Inbox` or `testing/Faults`. */
  readonly name: string
  readonly source: string
  readonly doc: string
  readonly items: ReadonlyArray<Item>
}

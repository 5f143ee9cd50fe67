/**
 * Text that a peer sent, made safe to show: control, format and surrogate characters escaped, cut to a number of bytes.
 */
import { Buffer } from "node:buffer"

const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu

const escape = (character: string) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`

export const remoteText = (text: string, maxBytes: number): string => {
  // No character shrinks when escaped, so what lies beyond `maxBytes` characters cannot be shown.
  const shown = text.slice(0, maxBytes).replace(unsafe, escape)
  if (text.length <= maxBytes && Buffer.byteLength(shown) <= maxBytes) return shown
  const room = maxBytes - Buffer.byteLength("…")
  let bytes = 0
  let kept = ""
  for (const character of shown) {
    bytes += Buffer.byteLength(character)
    if (bytes > room) break
    kept += character
  }
  return `${kept}…`
}

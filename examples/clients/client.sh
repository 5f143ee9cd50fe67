#!/bin/sh
# Sends one text message and prints what came of it: the id it is stored under.
#
#     client.sh TEXT [SOCKET]
#
# Without SOCKET, to the endpoint that CLAUDE_CODE_MESSAGING_SOCKET names. Exits with 1 and one line on failure. Speaks
# protocol 1, so the server must serve it. Needs sha256sum or shasum, and one of nc (with -U), socat and perl; VIA
# chooses one. The token goes through pipes alone: arguments and the environment are visible to others. Control
# characters but LF become spaces. The numbers in comments are sections of PROTOCOL.md.
export LC_ALL=C
fail() { printf 'client.sh: %s\n' "$1" >&2; exit 1; }
quote() { tr '\001-\011\013-\037\177' ' ' | sed 's/[\\"]/\\&/g' | awk 'NR > 1 { printf "\\n" } { printf "%s", $0 }'; }
has() { command -v "$1" >/dev/null 2>&1; }

text=${1?usage: client.sh TEXT [SOCKET]}
socket=${2:-${CLAUDE_CODE_MESSAGING_SOCKET:?no SOCKET, and this is not set}}

case $socket in /*) ;; *) fail "$socket is not an absolute path" ;; esac

# 5: nobody else can put anything into these directories, or lead elsewhere by a link
check_closed() {
  case $(ls -ldn "$1" | awk '{ print $1, $3 }') in
    d????-??-*" 0" | d????-??-*" $(id -u)" | d????????[tT]*" 0" | d????????[tT]*" $(id -u)") ;;
    *) fail "$1 is a link, another user's, or others can write to it" ;;
  esac
  [ "$1" = / ] || check_closed "$(dirname "$1")"
}

# 6
home=$(cd -P "${CLAUDE_CONFIG_DIR:-$HOME/.claude}" && pwd -P) || fail "no configuration home"
sum=$(printf %s "$socket" | if has sha256sum; then sha256sum; else shasum -a 256; fi)
file=$home/messaging-capabilities/${sum%% *}.json
[ -f "$file" ] || fail "no endpoint has published $socket"
check_closed "${file%/*}"
case $(ls -ld "$file") in -???------*) ;; *) fail "the capability file is not private" ;; esac
[ -O "$file" ] && [ "$(wc -c <"$file")" -le 4096 ] || fail "the capability file is not private"
capability=$(cat "$file")
case $capability in *"\"socketPath\":\"$(printf %s "$socket" | quote)\""*) ;; *) fail "that is another socket's file" ;; esac
token=$(printf %s "$capability" | sed -n 's/.*"authToken":"\([0-9a-f]\{64\}\)".*/\1/p')

# 5
[ -S "$socket" ] && [ ! -L "$socket" ] && [ -O "$socket" ] || fail "$socket is not a socket of this user"
check_closed "$(dirname "$socket")"

# 4: the end of what is sent ends the connection, once it is answered; 5 seconds of silence end it as well
exchange() {
  case ${VIA:-$(if nc -h 2>&1 | grep -q -- -U; then echo nc; elif has socat; then echo socat; else echo perl; fi)} in
    nc) if nc -h 2>&1 | grep -q -- '-N.*[Ss]hutdown'; then nc -N -w 5 -U "$socket"; else nc -w 5 -U "$socket"; fi ;;
    socat) socat -t 5 - "UNIX-CONNECT:$socket" ;;
    *) perl -MIO::Socket::UNIX -e 'alarm 5; $s = IO::Socket::UNIX->new(shift) or die "$!\n"; $| = 1;
         print $s <STDIN>; $s->flush; $s->shutdown(1); print while <$s>' "$socket" ;;
  esac
}
reply=$(printf '{"type":"text","data":"%s","meta":{"authToken":"%s"}}\n' "$(printf %s "$text" | quote)" "$token" | exchange)
case $reply in
  '{"type":"response",'*) printf '%s\n' "$reply" | sed 's/.*"id":"\([^"]*\)".*/\1/' ;;
  '{"type":"error",'*) fail "$(printf '%s\n' "$reply" | sed 's/.*"data":"\([^"]*\)".*/\1/')" ;;
  *) fail "no answer" ;;
esac

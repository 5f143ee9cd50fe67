#!/usr/bin/env python3
"""client.py text|notification|query|ping TEXT [SOCKET]

Sends a message, and prints the id it is stored under, the answer to a query, or "pong". Speaks protocol 2, and protocol
1 to a server that has no other. The numbers in comments are sections of PROTOCOL.md.
"""
import hashlib, hmac, json, os, pathlib, secrets, signal, socket, stat, sys

fail = lambda problem: sys.exit(f"client.py: {problem}")

def check_own(path, is_kind, forbidden):  # 5 and 6: nobody else can put anything there, or lead elsewhere by a link
    found = os.lstat(path)
    own = is_kind(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & forbidden
    own or fail(f"{path} is not what this user alone can have put there")
    for directory in pathlib.Path(path).parents:
        found = os.lstat(directory)
        closed = not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX
        trusted = stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.getuid()) and closed
        trusted or fail(f"{directory} is a link, another user's, or others can write to it")

def replies():  # 1 and 4
    while (line := stream.readline(65537)).endswith("\n"):
        if line.strip():
            frame = json.loads(line)
            frame["type"] != "error" or fail(frame.get("data"))
            yield frame, frame.get("meta", {})
    fail("the connection ended without an answer")

sys.excepthook = lambda kind, problem, trace: print(f"client.py: {problem}", file=sys.stderr)
len(sys.argv) in (3, 4) or fail("usage: client.py text|notification|query|ping TEXT [SOCKET]")
kind, text, path = (*sys.argv[1:], os.environ.get("CLAUDE_CODE_MESSAGING_SOCKET", ""))[:3]
path.startswith("/") or fail("SOCKET, or else CLAUDE_CODE_MESSAGING_SOCKET, must be an absolute path")
signal.signal(signal.SIGALRM, lambda *_: fail("no answer within 5 seconds"))
signal.alarm(5)  # 5: one deadline for all of it
home = pathlib.Path(os.environ.get("CLAUDE_CONFIG_DIR") or pathlib.Path.home() / ".claude").resolve()
file = home / "messaging-capabilities" / f"{hashlib.sha256(path.encode()).hexdigest()}.json"
check_own(file, stat.S_ISREG, 0o077)
capability = json.loads(file.read_bytes()) if file.stat().st_size <= 4096 else {}  # 6
capability.get("socketPath") == path or fail(f"{file} is not the capability of {path}")
token, protocol = capability["authToken"], capability.get("protocol", 1)
if protocol == 1:  # 5: the token is sent as it is; in protocol 2 the server proves itself
    check_own(path, stat.S_ISSOCK, 0)
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
stream = connection.makefile("rw", encoding="utf-8", newline="\n")
send = lambda **frame: print(json.dumps(frame), file=stream, flush=True)
nonce, own = secrets.token_hex(32), secrets.token_hex(16)
if protocol != 1:  # 9.1
    send(type="hello", protocol=2, nonce=nonce)
    challenge, _ = next(replies())
    proof = lambda role: hmac.new(
        token.encode(), "\n".join([role, path, "", nonce, challenge["nonce"]]).encode(), "sha256").hexdigest()
    hmac.compare_digest(proof("server"), challenge["proof"]) or fail("the server does not know its token")
    send(type="auth", proof=proof("client"))
send(type=kind, data=text, meta={"authToken": token} if protocol == 1 else {"messageId": own})  # 3 and 9.2
for reply, meta in replies():
    answers = meta.get("inReplyTo") == own
    acks = reply["type"] in ("response", "pong") and (protocol == 1 or kind != "query" and meta.get("messageId") == own)
    if answers or acks:
        print(reply.get("data", "") if answers else meta.get("id", reply["type"]))
        break

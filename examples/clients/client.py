#!/usr/bin/env python3
"""client.py text|notification|query|ping TEXT [SOCKET]

Sends a message, and prints the id it is stored under, the answer to a query, or "pong". Speaks protocol 2, and protocol
1 to a server that has no other. The numbers in comments are sections of PROTOCOL.md.
"""
import hashlib, hmac, json, os, pathlib, secrets, signal, socket, stat, sys

def check(holds, problem):
    if not holds:
        raise Exception(problem)

def check_closed(path):  # 5: nobody else can put anything there, or lead elsewhere by a link
    for directory in pathlib.Path(path).parents:
        found = os.lstat(directory)
        closed = not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX
        trusted = stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.getuid()) and closed
        check(trusted, f"{directory} is a link, another user's, or others can write to it")

def read_capability(path):  # 6
    home = pathlib.Path(os.environ.get("CLAUDE_CONFIG_DIR") or pathlib.Path.home() / ".claude").resolve()
    name = home / "messaging-capabilities" / f"{hashlib.sha256(path.encode()).hexdigest()}.json"
    check_closed(name)
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        private = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        check(private and found.st_size <= 4096, "the capability file is not a private file of this user")
        capability = json.loads(file.read())
    check(capability["socketPath"] == path, "the capability file is that of another socket")
    return capability["authToken"], capability.get("protocol", 1)

def send(**frame):
    connection.sendall(json.dumps(frame).encode() + b"\n")

def replies():  # 1 and 4
    while (line := lines.readline(65537)).endswith(b"\n"):
        if line.strip():
            frame = json.loads(line)
            check(frame["type"] != "error", frame.get("data"))
            yield frame, frame.get("meta", {})
    check(False, "the connection ended without an answer")

sys.excepthook = lambda kind, problem, trace: print(f"client.py: {problem}", file=sys.stderr)
check(len(sys.argv) in (3, 4), "usage: client.py text|notification|query|ping TEXT [SOCKET]")
kind, text, path = (*sys.argv[1:], os.environ.get("CLAUDE_CODE_MESSAGING_SOCKET", ""))[:3]
check(path.startswith("/"), "SOCKET, or else CLAUDE_CODE_MESSAGING_SOCKET, must be an absolute path")
signal.signal(signal.SIGALRM, lambda *_: check(False, "no answer within 5 seconds"))
signal.alarm(5)  # 5: one deadline for all of it
token, protocol = read_capability(path)
if protocol == 1:  # 5: the token is sent as it is; in protocol 2 the server proves itself
    found = os.lstat(path)
    check(stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid(), f"{path} is not a socket of this user")
    check_closed(path)
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
lines, nonce, own = connection.makefile("rb"), secrets.token_hex(32), secrets.token_hex(16)
if protocol != 1:  # 9.1
    send(type="hello", protocol=2, nonce=nonce)
    challenge, _ = next(replies())
    proven = "\n".join(["", path, "", nonce, challenge["nonce"]])
    proof = lambda role: hmac.new(token.encode(), (role + proven).encode(), "sha256").hexdigest()
    check(hmac.compare_digest(proof("server"), challenge["proof"]), "the server does not know its token")
    send(type="auth", proof=proof("client"))
send(type=kind, data=text, meta={"authToken": token} if protocol == 1 else {"messageId": own})  # 3 and 9.2
for reply, meta in replies():
    answers = meta.get("inReplyTo") == own
    acks = reply["type"] in ("response", "pong") and (protocol == 1 or kind != "query" and meta.get("messageId") == own)
    if answers or acks:
        print(reply.get("data", "") if answers else meta.get("id", reply["type"]))
        break

#!/usr/bin/env python3
"""Sends one message and prints what came of it: the id it is stored under, the answer to a query, or "pong".

    client.py text|notification|query|ping TEXT [SOCKET]

Without SOCKET, to the endpoint that CLAUDE_CODE_MESSAGING_SOCKET names. Exits with 1 and one line on failure. Speaks
protocol 2, and protocol 1 to a server that has no other, which acknowledges a query and does not answer it. Needs
Python 3.8 on Linux or macOS, its standard library only. The numbers in comments are sections of PROTOCOL.md.
"""
import hashlib, hmac, json, os, pathlib, secrets, signal, socket, stat, sys


def check(holds, problem):
    if not holds:
        raise SystemExit(f"client.py: {problem}")


def check_closed(directories):  # 5: nobody else can put anything there, or lead elsewhere by a link
    for directory in directories:
        found = os.lstat(directory)
        closed = not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX
        trusted = stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.getuid()) and closed
        check(trusted, f"{directory} is a link, another user's, or others can write to it")


def read_capability(path):  # 6
    home = pathlib.Path(os.environ.get("CLAUDE_CONFIG_DIR") or os.path.expanduser("~/.claude")).resolve()
    name = home / "messaging-capabilities" / (hashlib.sha256(path.encode()).hexdigest() + ".json")
    check_closed(name.parents)
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        private = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        check(private and found.st_size <= 4096, "the capability file is not a private file of this user")
        capability = json.loads(file.read())
    check(capability["socketPath"] == path, "the capability file is that of another socket")
    return capability["authToken"], capability.get("protocol", 1)


def check_socket(path):  # 5
    found = os.lstat(path)
    check(stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid(), f"{path} is not a socket of this user")
    check_closed(pathlib.Path(path).parents)


def request(kind, text, path):
    token, protocol = read_capability(path)
    if protocol == 1:
        check_socket(path)  # in protocol 2 the server proves itself
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    lines = connection.makefile("rb")

    def send(frame):
        connection.sendall(json.dumps(frame).encode() + b"\n")

    def receive():  # 1
        line = b" "
        while not line.strip():
            line = lines.readline(65537)
            check(line.endswith(b"\n"), "the connection ended without an answer")
        frame = json.loads(line)
        check(frame["type"] != "error", frame.get("data"))
        return frame, frame.get("meta", {})

    if protocol == 1:  # 3 and 4
        send({"type": kind, "data": text, "meta": {"authToken": token}})
        while True:
            reply, meta = receive()
            if reply["type"] in ("response", "pong"):
                return meta.get("id", reply["type"])

    nonce, own = secrets.token_hex(32), secrets.token_hex(16)  # 9.1
    send({"type": "hello", "protocol": 2, "nonce": nonce})
    challenge, _ = receive()

    def proof(role):
        proven = "\n".join([role, path, "", nonce, challenge["nonce"]])
        return hmac.new(token.encode(), proven.encode(), "sha256").hexdigest()

    check(hmac.compare_digest(proof("server"), challenge["proof"]), "the server does not know its token")
    send({"type": "auth", "proof": proof("client")})
    send({"type": kind, "data": text, "meta": {"messageId": own}})  # 9.2
    while True:
        reply, meta = receive()
        if meta.get("inReplyTo") == own:
            return reply.get("data", "")
        if meta.get("messageId") == own and kind != "query":
            return meta.get("id", reply["type"])


try:
    check(len(sys.argv) in (3, 4), "usage: client.py text|notification|query|ping TEXT [SOCKET]")
    signal.signal(signal.SIGALRM, lambda *_: check(False, "no answer within 5 seconds"))
    signal.alarm(5)  # 5: one deadline for all of it
    path = (sys.argv[3:] or [os.environ.get("CLAUDE_CODE_MESSAGING_SOCKET", "")])[0]
    check(path.startswith("/"), "SOCKET, or else CLAUDE_CODE_MESSAGING_SOCKET, must be an absolute path")
    print(request(sys.argv[1], sys.argv[2], path))
except (OSError, ValueError, KeyError) as problem:
    check(False, problem)

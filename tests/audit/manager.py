"""Plays the service manager for one daemon: keeps the descriptors that it is given, and hands them
to the next. Told what to do by lines; says each that is ready."""

import fcntl
import os
import select
import signal
import socket
import sys

FIRST, HIGH = 3, 100
program, address = sys.argv[1:3]
inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
inbox.bind(address)
store = []


def start():
    pid = os.fork()
    if pid:
        return pid
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH) for _, fd in store]
    for number, fd in enumerate(high):
        os.dup2(fd, FIRST + number)
    names = ":".join(name for name, _ in store)
    handed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(store)), "LISTEN_FDNAMES": names}
    os.execve(program, [program, "run", "--no-deliver"], {**os.environ, **handed, "NOTIFY_SOCKET": address})


def hear(pid):
    global store
    text, fds, _, _ = socket.recv_fds(inbox, 4096, 16)
    said = dict(line.split("=", 1) for line in text.decode().splitlines())
    name = said.get("FDNAME")
    if "FDSTORE" in said:
        assert said["FDPOLL"] == "0", said
        store += [(name, fd) for fd in fds]
    if "FDSTOREREMOVE" in said:
        for fd in [fd for known, fd in store if known == name]:
            os.close(fd)
        store = [(known, fd) for known, fd in store if known != name]
    if "READY" in said:
        print("ready", pid, " ".join(sorted(known for known, _ in store)), flush=True)


def end(pid, how):
    os.kill(pid, how)
    os.waitpid(pid, 0)


pid = None
while True:
    ready, _, _ = select.select([inbox, sys.stdin], [], [])
    if inbox in ready:
        hear(pid)
        continue
    order = sys.stdin.readline().strip()
    if order == "start":
        pid = start()
    elif order == "kill":
        end(pid, signal.SIGKILL)
        print("killed", flush=True)
    else:
        end(pid, signal.SIGTERM)
        break

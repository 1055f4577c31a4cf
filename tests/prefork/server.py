# SPDX-License-Identifier: Apache-2.0
"""Imports all of chipcash, then forks for each program: `python server.py SOCKET`, until its input ends."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import marshal
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import chipcash

_NAMESPACES = ("user", "mnt", "net")
_EARLY = ("PYTHON", "LD_")
"""Variables that are read when Python starts: a command that is forked could not heed them."""
_C = ("C", "POSIX", "C.UTF-8", "C.utf8")
"""Locales that are one to Python."""


class Request(NamedTuple):
    """What to run a command with. sender: its caller's process id."""

    module: str
    words: list[str]
    env: dict[str, str]
    cwd: str
    umask: int
    ignored: list[int]
    streams: list[int]
    sender: int


class Running(NamedTuple):
    """A command. process: a pidfd; link: to its caller."""

    pid: int
    process: int
    link: socket.socket


def load() -> None:
    """Import the whole toolkit, and what that imports when it is at work."""
    for module in pkgutil.walk_packages(chipcash.__path__, "chipcash."):
        if module.name != "chipcash.__main__" and ".migrations." not in module.name:
            importlib.import_module(module.name)
    for name in ("encodings.idna", "httpcore", "sqlcipher3", "uvicorn.lifespan.off"):
        importlib.import_module(name)
    importlib.import_module("chipcash.center.migrations").sqlite_schema()
    gc.freeze()  # else a collection in a child copies all their pages


def serve(path: str) -> Request:
    """Fork for each request; returns it, in the child that is to run it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(100)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    os.write(1, b"ready\n")
    while True:
        for key, _ in selector.select():
            if key.fd not in selector.get_map():
                continue  # its command ended just now
            if key.fd == 0:
                _end(selector)
            elif key.fileobj is listener:
                link, _ = listener.accept()
                request = _received(link)
                if request is None:
                    link.close()
                    continue
                if not _can_fork(request.env):
                    _tell(link, None)
                elif pid := os.fork():
                    running = Running(pid, os.pidfd_open(pid), link)
                    selector.register(link, selectors.EVENT_READ, running)
                    selector.register(running.process, selectors.EVENT_READ, running)
                else:
                    link.close()
                    for other in selector.get_map().values():
                        os.close(other.fd)
                    selector.close()
                    return request
                for stream in request.streams:
                    os.close(stream)
            elif key.fd == key.data.process:
                _answer(selector, key.data)
            else:
                said = key.data.link.recv(1)
                signal.pidfd_send_signal(key.data.process, said[0] if said else signal.SIGKILL)
                if not said:
                    selector.unregister(key.fd)


def _received(link: socket.socket) -> Request | None:
    """What is asked; None of who was killed before he asked."""
    message, streams, _, _ = socket.recv_fds(link, 1 << 20, 3)
    if not message:
        return None
    peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
    return Request(*marshal.loads(message), streams, int.from_bytes(peer, sys.byteorder))


def _can_fork(env: dict[str, str]) -> bool:
    """Whether a Python that starts in this environment would be as this one is."""

    def early(env: dict[str, str]) -> object:
        locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C"
        return ("C" if locale in _C else locale), {
            name: value for name, value in env.items() if name.startswith(_EARLY)
        }

    return early(env) == early(dict(os.environ))


def _answer(selector: selectors.BaseSelector, ended: Running) -> None:
    """Tell how a command ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(ended.pid, 0)[1])
    selector.unregister(ended.process)
    os.close(ended.process)
    if ended.link in selector.get_map():
        selector.unregister(ended.link)
    _tell(ended.link, code)


def _tell(link: socket.socket, code: int | None) -> None:
    try:
        link.send(marshal.dumps(code))
    except BrokenPipeError:
        pass  # who asked was killed
    link.close()


def _end(selector: selectors.BaseSelector) -> None:
    """End, and all commands that still run."""
    for key in selector.get_map().values():
        if key.data is not None and key.fd == key.data.process:
            signal.pidfd_send_signal(key.fd, signal.SIGKILL)
    os._exit(0)


def become(request: Request) -> None:
    """Take over what the command's caller has."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
    os.closerange(3, max(request.streams) + 1)
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in _NAMESPACES:
        theirs = f"/proc/{request.sender}/ns/{kind}"
        if os.readlink(theirs) != os.readlink(f"/proc/self/ns/{kind}"):
            with open(theirs) as namespace:
                if libc.setns(namespace.fileno(), 0):
                    raise OSError(ctypes.get_errno(), theirs)
    os.chdir(request.cwd)
    os.umask(request.umask)
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    sys.argv = [str(Path(sys.executable).with_name("chipcash")), *request.words]
    sys.orig_argv = [sys.executable, "-m", request.module, *request.words]
    sys.path[0] = request.cwd
    # The streams were made for what the server has there.
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        old = getattr(sys, name)
        new = open(  # noqa: SIM115
            number, mode, 1 if number == 2 or os.isatty(number) else -1,
            encoding=old.encoding, errors=old.errors, newline="\n", closefd=False,
        )  # fmt: skip
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


if __name__ == "__main__":
    load()
    request = serve(sys.argv[1])
    become(request)
    code = 0
    try:
        runpy.run_module(request.module, run_name="__main__")
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or 0
    # As Python ends, but without taking apart all that was imported, page by copied page.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

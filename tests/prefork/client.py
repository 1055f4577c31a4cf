# SPDX-License-Identifier: Apache-2.0
"""Runs a program by the server in place of this process: `python -IS client.py SOCKET MODULE ARGUMENT...`."""

from __future__ import annotations

import marshal  # there without an import, unlike json; both sides are the same Python
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def ask(
    link: socket.socket,
    module: str,
    words: Sequence[str],
    env: dict[str, str],
    cwd: str,
    streams: Sequence[int],
) -> None:
    """Have a program run, as `python -m MODULE` would, with these arguments and standard streams."""
    umask = os.umask(0)
    os.umask(umask)
    ignored = [int(n) for n in _PASSED_ON if signal.getsignal(n) is signal.SIG_IGN]
    socket.send_fds(link, [marshal.dumps((module, list(words), env, cwd, umask, ignored))], streams)


def answer(link: socket.socket) -> int | None:
    """How it ended: exit code, or minus the signal; None if the entry point has to run it."""
    code: int | None = marshal.loads(link.recv(100))
    return code


def main(path: str, module: str, *words: str) -> int:
    """Run a program; its exit code."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(path)
    ask(link, module, words, dict(os.environ), os.getcwd(), (0, 1, 2))

    def pass_on(number: int, _: object) -> None:
        # Once, though it comes twice at the same time, as from `timeout`: who is busy has it once as well.
        signal.signal(number, signal.SIG_IGN)
        link.send(bytes([number]))
        time.sleep(0.02)
        signal.signal(number, pass_on)

    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    code = answer(link)
    if code is None:
        os.execv(sys.executable, [sys.executable, "-m", module, *words])
    if code < 0:
        if -code in _PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

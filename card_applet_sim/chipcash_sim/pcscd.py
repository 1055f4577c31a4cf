# SPDX-License-Identifier: Apache-2.0
"""A private, real pcscd with virtual readers, for one command and what it starts.

    python -m chipcash_sim.pcscd --readers 2 -- COMMAND...

pcscd's socket has one fixed path, and vpcd opens ports to everyone. So the command runs in mount
and network namespaces of its own: its own /run/pcscd, its own loopback. Nothing is shared with a
pcscd of the machine or with other sessions, USB readers stay untouched, and all its files are in
a tmpfs that vanishes with it. As root this needs CAP_SYS_ADMIN, otherwise user namespaces.
The command has no network but this loopback.

Inside, current() tells the readers' names and the ports that card processes connect to.
"""

import argparse
import ctypes
import fcntl
import os
import platform
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

PORTS_VARIABLE = "CHIPCASH_VPCD_PORTS"
"""Comma list of the TCP ports on 127.0.0.1, one a reader, where a card process is inserted."""
READERS_VARIABLE = "CHIPCASH_READERS"
"""Comma list of the readers' full names, in the same order."""

_RUN = Path("/run/pcscd")
_PID = _RUN / "pcscd.pid"
_SOCKET = _RUN / "pcscd.comm"
_OURS = _RUN / "chipcash"
_CONF = _OURS / "reader.conf.d"
_SERIAL = _CONF / "serial"
_SERIAL_NAME = "chipcash serial"
_LOG = _OURS / "pcscd.log"
_DRIVERS = tuple(
    Path(prefix, "pcsc/drivers")
    for prefix in (
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        f"/usr/lib/{platform.machine()}-linux-gnu",
    )
)
_VPCD = Path("serial/libifdvpcd.so")
_CCID = Path("serial/libccidtwin.so")
_FIRST_PORT = 0x9000
_PORT_STEP = 0x10  # vpcd opens the following port too, for a second slot that stays empty
_START_S = 10.0
_STOP_S = 10.0
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 0x80
_USAGE = 2
_UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h


class PcscdError(Exception):
    """The private pcscd cannot run or failed; the text says why and what to do."""


@dataclass(frozen=True)
class Session:
    """The session that this process runs in: readers' names and ports, in the same order."""

    readers: tuple[str, ...]
    ports: tuple[int, ...]

    def start(self) -> None:
        """Start pcscd again after stop(). Cards have to be inserted anew. Raises PcscdError."""
        start_daemon(self.ports)

    def stop(self) -> None:
        """End pcscd, as when its service is stopped; cards are thrown out. Raises PcscdError."""
        stop_daemon()

    def restart(self) -> None:
        """Both."""
        self.stop()
        self.start()

    def add_serial(self, device: str) -> str:
        """Restart pcscd with a serial CCID reader (GemPC Twin) as well, in place of one added before; its
        full name.

        device: the terminal (chipcash_sim.hardware.pty), with a card that already answers: libccid asks
        once, at the start. Raises PcscdError."""
        library = _OURS / _CCID.name
        if not library.exists():
            raise PcscdError(
                "libccid's serial driver is not installed. Run: sudo apt-get install libccid"
            )
        _SERIAL.write_text(
            f'FRIENDLYNAME "{_SERIAL_NAME}"\nDEVICENAME {device}:GemPCTwin\n'
            f"LIBPATH {library}\nCHANNELID 1\n"
        )
        self.restart()
        return f"{_SERIAL_NAME} 00 00"

    def remove_serial(self) -> None:
        """Restart pcscd without the serial reader. Raises PcscdError."""
        _SERIAL.unlink(missing_ok=True)
        self.restart()


def current() -> Session | None:
    """The session around this process, None outside of one."""
    ports = os.environ.get(PORTS_VARIABLE)
    if not ports:
        return None
    names = os.environ[READERS_VARIABLE]
    return Session(tuple(names.split(",")), tuple(int(port) for port in ports.split(",")))


def ensure_private_pcscd(readers: int = 1) -> Session:
    """Return the session, or run this program again from its start inside a new one.

    Call it first thing: outside of a session it does not return. Raises PcscdError if no session is
    possible here, or if the one around has fewer readers.
    """
    session = current()
    if session is None:
        enter(readers, [sys.executable, *sys.orig_argv[1:]])
    if len(session.ports) < readers:
        raise PcscdError(f"{readers} readers wanted, the session has {len(session.ports)}")
    return session


def enter(readers: int, command: Sequence[str]) -> NoReturn:
    """Become the command in a new session (the process id stays). Raises PcscdError."""
    if not 1 <= readers <= 16:
        raise PcscdError("pcscd serves 1 to 16 virtual readers")
    reason = available()
    if reason is not None:
        raise PcscdError(reason)
    unshare = _unshare()
    inner = [sys.executable, "-m", "chipcash_sim.pcscd", "--inside", f"--readers={readers}", "--"]
    os.execv(unshare[0], [*unshare, *inner, *command])


def available() -> str | None:
    """None if a session can run here; otherwise why not and what to do, for people."""
    if sys.platform != "linux":
        return "A private pcscd needs Linux namespaces; this system has none."
    if _program("pcscd") is None:
        return "pcscd is not installed. Run: sudo apt-get install pcscd"
    if _find(_VPCD) is None:
        return "The virtual reader is not installed. Run: sudo apt-get install vsmartcard-vpcd"
    for tool in ("unshare", "mount"):
        if _program(tool) is None:
            return f"{tool} is not installed. Run: sudo apt-get install util-linux mount"
    probe = [*_unshare(), "mount", "-t", "tmpfs", "chipcash", "/run"]
    result = subprocess.run(probe, capture_output=True, text=True, check=False)
    if result.returncode:
        said = " ".join(result.stderr.split()) or f"exit code {result.returncode}"
        return (
            f"This user may not create the namespaces that a private pcscd needs ({said})."
            " Run it as root, give the container CAP_SYS_ADMIN, or allow user namespaces:"
            " sudo sysctl kernel.unprivileged_userns_clone=1"
            " kernel.apparmor_restrict_unprivileged_userns=0"
        )
    return None


def start_daemon(ports: Sequence[int], setup: Callable[[], None] | None = None) -> None:
    """Start pcscd in this session and wait until it serves its readers. Raises PcscdError.

    setup: what the child does before its exec.
    """
    pcscd = _program("pcscd")
    if pcscd is None:
        raise PcscdError("pcscd is not installed")
    command = [pcscd, "--foreground", "--error", "--config", str(_CONF)]
    usage = subprocess.run([pcscd, "--help"], capture_output=True, text=True, check=False)
    if "--disable-polkit" in usage.stdout:
        command.append("--disable-polkit")  # there is no system bus to ask in here
    with _LOG.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is not for it
            preexec_fn=setup,
        )
    deadline = time.monotonic() + _START_S
    while not _serving(ports):
        failed = process.poll() is not None
        if failed or time.monotonic() > deadline:
            process.kill()
            process.wait()
            what = "ended at once" if failed else f"was not ready within {_START_S:g} s"
            raise PcscdError(f"pcscd {what}. It said:\n{_LOG.read_text(errors='replace')}")
        time.sleep(0.01)


def stop_daemon() -> None:
    """End the session's pcscd, whoever started it, and wait for its end. Raises PcscdError."""
    try:
        pid = int(_PID.read_text().rstrip("\n\0"))  # pcscd writes its NUL too
        process = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not _ended(process):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            if not _ended(process):
                raise PcscdError("pcscd does not end")
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # gone already, or another's to reap
    finally:
        os.close(process)
    # What a killed daemon leaves would keep the next one from starting.
    _PID.unlink(missing_ok=True)
    _SOCKET.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line above; returns the command's exit code (128 + n if signal n ended it)."""
    parser = argparse.ArgumentParser(
        prog="python -m chipcash_sim.pcscd",
        description="Run a command beside a private, real pcscd with virtual readers.",
    )
    parser.add_argument("--readers", type=int, default=1, metavar="N", help="1 to 16, default 1")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    try:
        if not options.inside:
            enter(options.readers, options.command)
        return _supervise(options.readers, options.command)
    except PcscdError as error:
        print(error, file=sys.stderr)
        return _UNAVAILABLE


def _supervise(readers: int, command: Sequence[str]) -> int:
    """In the fresh namespaces: set up, run the command, end pcscd."""
    # Blocked from here on, taken one by one below: none is lost between fork and wait.
    watched = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    ports = [_FIRST_PORT + n * _PORT_STEP for n in range(readers)]
    names = [f"chipcash {n + 1}" for n in range(readers)]
    _prepare(names, ports)
    environment = {
        **os.environ,
        PORTS_VARIABLE: ",".join(str(port) for port in ports),
        # pcscd appends the number of the reader among those of its name, and of the slot.
        READERS_VARIABLE: ",".join(f"{name} 00 00" for name in names),
    }
    setup = _child_setup(before)
    try:
        start_daemon(ports, setup)
        try:
            child = subprocess.Popen(command, env=environment, preexec_fn=setup)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            return 127 if isinstance(error, FileNotFoundError) else 126
        while (code := child.poll()) is None:
            got = signal.sigwaitinfo(watched)
            # The terminal signals the whole foreground group: the child has had that one already.
            if got.si_signo != signal.SIGCHLD and got.si_code != _SI_KERNEL:
                child.send_signal(got.si_signo)
        return code if code >= 0 else 128 - code
    finally:
        stop_daemon()


def _child_setup(mask: set[int | signal.Signals]) -> Callable[[], None]:
    """What a child does before its exec: take the caller's signal mask, and never outlive us."""
    libc = ctypes.CDLL(None)

    def setup() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return setup


def _prepare(names: Sequence[str], ports: Sequence[int]) -> None:
    """Loopback, directories, and a reader.conf entry with a driver file of its own per reader."""
    driver = _find(_VPCD)
    if driver is None:
        raise PcscdError("the virtual reader driver is not installed")
    _loopback_up()
    if not _RUN.is_dir() and os.access(_RUN.parent, os.W_OK):
        try:
            _RUN.mkdir()
        except PermissionError:
            pass  # root of a user namespace only
    _mount_tmpfs(_RUN if _RUN.is_dir() else _RUN.parent)
    _CONF.mkdir(parents=True)
    entries = []
    for n, (name, port) in enumerate(zip(names, ports, strict=True)):
        # vpcd keeps its state per loaded file: readers that share one would share a card.
        library = _OURS / f"vpcd{n}.so"
        shutil.copyfile(driver, library)
        entries.append(
            f'FRIENDLYNAME "{name}"\nDEVICENAME /dev/null:{port:#x}\n'
            f"LIBPATH {library}\nCHANNELID {port:#x}\n"
        )
    (_CONF / "readers").write_text("\n".join(entries))
    serial = _find(_CCID)
    if serial is not None:
        shutil.copyfile(serial, _OURS / _CCID.name)
    for directory in _DRIVERS:
        if directory.is_dir():
            # No USB driver: real readers stay with the machine's pcscd.
            _mount_tmpfs(directory)
    # Put back the one driver that is wanted, for what looks for it or nests a session in this one.
    driver.parent.mkdir(exist_ok=True)
    shutil.copyfile(_OURS / "vpcd0.so", driver)


def _mount_tmpfs(directory: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "mode=0755", "chipcash", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PcscdError(f"cannot mount over {directory}: {result.stderr.strip()}")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _serving(ports: Sequence[int]) -> bool:
    """Whether pcscd takes clients and all readers listen (connecting would insert a card)."""
    listening = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == "0A":
            listening.add(int(local.rpartition(":")[2], 16))
    if not listening.issuperset(ports) or not _PID.exists():
        return False
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(_SOCKET)) == 0


def _ended(process: int) -> bool:
    """Wait for the end of a process given by its pidfd; an unreaped one counts as ended."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(_STOP_S * 1000))


def _unshare() -> list[str]:
    unshare = _program("unshare") or "unshare"
    return [unshare, "-m", "-n"] if os.geteuid() == 0 else [unshare, "-U", "-r", "-m", "-n"]


def _program(name: str) -> str | None:
    """A program's path, also where a user's PATH lacks the system directories."""
    return shutil.which(
        name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin:/usr/local/sbin"
    )


def _find(driver: Path) -> Path | None:
    """A driver below any of pcscd's directories."""
    for directory in _DRIVERS:
        if (directory / driver).is_file():
            return directory / driver
    return None


if __name__ == "__main__":
    sys.exit(main())

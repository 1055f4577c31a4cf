# SPDX-License-Identifier: Apache-2.0
"""Accounts and sessions of staff, in a SQLite file of their own, with the record of what they did.

Passwords are kept as Argon2id (RFC 9106, its second recommended setting), sessions as the SHA-256 of their
random tokens. Whatever is decided here is written together with its entry of the record, or not at all.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from chipcash.clock import DAY, Clock, system_clock
from chipcash.database import Database, statements
from chipcash.people import trail
from chipcash.people.errors import StaffError
from chipcash.people.trail import Trail

__all__ = [
    "ABSOLUTE_S",
    "ANY",
    "IDLE_S",
    "MIN_PASSWORD",
    "MIN_PIN",
    "PUBLIC",
    "Account",
    "Cost",
    "LoginRefused",
    "Rules",
    "Staff",
    "TooManyTries",
    "Visitor",
    "csrf_token",
]

IDLE_S = 15 * 60
"""Seconds without a request after which a session is over."""
ABSOLUTE_S = 10 * 3600
"""Seconds after which a session is over, whatever was done in it."""
MIN_PASSWORD = 15
"""Characters of a password: NIST SP 800-63B-4, where nothing else is asked for."""
MIN_PIN = 6
"""Digits of a PIN, where a role logs in with one."""
PUBLIC, ANY = "public", "any"
"""Rights that everybody has, and that every account has."""
_MAX_PASSWORD = 1000
_TOUCH_S = 30
"""Seconds for which a session that only looks is not written again."""

_FREE_TRIES = {"account": 5, "address": 20}
"""Wrong passwords in a row before one has to wait, which doubles with each further one."""
_LONGEST_WAIT_S = 15 * 60
_FORGET_S = DAY
_AT_ONCE = 2
"""Passwords that are compared at the same time: each takes Cost.memory_kib."""
_ROW = "012345678901234567890123"
_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,31}")

_SCHEMA = (
    """
CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    temporary INTEGER NOT NULL,
    made INTEGER NOT NULL,
    removed INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (
    token BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts,
    began INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_account ON sessions (account);
CREATE TABLE tries (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    failed INTEGER NOT NULL,
    time INTEGER NOT NULL,
    told INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
"""
    + trail.SCHEMA
)


class LoginRefused(StaffError):
    """No such account, or not its password: nobody is told which."""

    def __init__(self) -> None:
        super().__init__("The name or the password is not right.")


class TooManyTries(StaffError):
    """Too many wrong passwords for this account, or from this address. seconds: to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many tries; the next one is possible in {seconds} s.")
        self.seconds = seconds


@dataclass(frozen=True)
class Rules:
    """What the accounts of one place are.

    roles: each role and its rights; command: of the command line that keeps the accounts; pins: the roles
    that log in with a PIN instead of a password; idle_s: seconds without a request after which a session is
    over; absolute_s: seconds after which it is over whatever was done in it.
    """

    roles: Mapping[str, frozenset[str]]
    command: str
    pins: frozenset[str] = frozenset()
    idle_s: int = IDLE_S
    absolute_s: int = ABSOLUTE_S


@dataclass(frozen=True)
class Cost:
    """What a password costs to try, as Argon2id counts it."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 1 << 16


@dataclass(frozen=True)
class Account:
    """An account. temporary: whether somebody else set its password; made: seconds since 1970."""

    name: str
    role: str
    temporary: bool
    made: int


@dataclass(frozen=True)
class Visitor:
    """Whose session a request belongs to. rights: of its role; pin: whether it logs in with one; session: its
    key in the file; csrf: what its forms must carry."""

    name: str
    role: str
    temporary: bool
    rights: frozenset[str]
    pin: bool
    session: bytes = field(repr=False)
    csrf: str = field(repr=False)

    def may(self, right: str) -> bool:
        """Whether the account has a right. One with a temporary password has none."""
        return right in (PUBLIC, ANY) or (not self.temporary and right in self.rights)


class Staff:
    """Accounts, sessions and record in one file. Safe to use from several threads and processes.

    path: the file; rules: roles, and how long sessions last; create: whether to begin the file if it is not
    there; clock: seconds since 1970; cost: of new passwords. Methods raise StaffError where they refuse and
    DatabaseError where the file cannot be used; then nothing was changed, and nothing may be shown.
    """

    def __init__(
        self,
        path: Path,
        rules: Rules,
        *,
        create: bool = False,
        clock: Clock = system_clock,
        cost: Cost | None = None,
    ) -> None:
        if not path.is_file():
            if not create:
                raise StaffError(
                    f"There are no accounts for the staff yet: {path} is not there.",
                    hint=f"Make the first: {rules.command} add NAME --role {next(iter(rules.roles))}",
                )
            path.touch(mode=0o600)
        self.db = Database(path, statements(_SCHEMA), version=1, what="The staff's book")
        self.trail = Trail(self.db)
        self.rules = rules
        self._clock = clock
        self._cost = cost or Cost()
        self._comparing = threading.Semaphore(_AT_ONCE)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    # ---- accounts: for who runs the machine -------------------------------------------------------------

    def add(self, name: str, role: str, password: str, by: str) -> None:
        """Make an account with a temporary password (a PIN, if the role has one). by: who does it, for the
        record."""
        self._need_role(role)
        if not _NAME.fullmatch(name):
            raise StaffError(
                f"{name!r} cannot be the name of an account.",
                hint="Take at most 32 small letters, digits, dots, dashes and underscores.",
            )
        kept = self._new_password(name, role, password)
        with self.db.transaction():
            if self.db.one("SELECT 1 FROM accounts WHERE name = ?", name) is not None:
                raise StaffError(
                    f"There is, or was, an account {name}; no account was made.",
                    hint="The name of a removed account stays its own, so that the record tells who was who.",
                )
            now = self._clock()
            self.db.execute(
                "INSERT INTO accounts (name, role, password, temporary, made) VALUES (?,?,?,1,?)",
                name, role, kept, now,
            )  # fmt: skip
            self.trail.append(now, by, "account added", subject=name, note=role)

    def remove(self, name: str, by: str) -> None:
        """Remove an account, and end its sessions at once."""
        with self.db.transaction():
            self._need(name)
            now = self._clock()
            self.db.execute(
                "UPDATE accounts SET removed = ?, password = '' WHERE name = ?", now, name
            )
            self._end_sessions(name)
            self.trail.append(now, by, "account removed", subject=name)

    def account(self, name: str) -> Account:
        """An account. Raises StaffError if there is none of this name."""
        return self._need(name)

    def needs_password(self, name: str, role: str) -> bool:
        """Whether an account takes a new password, or a PIN, with another role: it has not the kind that goes
        with it."""
        return self._is_pin(self._need(name).role) != self._is_pin(role)

    def set_role(self, name: str, role: str, by: str, password: str | None = None) -> None:
        """Give an account another role, and end its sessions at once. password: a temporary one, or PIN,
        where needs_password() says so."""
        self._need_role(role)
        kept = None if password is None else self._new_password(name, role, password)
        with self.db.transaction():
            before = self._need(name)
            if self.needs_password(name, role) and kept is None:
                raise StaffError(
                    f"A {role} logs in with a {'PIN' if self._is_pin(role) else 'password'}, and {name} has"
                    " none; the role was not changed.",
                    hint="Give a first one with the role.",
                )
            self.db.execute("UPDATE accounts SET role = ? WHERE name = ?", role, name)
            if kept is not None:
                self.db.execute(
                    "UPDATE accounts SET password = ?, temporary = 1 WHERE name = ?", kept, name
                )
            self._end_sessions(name)
            note = f"{before.role} to {role}"
            self.trail.append(self._clock(), by, "account's role", subject=name, note=note)

    def set_password(self, name: str, password: str, by: str) -> None:
        """Give an account a temporary password, and end its sessions at once."""
        role = self._need(name).role
        kept = self._new_password(name, role, password)
        with self.db.transaction():
            if self._need(name).role != role:
                raise StaffError(
                    f"The role of {name} was changed meanwhile; the password was not.",
                    hint="Do it again.",
                )
            self.db.execute(
                "UPDATE accounts SET password = ?, temporary = 1 WHERE name = ?", kept, name
            )
            self._end_sessions(name)
            self.db.execute(
                "DELETE FROM tries WHERE kind = 'account' AND name = ?", _keys(name, "")["account"]
            )
            self.trail.append(self._clock(), by, "account's password", subject=name)

    def all(self) -> list[Account]:
        """The accounts, by name."""
        return [
            Account(name, role, bool(temporary), made)
            for name, role, temporary, made in self.db.all(
                "SELECT name, role, temporary, made FROM accounts WHERE removed IS NULL ORDER BY name"
            )
        ]

    # ---- sessions ---------------------------------------------------------------------------------------

    def login(self, name: str, password: str, address: str) -> str:
        """A new session's token for the right password. Raises LoginRefused, TooManyTries.

        A try counts before it is looked at, so that many at once win nothing.
        """
        keys = _keys(name, address)
        nobody = self._nobody
        row = self.db.one(
            "SELECT name, role, password FROM accounts WHERE name = ? AND removed IS NULL",
            name[:100],
        )
        # What was typed for a name may be a password: only names of accounts are written down.
        who, role, kept = row or ("", "", nobody)
        self._begin_try(keys, "login", who, role, address)
        good = self._matches(password, kept) and row is not None
        token = secrets.token_urlsafe(32)
        with self.db.transaction():
            now = self._clock()
            same = self.db.one(
                "SELECT 1 FROM accounts WHERE name = ? AND password = ? AND role = ?"
                " AND removed IS NULL",
                who, kept, role,
            )  # fmt: skip
            good = good and same is not None
            outcome = "ok" if good else "refused"
            self.trail.append(now, who, "login", role=role, address=address, outcome=outcome)
            if good:
                self._take_back_try(keys)
                self._forget_old(now)
                self.db.execute(
                    "INSERT INTO sessions (token, account, began, used) VALUES (?,?,?,?)",
                    _digest(token), who, now, now,
                )  # fmt: skip
        if not good:
            raise LoginRefused
        return token

    def visitor(self, token: str, address: str) -> Visitor | None:
        """Whose session this is, if it is one and not over; the end of one that is, is recorded."""
        digest = _digest(token)
        row = self.db.one(
            "SELECT accounts.name, role, temporary, began, used FROM sessions"
            " JOIN accounts ON accounts.name = sessions.account WHERE token = ?",
            digest,
        )
        if row is None:
            return None
        name, role, temporary, began, used = row
        now = self._clock()
        # Both ways: a clock that was ahead and is set right must not keep a session for as long.
        if abs(now - used) > self.rules.idle_s or abs(now - began) > self.rules.absolute_s:
            with self.db.transaction():
                if self.db.execute("DELETE FROM sessions WHERE token = ?", digest).rowcount:
                    self.trail.append(now, name, "session expired", role=role, address=address)
            return None
        rights = self.rules.roles.get(role, frozenset())
        return Visitor(
            name, role, bool(temporary), rights, self._is_pin(role), digest, csrf_token(token)
        )

    def touch(self, visitor: Visitor) -> None:
        """Keep a session from getting idle where nothing is written down: its visitor only looked.

        Raises StaffError if the session ended meanwhile.
        """
        row = self.db.one("SELECT used FROM sessions WHERE token = ?", visitor.session)
        if row is None:
            raise _over()
        now = self._clock()
        if abs(now - row[0]) >= _TOUCH_S:
            with self.db.transaction():
                self.db.execute(
                    "UPDATE sessions SET used = ? WHERE token = ?", now, visitor.session
                )

    def record(
        self,
        visitor: Visitor,
        action: str,
        address: str,
        *,
        subject: str = "",
        outcome: str = "ok",
        note: str = "",
    ) -> None:
        """Write down what a visitor did; only when it returns may anything be shown or done.

        Raises StaffError if the session ended meanwhile: somebody removed the account, or took its role.
        """
        with self.db.transaction():
            now = self._clock()
            alive = self.db.execute(
                "UPDATE sessions SET used = ? WHERE token = ?", now, visitor.session
            ).rowcount
            self.trail.append(
                now,
                visitor.name,
                action,
                role=visitor.role,
                address=address,
                subject=subject,
                outcome=outcome if alive else "refused",
                note=note,
            )
        if not alive:
            raise _over()

    def logout(self, visitor: Visitor, address: str) -> None:
        """End a session."""
        with self.db.transaction():
            self.db.execute("DELETE FROM sessions WHERE token = ?", visitor.session)
            self.trail.append(
                self._clock(), visitor.name, "logout", role=visitor.role, address=address
            )

    def change_password(self, visitor: Visitor, old: str, new: str, address: str) -> None:
        """A visitor's own new password; ends the account's other sessions. Raises LoginRefused,
        TooManyTries, StaffError."""
        if hmac.compare_digest(_normal(old), _normal(new)):
            raise StaffError("The new password is the old one.")
        kept = self._new_password(visitor.name, visitor.role, new)
        keys = _keys(visitor.name, address)
        (password,) = self.db.row("SELECT password FROM accounts WHERE name = ?", visitor.name)
        self._begin_try(keys, "password", visitor.name, visitor.role, address)
        if not self._matches(old, password):
            self.record(visitor, "password", address, outcome="refused")
            raise LoginRefused
        with self.db.transaction():
            self._take_back_try(keys)
            changed = self.db.execute(
                "UPDATE accounts SET password = ?, temporary = 0 WHERE name = ? AND password = ?"
                " AND role = ? AND EXISTS (SELECT 1 FROM sessions WHERE token = ?)",
                kept, visitor.name, password, visitor.role, visitor.session,
            ).rowcount  # fmt: skip
            if not changed:  # somebody gave it another one, or removed the account, meanwhile
                raise _over()
            self.db.execute(
                "DELETE FROM sessions WHERE account = ? AND token <> ?",
                visitor.name, visitor.session,
            )  # fmt: skip
            self.trail.append(
                self._clock(), visitor.name, "password", role=visitor.role, address=address
            )

    # ---- tries ------------------------------------------------------------------------------------------

    def _begin_try(
        self, keys: dict[str, str], action: str, who: str, role: str, address: str
    ) -> None:
        """Count one more try. Raises TooManyTries if it comes too early; a pause is recorded once."""
        with self.db.transaction():
            now = self._clock()
            # Of a clock that was ahead: nobody waits until it is that late.
            self.db.execute("UPDATE tries SET time = ? WHERE time > ?", now, now)
            wait = max(self._wait(kind, name, now) for kind, name in keys.items())
            if wait:
                untold = 0
                for key in keys.items():
                    untold += self.db.execute(
                        "UPDATE tries SET told = 1 WHERE told = 0 AND kind = ? AND name = ?", *key
                    ).rowcount
                if untold:
                    self.trail.append(
                        now, who, action, role=role, address=address, outcome="throttled"
                    )
            else:
                for key in keys.items():
                    self.db.execute(
                        "INSERT INTO tries (kind, name, failed, time, told) VALUES (?,?,1,?,0)"
                        " ON CONFLICT (kind, name) DO UPDATE SET"
                        " failed = CASE WHEN time > ? THEN failed + 1 ELSE 1 END, time = ?, told = 0",
                        *key, now, now - _FORGET_S, now,
                    )  # fmt: skip
        if wait:
            raise TooManyTries(wait)

    def _wait(self, kind: str, name: str, now: int) -> int:
        """Seconds until the next try."""
        row = self.db.one(
            "SELECT failed, time FROM tries WHERE kind = ? AND name = ? AND time > ?",
            kind, name, now - _FORGET_S,
        )  # fmt: skip
        if row is None or row[0] < _FREE_TRIES[kind]:
            return 0
        pause = min(1 << min(row[0] - _FREE_TRIES[kind], 20), _LONGEST_WAIT_S)
        return max(0, int(row[1] + pause - now))

    def _take_back_try(self, keys: dict[str, str]) -> None:
        """It was no failure: the account begins anew, and the address has one less."""
        self.db.execute("DELETE FROM tries WHERE kind = 'account' AND name = ?", keys["account"])
        self.db.execute(
            "UPDATE tries SET failed = failed - 1 WHERE kind = 'address' AND name = ?",
            keys["address"],
        )

    # ---- passwords --------------------------------------------------------------------------------------

    def _new_password(self, name: str, role: str, password: str) -> str:
        """What is kept of a new password, or PIN. Raises StaffError if it is too easy."""
        normal = unicodedata.normalize("NFKC", password)
        if self._is_pin(role):
            if not (normal.isascii() and normal.isdigit() and MIN_PIN <= len(normal) <= 12):
                raise StaffError(f"A PIN has {MIN_PIN} to 12 digits.")
            if len(set(normal)) < 3 or normal in _ROW or normal in _ROW[::-1]:
                raise StaffError("This PIN is too easy to guess.", hint="Take no row of digits.")
            return self._hash(password)
        if not MIN_PASSWORD <= len(normal) <= _MAX_PASSWORD:
            raise StaffError(
                f"A password has at least {MIN_PASSWORD} characters.",
                hint="Several words are easier to remember than signs.",
            )
        if len(set(normal)) < 6 or name in normal.lower():
            raise StaffError(
                "This password is too easy to guess.",
                hint="It repeats a few characters, or holds the account's name.",
            )
        return self._hash(password)

    def _hash(self, password: str) -> str:
        cost = self._cost
        try:
            return Argon2id(
                salt=secrets.token_bytes(16),
                length=32,
                iterations=cost.iterations,
                lanes=cost.lanes,
                memory_cost=cost.memory_kib,
            ).derive_phc_encoded(_normal(password))
        except UnsupportedAlgorithm:
            raise StaffError(
                "The package cryptography is built with an OpenSSL older than 3.2, which has no Argon2id.",
                hint="Take the one from PyPI: pip install --force-reinstall cryptography",
            ) from None

    def _matches(self, password: str, kept: str) -> bool:
        with self._comparing:
            try:
                Argon2id.verify_phc_encoded(_normal(password[:_MAX_PASSWORD]), kept)
            except InvalidKey:
                return False
            return True

    @cached_property
    def _nobody(self) -> str:
        """What a password is compared with where there is no account, so that it takes as long."""
        return self._hash(secrets.token_hex())

    # ---- reading ----------------------------------------------------------------------------------------

    def _need(self, name: str) -> Account:
        row = self.db.one(
            "SELECT name, role, temporary, made FROM accounts WHERE name = ? AND removed IS NULL",
            name,
        )
        if row is None:
            raise StaffError(f"There is no account {name}.", hint=f"See: {self.rules.command} list")
        return Account(row[0], row[1], bool(row[2]), row[3])

    def _need_role(self, role: str) -> None:
        if role not in self.rules.roles:
            raise StaffError(
                f"There is no role {role}.", hint=f"There are: {', '.join(self.rules.roles)}."
            )

    def _is_pin(self, role: str) -> bool:
        return role in self.rules.pins

    def _end_sessions(self, name: str) -> None:
        self.db.execute("DELETE FROM sessions WHERE account = ?", name)

    def _forget_old(self, now: int) -> None:
        self.db.execute("DELETE FROM tries WHERE time <= ?", now - _FORGET_S)


def csrf_token(secret: str) -> str:
    """What a form must carry that was made for the browser with this cookie."""
    return hmac.new(secret.encode("utf-8", "replace"), b"csrf", hashlib.sha256).hexdigest()


def _normal(password: str) -> bytes:
    """The bytes of a password, however its keyboard composes characters (NIST SP 800-63B-4)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _keys(name: str, address: str) -> dict[str, str]:
    """Under what a try counts. Of the name only so much that nobody can tell it: it may be a password."""
    try:
        found = ipaddress.ip_address(address)
        prefix = 64 if found.version == 6 else 32
        address = str(ipaddress.ip_network((found, prefix), strict=False))
    except ValueError:
        pass  # no IP address: the name of a socket
    return {"account": _digest(name)[:4].hex(), "address": address[:100]}


def _over() -> StaffError:
    return StaffError("This session is over.", hint="Log in again.")

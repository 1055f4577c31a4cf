# SPDX-License-Identifier: Apache-2.0
"""The two curves of the suites, P-256 (SEC 2, FIPS 186-5) and SM2's (GB/T 32918.5), in plain integers.

Both have a = -3, cofactor 1, and a prime p = 3 mod 4. Points are Jacobian (X, Y, Z), Z = 0 at infinity, or
affine (x, y). Not constant in time: the big integers of an interpreter cannot be. See hardware/README.md.
"""

from chipcash_card.busy import working
from chipcash_wire.compat import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Union

    Affine = tuple[int, int]
    Jacobian = tuple[int, int, int]
    Table = Union["Comb", "Window"]


class Curve:
    """A curve y^2 = x^3 - 3x + b over the integers modulo p, with a base point of prime order n."""

    def __init__(self, p: int, b: int, n: int, x: int, y: int) -> None:
        self.p = p
        self.b = b
        self.n = n
        self.x = x
        self.y = y
        self._base: "Comb | None" = None

    @property
    def base(self) -> "Comb":
        """The base point's comb, made at first use."""
        if self._base is None:
            self._base = Comb(self, self.x, self.y)
        return self._base

    def decompress(self, data: bytes) -> "Affine | None":
        """The affine point of a compressed encoding (SEC 1, 33 bytes); None if there is none."""
        if len(data) != 33 or data[0] not in (2, 3):
            return None
        p = self.p
        x = int.from_bytes(data[1:], "big")
        if x >= p:
            return None
        square = (x * x * x - 3 * x + self.b) % p
        y = pow(square, (p + 1) // 4, p)
        if y * y % p != square:
            return None
        return x, (y if y & 1 == data[0] & 1 else p - y)

    def multiply(self, k: int) -> "Affine | None":
        """k times the base point, affine; None at infinity. k is below 2^256."""
        point = self._run(((self.base, _bits(k)),))
        return _affine_all([point], self.p)[0] if point[2] else None

    def agree(self, k: int, point: "Affine") -> bytes:
        """The secret that who knows k shares with who knows the logarithm of point (ECDH, SEC 1 section
        3.3.1): the x-coordinate of k times point, 32 bytes. k is in [1, n - 1]."""
        # The cofactor is 1, so that each point of the curve but infinity has order n, and so has the result.
        result = self._run(((Window(self, point[0], point[1]), _bits(k)),))
        return _affine_all([result], self.p)[0][0].to_bytes(32, "big")

    def sum_has_x(self, u: int, v: int, table: "Table", x: int) -> bool:
        """Whether u times the base point plus v times another has a first coordinate of x modulo n.

        table: the other point prepared, as Comb or Window. u and v are below 2^256, x below n.
        """
        X, _, Z = self._run(((self.base, _bits(u)), (table, _bits(v))))
        if not Z:
            return False
        # Compared in Jacobian coordinates: an inversion costs as much as 50 doublings.
        square = Z * Z % self.p
        while x < self.p:
            if (x * square - X) % self.p == 0:
                return True
            x += self.n
        return False

    def _run(self, terms: "tuple[tuple[Table, bytes], ...]") -> "Jacobian":
        """The sum of all multiples; the terms share the doublings."""
        p = self.p
        point = (1, 1, 0)
        for step in range(max([table.steps for table, _ in terms]) - 1, -1, -1):
            working()
            point = _double(point, p)
            for table, bits in terms:
                other = table.at(bits, step)
                if other is not None:
                    point = _add(point, other[0], other[1], p)
        return point


class Comb:
    """A point prepared once for many multiplications (Lim and Lee 1994), in a quarter of the doublings."""

    TEETH = 4
    """2^TEETH - 1 points are kept: more teeth are faster and take more memory."""

    def __init__(self, curve: Curve, x: int, y: int) -> None:
        p = curve.p
        self.steps = (256 + self.TEETH - 1) // self.TEETH
        rows = [(x, y, 1)]
        for _ in range(self.TEETH - 1):
            row = rows[-1]
            working()
            for _ in range(self.steps):
                row = _double(row, p)
            rows.append(row)
        points = [(1, 1, 0)]
        for x, y in _affine_all(rows, p):
            points += [_add(point, x, y, p) for point in points]
        self._points = _affine_all(points[1:], p)

    def at(self, bits: bytes, step: int) -> "Affine | None":
        """What is to be added before the last `step` doublings."""
        if step >= self.steps:
            return None
        index = 0
        for tooth in range(self.TEETH):
            bit = step + tooth * self.steps
            index |= (bits[32 - (bit >> 3)] >> (bit & 7) & 1) << tooth
        return self._points[index - 1] if index else None


class Window:
    """A point prepared for one multiplication, by windows of four bits."""

    steps = 256

    def __init__(self, curve: Curve, x: int, y: int) -> None:
        p = curve.p
        points = [(x, y, 1)]
        for i in range(2, 16):
            half = points[(i >> 1) - 1]
            points.append(_add(points[-1], x, y, p) if i & 1 else _double(half, p))
        self._points = _affine_all(points, p)

    def at(self, bits: bytes, step: int) -> "Affine | None":
        """What is to be added before the last `step` doublings."""
        if step & 3:
            return None
        digit = bits[32 - (step >> 3)] >> (step & 4) & 15
        return self._points[digit - 1] if digit else None


def compress(point: "Affine") -> bytes:
    """The compressed encoding of a point (SEC 1, 33 bytes)."""
    return bytes((2 + (point[1] & 1),)) + point[0].to_bytes(32, "big")


def _bits(k: int) -> bytes:
    """k as bytes, with room for the bits above 256 that an uneven comb looks at."""
    return k.to_bytes(33, "big")


def _double(point: "Jacobian", p: int) -> "Jacobian":
    X, Y, Z = point
    if not Z:
        return point
    delta = Z * Z % p
    gamma = Y * Y % p
    beta = X * gamma % p
    alpha = 3 * ((X - delta) * (X + delta)) % p
    beta4 = 4 * beta
    x = (alpha * alpha - 2 * beta4) % p
    return x, (alpha * (beta4 - x) - 8 * (gamma * gamma)) % p, 2 * Y * Z % p


def _add(point: "Jacobian", x: int, y: int, p: int) -> "Jacobian":
    """Jacobian plus affine."""
    X, Y, Z = point
    if not Z:
        return x, y, 1
    square = Z * Z % p
    h = (x * square - X) % p
    r = (y * (square * Z % p) - Y) % p
    if not h:
        return (1, 1, 0) if r else _double(point, p)
    h2 = h * h % p
    h3 = h * h2 % p
    v = X * h2 % p
    x3 = (r * r - h3 - 2 * v) % p
    return x3, (r * (v - x3) - Y * h3) % p, Z * h % p


def _affine_all(points: "list[Jacobian]", p: int) -> "list[Affine]":
    """Jacobian points, none at infinity, made affine with one inversion (Montgomery's trick)."""
    product = 1
    before = []
    for point in points:
        before.append(product)
        product = product * point[2] % p
    inverse = pow(product, p - 2, p)
    out = []
    for i in range(len(points) - 1, -1, -1):
        X, Y, Z = points[i]
        z = inverse * before[i] % p
        inverse = inverse * Z % p
        square = z * z % p
        out.append((X * square % p, Y * (square * z % p) % p))
    out.reverse()
    return out


P256 = Curve(
    0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
SM2 = Curve(
    0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF,
    0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93,
    0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123,
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)

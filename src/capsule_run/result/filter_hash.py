"""The SHA-256 of a filter, by which a result says which one was in force."""

from __future__ import annotations

from binascii import unhexlify

try:
    from _sha256 import sha256  # type: ignore[import-not-found]  # 3.11's own; hashlib would load OpenSSL, 5 ms
except ImportError:
    from _sha2 import sha256  # type: ignore[import-not-found]  # since 3.12

_hashes: dict[str, str] = {}


def sha256_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of bytes, in hexadecimal."""
    digest: str = sha256(content).hexdigest()
    return digest


def sha256_of(program: str) -> str:
    """Return the SHA-256 of a filter, given in hexadecimal. The last one is kept: most runs have the same filter."""
    if program not in _hashes:
        _hashes.clear()
        _hashes[program] = sha256_of_bytes(unhexlify(program))
    return _hashes[program]

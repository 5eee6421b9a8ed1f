"""Resource store: files that calls have produced, kept for clients to read later.

Memory is bounded: the oldest files are dropped. A name comes from inside the sandbox, so it is used as a key only, never as
a path of the host. Used by `session` and `results`.
"""

from __future__ import annotations

import threading
from binascii import b2a_base64

from capsule_run._base.value import Value
from capsule_run.agents.text import readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEPT_BYTES = 64 << 20
MAX_KEPT_FILES = 1000
_UNESCAPED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
# First bytes of the images that clients display. The file name is not evidence: the program chose it.
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


class StoredFile(Value):
    """One file that a call produced."""

    uri: str
    path: str  # in the workspace, safe to show
    data: bytes
    mime_type: str
    text: str | None  # None if the bytes are not text


def stored_file(execution_id: str, path: str, data: bytes) -> StoredFile:
    """Build the stored form of a file of the run `execution_id`."""
    uri = f"capsule://{execution_id}/{_escaped(path)}"
    path = shown_path(path)
    image = next((kind for magic, kind in _IMAGES if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        image = "image/webp"
    if image is not None:
        return StoredFile(uri=uri, path=path, data=data, mime_type=image, text=None)
    text = _text(data)
    kind = "application/octet-stream" if text is None else "text/plain"
    return StoredFile(uri=uri, path=path, data=data, mime_type=kind, text=text)


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def shown_path(path: str) -> str:
    """Make a path from inside safe to show: JSON readers of many clients fail on text that is not UTF-8."""
    return readable(path.encode("utf-8", "surrogateescape"))


def _escaped(path: str) -> str:
    raw = path.encode("utf-8", "surrogateescape")
    return "".join([chr(byte) if byte in _UNESCAPED else f"%{byte:02X}" for byte in raw])


def base64(data: bytes) -> str:
    """Encode bytes as base64 text."""
    return b2a_base64(data, newline=False).decode("ascii")


def contents(file: StoredFile) -> dict[str, object]:
    """Build MCP's resource contents of a file."""
    fields: dict[str, object] = {"uri": file.uri, "mimeType": file.mime_type}
    if file.text is not None:
        return {**fields, "text": file.text}
    return {**fields, "blob": base64(file.data)}


class ResourceStore:
    """The stored files, newest last. Safe in threads."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._size = 0
        self._lock = threading.Lock()

    def add(self, file: StoredFile) -> bool:
        """Store a file. Return False if it alone exceeds MAX_KEPT_BYTES."""
        if len(file.data) > MAX_KEPT_BYTES:
            return False
        with self._lock:
            self._files[file.uri] = file
            self._size += len(file.data)
            while self._size > MAX_KEPT_BYTES or len(self._files) > MAX_KEPT_FILES:
                oldest = next(iter(self._files))
                self._size -= len(self._files.pop(oldest).data)
        return True

    def get(self, uri: str) -> StoredFile | None:
        """Return the file of this address, or None if it is unknown or was dropped."""
        with self._lock:
            return self._files.get(uri)

    def listed(self) -> Iterator[dict[str, object]]:
        """Yield the entry of every file in `resources/list`, newest first."""
        with self._lock:
            files = list(self._files.values())
        for file in reversed(files):
            yield listing(file)


def listing(file: StoredFile) -> dict[str, object]:
    """Build a file's entry of `resources/list`."""
    return {"uri": file.uri, "name": file.path, "mimeType": file.mime_type, "size": len(file.data)}

"""Files that calls have produced, kept for a while so that a client can read those that no answer carried.

The memory is bounded: the oldest give way. A name is a path from inside the sandbox, so a claim: it is only ever a key
here, never a path of the host. Used by `server.mcp`.
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
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
# The first bytes of what a client can show. A name proves nothing: it was chosen inside.
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


class KeptFile(Value):
    """One produced file: its path in the workspace as it can be shown, its bytes, and the address to ask for it by."""

    uri: str
    path: str
    data: bytes
    mime_type: str
    text: str | None  # None where the bytes are no text


def kept_file(execution_id: str, path: str, data: bytes) -> KeptFile:
    """A file of the run `execution_id`."""
    uri = f"capsule://{execution_id}/{_escaped(path)}"
    path = shown_path(path)
    image = next((kind for magic, kind in _IMAGES if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        image = "image/webp"
    if image is not None:
        return KeptFile(uri=uri, path=path, data=data, mime_type=image, text=None)
    text = _text(data)
    kind = "application/octet-stream" if text is None else "text/plain"
    return KeptFile(uri=uri, path=path, data=data, mime_type=kind, text=text)


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def shown_path(path: str) -> str:
    """A path that was chosen inside as text: one that is no UTF-8 would end many a client's JSON reader."""
    return readable(path.encode("utf-8", "surrogateescape"))


def _escaped(path: str) -> str:
    raw = path.encode("utf-8", "surrogateescape")
    return "".join([chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in raw])


def base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def contents(file: KeptFile) -> dict[str, object]:
    """A file as MCP's resource contents."""
    fields: dict[str, object] = {"uri": file.uri, "mimeType": file.mime_type}
    if file.text is not None:
        return {**fields, "text": file.text}
    return {**fields, "blob": base64(file.data)}


class ResourceStore:
    """The files that are kept, newest last."""

    def __init__(self) -> None:
        self._files: dict[str, KeptFile] = {}
        self._size = 0
        self._lock = threading.Lock()

    def add(self, file: KeptFile) -> bool:
        """Keep a file; False for one that would take all the room by itself."""
        if len(file.data) > MAX_KEPT_BYTES:
            return False
        with self._lock:
            self._files[file.uri] = file
            self._size += len(file.data)
            while self._size > MAX_KEPT_BYTES or len(self._files) > MAX_KEPT_FILES:
                oldest = next(iter(self._files))
                self._size -= len(self._files.pop(oldest).data)
        return True

    def get(self, uri: str) -> KeptFile | None:
        with self._lock:
            return self._files.get(uri)

    def listed(self) -> Iterator[dict[str, object]]:
        """Every file as MCP lists resources, newest first."""
        with self._lock:
            files = list(self._files.values())
        for file in reversed(files):
            yield listing(file)


def listing(file: KeptFile) -> dict[str, object]:
    return {"uri": file.uri, "name": file.path, "mimeType": file.mime_type, "size": len(file.data)}

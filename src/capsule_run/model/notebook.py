"""Show a run in a notebook: HTML of its error, its streams and the images among its files.

Pure. Everything comes from inside the sandbox: it is escaped, and an image is shown from its bytes as an `<img>`, in
which no script runs, also not in an SVG.
"""

from __future__ import annotations

from binascii import b2a_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from mmap import mmap

_IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
_LONGEST_STREAM = 20_000  # characters shown of each stream
_LARGEST_IMAGE = 8 << 20  # bytes


def _escaped(text: str) -> str:
    """Text for HTML: the five special characters, and no control character that a browser could act on."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        text = text.replace(character, entity)
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _stream(name: str, text: str) -> str:
    more = len(text) - _LONGEST_STREAM
    shown = _escaped(text[:_LONGEST_STREAM]) + (f"\n… {more} more characters" if more > 0 else "")
    return f"<div><small>{name}</small><pre>{shown}</pre></div>"


def _image(path: str, data: bytes | mmap) -> str:
    kind = _IMAGE_TYPES.get("." + path.rpartition(".")[2].lower())
    if kind is None or not 0 < len(data) <= _LARGEST_IMAGE:
        return ""
    source = b2a_base64(bytes(data), newline=False).decode("ascii")
    name = _escaped(path)
    return f'<figure><img src="data:{kind};base64,{source}" alt="{name}"/><figcaption>{name}</figcaption></figure>'


def html_of_run(
    *,
    headline: str,
    error: tuple[str, str, str] | None,
    streams: Mapping[str, str],
    files: Mapping[str, bytes | mmap],
) -> str:
    """Return the HTML of a run. `error` is code, message and hint; `streams` are texts by name, `files` bytes by path."""
    parts = [f"<div><b>{_escaped(headline)}</b></div>"]
    if error is not None:
        code, message, hint = map(_escaped, error)
        parts.append(f"<div><b>{code}</b>: {message}" + (f"<br/>hint: {hint}" if hint else "") + "</div>")
    parts += [_stream(name, text) for name, text in streams.items() if text]
    parts += [_image(path, data) for path, data in files.items()]
    return "".join(parts)

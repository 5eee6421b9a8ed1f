"""Turn values into representations by MIME type, and show figures. Runs inside the sandbox, beside `python_driver.py`.

A value says what it has by the methods that notebooks know: `_repr_mimebundle_`, `_repr_html_`, `_repr_png_` and their like.

Standard library only, Python 3.8 or later; imports nothing of capsule-run (`contexts/program.py` sends it as text).
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys
import warnings
from binascii import b2a_base64
from os import getpid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_latex_": "text/latex",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_pdf_": "application/pdf",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}
LARGEST_TEXT = 1 << 20  # characters of text/plain
LARGEST_REPRESENTATION = 8 << 20  # bytes
LARGEST_BUNDLE = 16 << 20


class Display:
    """What `display`, `plt.show` and the last expression of a cell do."""

    def __init__(self, send: Callable[[dict[str, str]], None]) -> None:
        self.send = send
        self.owner = getpid()

    def install(self) -> None:
        """Give the code `display`, and matplotlib a backend that draws into memory."""
        builtins.display = self.display  # type: ignore[attr-defined]
        os.environ.setdefault("MPLBACKEND", "agg")
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive", UserWarning)
        sys.meta_path.insert(
            0, AfterImport({"matplotlib.pyplot": self.own_show, "IPython.core.display_functions": self.own_display})
        )

    def display(self, *values: Any, raw: bool = False, **_options: Any) -> None:
        """Show each value as it would be shown as the last expression of a cell. `raw`: the values are MIME bundles."""
        for value in values:
            if raw and isinstance(value, dict):
                self.show_bundle(value, main=False)
            else:
                self.show(value, main=False)

    def show(self, value: Any, *, main: bool) -> None:
        """Send a value to the host; in a process that the code forked, print it."""
        self.show_bundle(bundle_of(value), main=main)
        if is_figure(value):
            sys.modules["matplotlib.pyplot"].close(value)  # shown: not once more at the end of the cell

    def show_bundle(self, bundle: dict[str, Any], *, main: bool) -> None:
        data, omitted = limited(
            {str(kind): as_text(kind, value) for kind, value in bundle.items() if value is not None}
        )
        if getpid() != self.owner:
            print(data.get("text/plain", ""))
            return
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # what was printed before comes before
        fields = {f"data {kind}": value for kind, value in data.items()}
        fields.update({f"omitted {kind}": str(size) for kind, size in omitted.items()})
        self.send({"main": "1" if main else "0", **fields})

    def show_figures(self) -> None:
        """Show and close the open figures of matplotlib."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and hasattr(pyplot, "get_fignums"):
            for number in pyplot.get_fignums():
                self.show(pyplot.figure(number), main=False)

    def close_figures(self) -> None:
        """Close what a cell left open that did not get as far as showing it."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and hasattr(pyplot, "get_fignums") and pyplot.get_fignums():
            pyplot.close("all")

    def own_show(self, pyplot: Any) -> None:
        pyplot.show = lambda *_arguments, **_options: self.show_figures()

    def own_display(self, functions: Any) -> None:
        functions.display = self.display


class AfterImport:
    """A finder that finds nothing itself: it calls a function after the import of a module."""

    def __init__(self, functions: dict[str, Callable[[Any], None]]) -> None:
        self.functions = functions

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        function = self.functions.pop(name, None)
        if function is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _call_after(spec.loader, name, function)
                return spec
        return None


def _call_after(loader: Any, name: str, function: Callable[[Any], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        if module.__name__ == name:  # the loader of an archive is there for all of its modules
            function(module)

    loader.exec_module = exec_module


def is_figure(value: Any) -> bool:
    """Whether it is a figure of matplotlib, which has no method of its own for this."""
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(value, getattr(figure, "Figure", ()))


def bundle_of(value: Any) -> dict[str, Any]:
    """Return the representations of a value. Only its `repr` may raise: what else fails is said on standard error."""
    bundle: dict[str, Any] = {"text/plain": repr(value)}
    if isinstance(value, type):
        return bundle  # its methods are those of its instances
    if is_figure(value):
        image = io.BytesIO()
        value.savefig(image, format="png", bbox_inches="tight")
        bundle["image/png"] = image.getvalue()
        return bundle
    made = _called(value, "_repr_mimebundle_")
    made = made[0] if isinstance(made, tuple) and made else made
    if isinstance(made, dict):
        bundle.update(made)
    for name, kind in METHODS.items():
        if kind not in bundle:
            made = _called(value, name)
            made = made[0] if isinstance(made, tuple) and made else made
            if made is not None:
                bundle[kind] = made
    return bundle


def _called(value: Any, name: str) -> Any:
    # of its class: an object that has every attribute (a mock, a proxy) has no representation
    if not hasattr(type(value), name):
        return None
    try:
        return getattr(value, name)()
    except Exception as error:
        print(f"{type(value).__name__}.{name} raised {type(error).__name__}: {error}", file=sys.stderr)
        return None


def as_text(kind: str, value: Any) -> str:
    """Return a representation as text: bytes in base64, JSON as its text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b2a_base64(bytes(value), newline=False).decode("ascii")
    if kind == "text/plain" and isinstance(value, str) and len(value) > LARGEST_TEXT:
        value = f"{value[:LARGEST_TEXT]}… {len(value) - LARGEST_TEXT} more characters"
    if not isinstance(value, str):
        try:
            value = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            value = str(value)
    return value


def limited(bundle: dict[str, str]) -> tuple[dict[str, str], dict[str, int]]:
    """Return the representations that are not too large, and the sizes of the others. The smallest are kept."""
    kept: dict[str, str] = {}
    omitted: dict[str, int] = {}
    total = 0
    for kind, value in sorted(bundle.items(), key=lambda one: len(one[1])):
        total += len(value)
        if len(value) > LARGEST_REPRESENTATION or total > LARGEST_BUNDLE:
            omitted[kind] = len(value)
        else:
            kept[kind] = value
    return {kind: kept[kind] for kind in bundle if kind in kept}, omitted

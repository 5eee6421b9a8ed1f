"""Modules that are loaded when they are used (`_base/lazy.py`)."""

from __future__ import annotations

import importlib
import sys
import threading
import types

import pytest


def test_lazy_module_used_by_two_threads_is_complete_for_both(tmp_path, monkeypatch):
    """A thread that uses a module while another one is importing it waits until the import is complete."""
    gate = types.ModuleType("lazy_gate")
    gate.entered, gate.go = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "lazy_gate", gate)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lazy_package").mkdir()
    (tmp_path / "lazy_package" / "__init__.py").write_text(
        "from capsule_run._base.lazy import loaded_when_used\n"
        "__getattr__ = loaded_when_used(__name__, {'slow': 'a test uses it'})\n"
    )
    (tmp_path / "lazy_package" / "slow.py").write_text(
        "import lazy_gate\nlazy_gate.entered.set()\nlazy_gate.go.wait(30)\nvalue = 1\n"
    )
    slow = importlib.import_module("lazy_package").slow
    values = []
    threads = [threading.Thread(target=lambda: values.append(getattr(slow, "value", "absent"))) for _ in range(2)]
    threads[0].start()
    assert gate.entered.wait(30)
    threads[1].start()
    threads[1].join(0.2)  # long enough to see the half of a module, if it can be seen
    gate.go.set()
    for thread in threads:
        thread.join(30)
    for name in ("lazy_package", "lazy_package.slow"):
        monkeypatch.delitem(sys.modules, name)
    assert [1, 1] == values


def test_lazy_module_has_one_stand_in_until_it_is_imported(tmp_path, monkeypatch):
    """Anyone who imports a lazy module gets the same stand-in, and after its import the module itself."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lazy_pair").mkdir()
    (tmp_path / "lazy_pair" / "__init__.py").write_text(
        "from capsule_run._base.lazy import loaded_when_used\n"
        "__getattr__ = loaded_when_used(__name__, {'late': 'a test uses it'})\n"
    )
    (tmp_path / "lazy_pair" / "late.py").write_text("value = 1\n")
    package = importlib.import_module("lazy_pair")
    stand_in = package.late
    assert (stand_in, False) == (package.late, "lazy_pair.late" in sys.modules)
    assert 1 == stand_in.value
    assert sys.modules["lazy_pair.late"] is package.late
    for name in ("lazy_pair", "lazy_pair.late"):
        monkeypatch.delitem(sys.modules, name)


def test_lazy_package_gives_its_public_names_and_refuses_others(tmp_path, monkeypatch):
    """A public name comes from its module, which is imported on first use; a name of neither kind is refused."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lazy_public").mkdir()
    (tmp_path / "lazy_public" / "__init__.py").write_text(
        "from capsule_run._base.lazy import loaded_when_used\n"
        "__getattr__ = loaded_when_used(__name__, {}, public={'value': 'home'})\n"
    )
    (tmp_path / "lazy_public" / "home.py").write_text("value = object()\n")
    package = importlib.import_module("lazy_public")
    assert "lazy_public.home" not in sys.modules
    assert package.value is sys.modules["lazy_public.home"].value
    with pytest.raises(AttributeError, match="module `lazy_public` has no attribute `other`"):
        _ = package.other
    for name in ("lazy_public", "lazy_public.home"):
        monkeypatch.delitem(sys.modules, name)

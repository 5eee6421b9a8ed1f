"""The bundle of compiled modules: used when it is there and right, passed over when it is not, written by its owner."""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import capsule_run
from capsule_run import _bundle

PACKAGE = Path(capsule_run.__file__).parent


@pytest.fixture
def tree(tmp_path):
    """A copy of the package, without anything compiled."""
    copy = tmp_path / "capsule_run"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "_core"))
    return copy


def start(tree, *words, **variables):
    """The command's own way: the file, isolated and without site."""
    command = [sys.executable, "-I", "-S", "-v", str(tree / "__main__.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})


def bundles(tree):
    return [path.name for path in (tree / "__pycache__").iterdir() if path.name.startswith("bundle")]


def searched(done):
    """Modules of ours that the usual import had to find."""
    return {
        line.split()[1].strip("'")
        for line in done.stderr.splitlines()
        if line.startswith("import 'capsule_run") and "Bundle" not in line
    }


def test_bundle_second_start_uses_it(tree):
    """All of them, the package itself too."""
    first = start(tree, "-V")
    assert [f"bundle.{sys.implementation.cache_tag}"] == bundles(tree)
    second = start(tree, "-V")
    assert (first.stdout, 0) == (second.stdout, second.returncode)
    assert "capsule_run.cli.command" in searched(first)
    assert set() == searched(second)


@pytest.fixture
def learned(tree):
    """A tree whose bundle knows what a run needs first."""
    shutil.copy(PACKAGE / "_core", tree)
    for _ in range(2):
        start(tree, "--", "true")
    return tree


def imported_by_importlib(done):
    return {line.split()[1].strip("'") for line in done.stderr.splitlines() if line.startswith("import 'capsule_run")}


def test_bundle_modules_of_a_run_are_imported_without_importlib(learned):
    """All that a run needs; what only a run with an option needs is imported as usual, from the bundle."""
    done = start(learned, "--", "echo", "hi")
    assert (done.stdout, imported_by_importlib(done)) == ("hi\n", set())
    for _ in range(2):
        done = start(learned, "--timeout", "9000", "--", "echo", "hi")
    assert "capsule_run.request.options" in imported_by_importlib(done)
    assert set() == searched(done)


def test_bundle_of_every_module_is_read_whole(learned, monkeypatch):
    """Its index is longer than what is read at first, once many different commands have been run."""
    (path,) = (learned / "__pycache__").glob("bundle*")
    with open(path, "rb", buffering=0) as file:
        index = _bundle.Bundle(file.fileno()).index
        monkeypatch.setattr(_bundle, "_FIRST_READ", 100)
        assert index == _bundle.Bundle(file.fileno()).index


BESIDE_A_THREAD = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from capsule_run import _bundle
go = threading.Event()
thread = threading.Thread(target=go.wait)
bundle = _bundle.use()
thread.start()
before = set(sys.modules)
bundle.import_stage()
print(len(set(sys.modules) - before))
go.set()
thread.join()
bundle.import_stage()
print("capsule_run.plan.payload" in sys.modules)
"""


def test_bundle_stage_beside_another_thread_is_left_to_importlib(learned):
    """A thread that finds a module in `sys.modules` waits for its end only if importlib imports it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BESIDE_A_THREAD, str(learned.parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "0\nTrue\n" == done.stdout


def test_bundle_stages_have_what_each_half_of_a_run_needs(learned):
    """The payload's half of the plan is not imported before the room's half is sent, nor the result before the command runs."""
    room, payload, result = stages_of(learned)
    assert "capsule_run.plan.room" in room
    assert "capsule_run.plan.payload" in payload
    assert "capsule_run.engine.build_result" in result


def test_bundle_changed_first_module_is_seen(learned):
    """The rest is imported as usual, so that the changed module is the one that everybody has."""
    source = learned / "_base" / "errors.py"
    source.write_text(source.read_text() + "\nCHANGED = 1\n")
    (learned / "__init__.py").write_text((learned / "__init__.py").read_text().replace('"0.1.0"', '"changed"'))
    assert start(learned, "-V").stdout == "capsule-run changed\n"
    assert start(learned, "--", "echo", "hi").stdout == "hi\n"


def test_bundle_new_module_is_found(learned):
    """An upgrade in place: the order is the old one's, and what stands in it imports what does not."""
    (learned / "cli" / "added.py").write_text("ADDED = 1\n")
    choices = learned / "request" / "fast_path.py"
    choices.write_text(choices.read_text() + "\nfrom capsule_run.cli.added import ADDED\n")
    for _ in range(3):
        done = start(learned, "--", "echo", "hi")
        assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr[-600:]


def stages_of(tree):
    """The modules that the bundle imports at once, for each stage."""
    data = (tree / "__pycache__" / bundles(tree)[0]).read_bytes()
    return marshal.loads(data[8 : 8 + int.from_bytes(data[4:8], "little")])[1]


def test_bundle_after_upgrade_is_learned_anew(learned):
    """Other sources need other modules: the old order would import what nobody needs any more, at every start."""
    before = stages_of(learned)
    for source in learned.rglob("*.py"):
        os.utime(source, ns=(1, 1))
    changed = learned / "engine" / "attempt.py"
    changed.write_text(changed.read_text() + "\nfrom capsule_run.request import sizes\n")
    for _ in range(2):
        start(learned, "--", "true")
    assert "capsule_run.request.sizes" not in before[0]
    assert "capsule_run.request.sizes" in stages_of(learned)[0]
    assert "capsule_run._bundle_writer" not in imported_by_importlib(start(learned, "--", "true"))


def test_bundle_module_that_an_earlier_stage_imports_is_learned_anew(learned):
    """A changed source may need, before the launcher works, what belonged to a later stage."""
    assert "capsule_run.engine.build_result" in stages_of(learned)[2]
    changed = learned / "engine" / "attempt.py"
    changed.write_text(changed.read_text() + "\nbuild_result.build\n")
    for _ in range(2):
        assert 0 == start(learned, "--", "true").returncode
    assert "capsule_run.engine.build_result" in stages_of(learned)[0]
    assert set() == searched(start(learned, "--", "true"))


def test_bundle_extra_module_keeps_the_order(learned):
    """What a run with an option needed besides is in the bundle from then on, and not imported by others."""
    before = stages_of(learned)
    for _ in range(2):
        assert start(learned, "--timeout", "9000", "--", "echo", "hi").stdout == "hi\n"
    assert before == stages_of(learned)
    assert set() == searched(start(learned, "--timeout", "9000", "--", "echo", "hi"))


def test_bundle_option_modules_are_not_imported_without_options(tree, learned):
    """A first run with options teaches the same order as one without."""
    before = stages_of(learned)
    for name in bundles(learned):
        (learned / "__pycache__" / name).unlink()
    for _ in range(2):
        start(tree, "--timeout", "9000", "--", "echo", "hi")
    assert [*map(sorted, before)] == [*map(sorted, stages_of(tree))]


BROKEN = """
def broken():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise KeyError(3) from error


def plain_request(words):
    broken()
"""


def test_bundle_traceback_has_line_numbers(learned):
    """With `CAPSULE_RUN_TRACEBACK` an unexpected exception is printed as Python prints it, cause included."""
    choices = learned / "request" / "fast_path.py"
    choices.write_text(choices.read_text() + BROKEN)
    division = 1 + choices.read_text().splitlines().index("        1 / 0")
    for _ in range(2):
        done = start(learned, "--", "true", CAPSULE_RUN_TRACEBACK="1")
    printed = [line for line in done.stderr.splitlines() if not line.startswith(("#", "import ", "clean"))]
    assert done.returncode == 125
    assert f'  File "{choices}", line {division}, in broken' in printed
    assert f'  File "{choices}", line {division + 2}, in broken' in printed
    assert printed.index("ZeroDivisionError: division by zero") < printed.index("KeyError: 3")


def test_bundle_changed_source_is_compiled_again(tree):
    """An edit is seen at once, and lands in the bundle."""
    start(tree, "-V")
    source = tree / "cli" / "command.py"
    source.write_text(source.read_text().replace("capsule-run {__version__}", "changed {__version__}"))
    assert start(tree, "-V").stdout.startswith("changed")
    again = start(tree, "-V")
    assert ("changed", set()) == (again.stdout.split()[0], searched(again) & {"capsule_run.cli.command"})


def test_bundle_gains_modules_of_other_uses(tree):
    """What another use needs is kept as well, and what was there stays."""
    start(tree, "-V")
    start(tree, "--help")
    done = start(tree, "--help")
    assert set() == searched(done)
    assert set() == searched(start(tree, "-V"))


@pytest.mark.parametrize("damage", [b"", b"capsule", b"\0" * 100, None])
def test_bundle_malformed_is_ignored(tree, damage):
    """Empty, foreign, cut: the usual import does the work, and the file is made anew."""
    start(tree, "-V")
    path = tree / "__pycache__" / f"bundle.{sys.implementation.cache_tag}"
    path.write_bytes(path.read_bytes()[:60] if damage is None else damage)
    done = start(tree, "-V")
    assert (0, f"capsule-run {capsule_run.__version__}\n") == (done.returncode, done.stdout)
    assert set() == searched(start(tree, "-V"))


def test_bundle_damaged_code_is_ignored_and_mended(tree):
    """What lies behind the index may have rotted: no start fails for it, and the next one has a whole bundle."""
    start(tree, "-V")
    path = tree / "__pycache__" / f"bundle.{sys.implementation.cache_tag}"
    whole = path.read_bytes()
    damaged = whole[: len(whole) // 2] + b"\xff" * (len(whole) - len(whole) // 2)
    path.write_bytes(damaged)
    done = start(tree, "-V")
    assert (0, f"capsule-run {capsule_run.__version__}\n") == (done.returncode, done.stdout)
    assert damaged != path.read_bytes()
    assert set() == searched(start(tree, "-V"))


@pytest.mark.parametrize("part", ["stages", "by itself"])
def test_bundle_complete_but_damaged_is_mended(learned, part):
    """Also of one that nothing would be added to: what is imported at once, and what lies behind it."""
    assert set() == searched(start(learned, "--", "true"))
    path = learned / "__pycache__" / bundles(learned)[0]
    whole = path.read_bytes()
    codes = 8 + int.from_bytes(whole[4:8], "little")
    stages_end = codes + sum(marshal.loads(whole[8:codes])[2])
    begin, end = (codes, stages_end) if part == "stages" else (stages_end, len(whole))
    path.write_bytes(whole[:begin] + b"\xff" * (end - begin) + whole[end:])
    for _ in range(3):
        done = start(learned, "--", "echo", "hi")
        assert (0, "hi\n") == (done.returncode, done.stdout)
    assert set() == searched(done)


def test_bundle_with_closed_stdin_takes_no_standard_descriptor(tree):
    """With standard input closed the bundle would be descriptor 0, and so the command's input."""
    start(tree, "-V")
    command = f"exec '{sys.executable}' -I -S -v '{tree}/__main__.py' -V <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (0, f"capsule-run {capsule_run.__version__}\n") == (done.returncode, done.stdout)
    assert "capsule_run.cli.command" in searched(done)


def test_bundle_in_unwritable_tree_is_absent(tree):
    """A directory in the place of `__pycache__`'s file stands for every reason why writing fails."""
    start(tree, "-V")
    path = tree / "__pycache__" / f"bundle.{sys.implementation.cache_tag}"
    path.unlink()
    path.mkdir()
    done = start(tree, "-V")
    assert (0, f"capsule-run {capsule_run.__version__}\n") == (done.returncode, done.stdout)
    assert [path.name] == bundles(tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="root: only root can make a tree of somebody else's")
def test_bundle_in_anothers_tree_is_not_written(tree):
    """Root that runs a user's environment leaves no file of root's in it."""
    start(tree, "-V")
    (tree / "__pycache__" / f"bundle.{sys.implementation.cache_tag}").unlink()
    os.chown(tree / "__pycache__", 1001, 1001)
    assert (0, []) == (start(tree, "-V").returncode, bundles(tree))

"""What a cell of Python comes to: a table of cells, with what their caller sees."""

from __future__ import annotations

import json
import os

import pytest
from places import started

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RICH = f"""
import base64
class Rich:
    def __repr__(self): return "rich"
    def _repr_html_(self): return "<b>rich</b>"
    def _repr_png_(self): return base64.b64decode("{PNG}")
    def _repr_svg_(self): return "<svg/>"
    def _repr_json_(self): return {{"a": [1, None]}}, {{"metadata": 1}}
    def _repr_markdown_(self): return None
"""

# name: (cells, what the result of the last one has). A value that is a function is called with what the result has.
CELLS = {
    "expression": (["1 + 1"], {"text": "2", "status": "success", "error": None}),
    "names stay": (["kept = 3", "kept * 2"], {"text": "6"}),
    "last expression only": (["1\n2\n'three'"], {"text": "'three'", "stdout": ""}),
    "statement": (["x = 5"], {"text": None, "results": ()}),
    "none": (["None"], {"text": None}),
    "semicolon": (["6 * 7;"], {"text": None}),
    "semicolon and comment": (["6 * 7 ; # no"], {"text": None}),
    "semicolon within": (["'é'; ';'"], {"text": "';'"}),
    "empty": ([""], {"text": None, "status": "success"}),
    "comment": (["# nothing"], {"text": None, "status": "success"}),
    "underscore is the last value": (["40 + 2", "_"], {"text": "42"}),
    "print": (["print('hi')"], {"stdout": "hi\n", "stderr": "", "text": None}),
    "print without a newline": (["print('hi', end='')"], {"stdout": "hi"}),
    "standard error": (["import sys\nprint('no', file=sys.stderr)"], {"stderr": "no\n", "stdout": ""}),
    "descriptor": (["import os\nn = os.write(1, b'raw\\n')"], {"stdout": "raw\n"}),
    "child process": (["import os\nn = os.system('echo child; echo bad >&2')"], {"stdout": "child\n", "stderr": "bad\n"}),
    "subprocess": (["import subprocess\nn = subprocess.run(['echo', 'sub'])"], {"stdout": "sub\n"}),
    "not utf-8": (["n = os.write(1, b'a\\xffb')"], {"stdout": "a\N{REPLACEMENT CHARACTER}b"}),
    "surrogate is printed": (["print('\\ud800')"], {"stdout": "\\ud800\n"}),
    "surrogate is a value": (["'\\udcff'"], {"text": "'\\udcff'"}),
    "surrogate in an exception": (["raise ValueError('\\ud800')"], {"message": "\\ud800"}),
    "unicode": (["print('żółć 🎉')\n'🎉'"], {"stdout": "żółć 🎉\n", "text": "'🎉'"}),
    "exception": (
        ["def f():\n    return 1 / 0\n", "f()"],
        {"name": "ZeroDivisionError", "message": "division by zero", "line": 1, "status": "error"},
    ),
    "traceback has lines of the code": (
        ["def f():\n    return 1 / 0  # here", "f()"],
        {"traceback": lambda text: "return 1 / 0  # here" in text and "f()" in text and "capsule-run" not in text},
    ),
    "traceback begins with the cell": (
        ["raise KeyError('k')"],
        {"traceback": lambda text: text.splitlines()[1].startswith('  File "<cell ')},
    ),
    "chained exception": (
        ["try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise RuntimeError('after') from e"],
        {"name": "RuntimeError", "line": 4, "traceback": lambda text: "ZeroDivisionError" in text and "direct cause" in text},
    ),
    "syntax error": (["x = 1\ny = = 2"], {"name": "SyntaxError", "line": 2, "column": 5, "traceback": lambda t: "y = = 2" in t}),
    "syntax error later": (["return 5"], {"name": "SyntaxError", "line": 1}),
    "indentation": (["if True:\nx = 1"], {"name": "IndentationError", "line": 2}),
    "magic": (["%matplotlib inline"], {"name": "SyntaxError", "hint": lambda text: "IPython" in text}),
    "shell line": (["!ls"], {"name": "SyntaxError", "hint": lambda text: "IPython" in text}),
    "null byte": (["x = '\0'"], {"status": "error"}),
    "nothing runs after a syntax error": (["print('first')\nx = ("], {"stdout": "", "name": "SyntaxError"}),
    "output before an exception": (["print('first')\n1 / 0"], {"stdout": "first\n", "name": "ZeroDivisionError"}),
    "await": (["import asyncio\nawait asyncio.sleep(0, 'woke')"], {"text": "'woke'"}),
    "await in a statement": (["got = await asyncio.sleep(0, 5)", "got"], {"text": "5"}),
    "async for": (
        ["async def numbers():\n    yield 1\n    yield 2", "[n async for n in numbers()]"],
        {"text": "[1, 2]"},
    ),
    "exception in await": (
        ["async def bad():\n    raise OSError(5, 'io')", "await bad()"],
        {"name": "OSError", "line": 1, "traceback": lambda text: "in bad" in text and "base_events" not in text},
    ),
    "task of an earlier cell": (
        ["import asyncio\nfuture = asyncio.ensure_future(asyncio.sleep(0, 'done'))\nawait asyncio.sleep(0)", "await future"],
        {"text": "'done'"},
    ),
    "asyncio.run": (["asyncio.run(asyncio.sleep(0, 3))"], {"text": "3"}),
    "input": (["input('name? ')"], {"stdout": "name? ", "name": "EOFError", "hint": lambda text: "no standard input" in text}),
    "standard input": (["import sys\nsys.stdin.read()"], {"text": "''"}),
    "exit": (["import sys\nsys.exit(3)"], {"name": "SystemExit", "message": "3", "state_lost": False}),
    "exit with success": (["import sys\nsys.exit()"], {"status": "success", "error": None}),
    "exit with zero": (["raise SystemExit(0)"], {"status": "success", "error": None}),
    "exit with a text": (["import sys\nsys.exit('wrong')"], {"name": "SystemExit", "message": "wrong"}),
    "exit of site": (["exit(2)", "1"], {"text": "1"}),
    "base exception": (["class B(BaseException): pass\nraise B('b')"], {"name": "B", "message": "b"}),
    "generator exit": (["raise GeneratorExit"], {"name": "GeneratorExit"}),
    "keyboard interrupt of its own": (["raise KeyboardInterrupt"], {"name": "KeyboardInterrupt", "status": "error"}),
    "recursion": (["def r(): return r()\nr()"], {"name": "RecursionError", "traceback": lambda t: "repeated" in t}),
    "exception whose text raises": (
        ["class E(Exception):\n    def __str__(self): raise ValueError\nraise E"],
        {"name": "E", "message": "<its text raised ValueError>"},
    ),
    "exception group": (
        ["raise ExceptionGroup('g', [ValueError('inner')])"],
        {"name": "ExceptionGroup", "traceback": lambda text: "inner" in text},
    ),
    "exception with a long text": (
        ["raise ValueError('x' * 10**6)"],
        {"message": lambda text: len(text) < 70_000 and "characters" in text},
    ),
    "note of an exception": (["e = ValueError('v')\ne.add_note('see')\nraise e"], {"traceback": lambda t: "see" in t}),
    "repr that raises": (
        ["class R:\n    def __repr__(self): raise ValueError('no repr')", "R()"],
        {"name": "ValueError", "traceback": lambda text: "__repr__" in text},
    ),
    "html that raises": (
        ["class H:\n    def __repr__(self): return 'h'\n    def _repr_html_(self): raise ValueError('no html')", "H()"],
        {"text": "h", "status": "success", "stderr": lambda text: "_repr_html_ raised ValueError: no html" in text},
    ),
    "rich value": (
        [RICH, "Rich()"],
        {"text": "rich", "formats": ["text/plain", "text/html", "image/svg+xml", "image/png", "application/json"]},
    ),
    "class of a rich value": (["Rich"], {"formats": ["text/plain"]}),
    "mime bundle": (
        ["class M:\n    def _repr_mimebundle_(self, include=None, exclude=None):\n        return {'text/latex': '$x$'}, {}",
         "M()"],
        {"formats": ["text/plain", "text/latex"]},
    ),
    "object with every attribute": (
        ["from unittest.mock import MagicMock", "MagicMock(name='m')"],
        {"formats": ["text/plain"]},
    ),
    "display": (["display(1, 'two')\n3"], {"texts": ["1", "'two'", "3"], "text": "3"}),
    "display of a bundle": (["display({'text/html': '<i>'}, raw=True)"], {"formats": ["text/html"], "text": None}),
    "display between prints": (["print('a')\ndisplay(1)\nprint('b')"], {"stdout": "a\nb\n", "texts": ["1"]}),
    "long value": (["'x' * (3 << 20)"], {"text": lambda text: len(text) < (2 << 20) and text.endswith("more characters")}),
    "large representation": (
        ["class L:\n    def __repr__(self): return 'l'\n    def _repr_html_(self): return 'x' * (9 << 20)", "L()"],
        {"text": "l", "omitted": {"text/html": 9 << 20}},
    ),
    "name is __main__": (["__name__"], {"text": "'__main__'"}),
    "main block": (["if __name__ == '__main__':\n    print('main')"], {"stdout": "main\n"}),
    "pickle of a class of a cell": (
        ["import pickle\nclass P: pass", "type(pickle.loads(pickle.dumps(P()))) is P"],
        {"text": "True"},
    ),
    "dataclass": (
        ["from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass D:\n    a: int\n", "D(1)"],
        {"text": "D(a=1)"},
    ),
    "future statement stays": (["def annotated(x: no_such_name): pass\n'ok'"], {"text": "'ok'"}),
    "source of a function": (
        ["def sourced(x):\n    return x + 1  # mark", "import inspect; inspect.getsource(sourced)"],
        {"text": lambda text: "# mark" in text},
    ),
    "multiprocessing": (
        [
            "import multiprocessing\ndef square(n): return n * n",
            "with multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(square, [1, 2, 3]))",
        ],
        {"stdout": "[1, 4, 9]\n", "stderr": ""},
    ),
    "warning": (
        ["import warnings\nwarnings.warn('careful')"],
        {"stderr": lambda text: "UserWarning: careful" in text and "<cell" in text},
    ),
    "closed sys.stdout": (["import sys\nsys.stdout.close()", "print('again')"], {"stdout": "again\n"}),
    "replaced sys.stdout": (
        ["import io, sys\nsys.stdout = io.StringIO()\nprint('lost')", "print('again')"],
        {"stdout": "again\n"},
    ),
    "closed descriptors": (["import os\nos.close(1); os.close(2)", "print('again')"], {"stdout": "again\n"}),
    "replaced descriptor": (
        ["import os\nfd = os.open('file', os.O_CREAT | os.O_WRONLY)\nos.dup2(fd, 1); os.close(fd)", "print('again')"],
        {"stdout": "again\n"},
    ),
    "stdout that raises": (
        ["import sys\nclass S:\n    def write(self, t): pass\n    def flush(self): raise OSError\nsys.stdout = S()",
         "print('again')"],
        {"stdout": "again\n"},
    ),
    "first descriptor is free": (["import os\nfd = os.open('/dev/null', os.O_RDONLY)\nos.close(fd)\nfd"], {"text": "3"}),
    "thread goes on": (
        ["import threading\nevent = threading.Event()\nthread = threading.Thread(target=event.wait)\nthread.start()",
         "event.set()\nthread.join()\nthread.is_alive()"],
        {"text": "False"},
    ),
    "exception in a thread": (
        ["import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()"],
        {"status": "success", "stderr": lambda text: "ZeroDivisionError" in text},
    ),
    "main thread is alone": (["import threading\nthreading.enumerate()"], {"text": lambda text: text.count("started") == 1}),
    "fork that goes on": (
        ["import os\npid = os.fork()\nif pid:\n    done = os.waitpid(pid, 0)[1]\nelse:\n    print('child')", "done"],
        {"text": "0"},
    ),
    "fork prints": (
        ["import os\npid = os.fork()\nif pid:\n    done = os.waitpid(pid, 0)[1]\nelse:\n    display(5)"],
        {"stdout": "5\n", "results": (), "stderr": ""},
    ),
    "fork that raises": (
        ["import os\npid = os.fork()\nif pid:\n    done = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\nelse:\n    1 / 0",
         "done"],
        {"text": "1"},
    ),
    "fork that exits": (
        ["import os\nif (pid := os.fork()) == 0:\n    raise SystemExit(7)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"],
        {"text": "7"},
    ),
    "modules cleared": (["import sys\nsys.modules.clear()", "1 + 1"], {"text": "2"}),
    "json broken": (["import json\njson.dumps = json.loads = None", "[1]"], {"text": "[1]"}),
    "os broken": (["import os\nos.write = os.read = os.getpid = None", "[2]"], {"text": "[2]"}),
    "trace function": (["import sys\nsys.settrace(lambda *a: None)\n8"], {"text": "8"}),
    "signal ignored": (["import signal\nn = signal.signal(signal.SIGINT, signal.SIG_IGN)", "1"], {"text": "1"}),
    "memory": (["x = bytearray(1 << 45)"], {"name": "MemoryError", "state_lost": False}),
}  # fmt: skip


def found(result, name):
    """What a result has under a name of the table."""
    if name in ("name", "message", "traceback", "line", "column", "hint"):
        return getattr(result.error, name)
    if name == "formats":
        return [kind for one in result.results for kind in one.formats()]
    if name == "texts":
        return [one.text for one in result.results]
    if name == "omitted":
        return result.results[-1].omitted
    return getattr(result, name)


def check(context, cells, expected):
    for code in cells:
        result = context.run_code(code)
    for name, value in expected.items():
        actual = found(result, name)
        assert value(actual) if callable(value) else value == actual, (name, actual, result)


ALONE = {"modules cleared", "json broken", "os broken", "first descriptor is free"}


@pytest.mark.parametrize("name", [name for name in CELLS if name not in ALONE])
def test_python_cell_comes_to_what_the_table_says(shared, name):
    """Each cell of the table has the value, the streams and the exception that stand beside it."""
    check(shared, *CELLS[name])


@pytest.mark.parametrize("name", sorted(ALONE))
def test_python_cell_alone_comes_to_what_the_table_says(context, name):
    """The same for cells that nothing should run before or after."""
    check(context, *CELLS[name])


@pytest.mark.sandbox
@pytest.mark.slow
def test_python_cells_come_to_the_same_in_a_sandbox(tmp_path):
    """The whole table, in one context of one sandbox."""
    with started("sandbox", tmp_path) as context:
        for name, case in CELLS.items():
            if name not in ALONE:
                check(context, *case)


def test_namespace_of_a_new_context_has_no_name_of_ours(context):
    """The names of a new context are those of a new interpreter."""
    names = set(context.run_code("sorted(globals())").text.strip("[]").replace("'", "").split(", "))
    assert {"__builtins__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"} >= names


def test_modules_of_the_workspace_are_imported_by_cells_only(context, tmp_path):
    """A file of the workspace is importable, and takes the place of no module that the driver needs."""
    for name in ("json", "ast", "traceback", "own"):
        tmp_path.joinpath(f"{name}.py").write_text("print('mine')\nvalue = 1\n")
    result = context.run_code("import own; own.value")
    assert ("mine\n", "1") == (result.stdout, result.text)
    assert "ZeroDivisionError" == context.run_code("1/0").error.name


def test_order_of_output_and_results_is_kept(shared):
    """What is displayed after a line was printed arrives after it, and what is displayed before, before."""
    seen = []
    shared.run_code(
        "for n in range(5):\n    print(n)\n    display(n)",
        on_stdout=lambda text: seen.extend(text.split()),
        on_result=lambda result: seen.append(f"<{result.text}>"),
    )
    assert [f"<{n}>" for n in range(5)] == [one for one in seen if one[0] == "<"]
    assert all(seen.index(str(n)) < seen.index(f"<{n}>") for n in range(5))


def test_output_is_streamed_while_the_cell_runs(shared):
    """Lines arrive as they are printed: the cell waits for a file that only its first line makes the caller write."""
    folder = shared.run_code("import os; print(os.getcwd())").stdout.strip()
    chunks = []

    def on_stdout(text):
        chunks.append(text)
        with open(f"{folder}/seen", "wb"):
            pass

    waits = "while not os.path.exists('seen'):\n    time.sleep(0.01)\nos.remove('seen')"
    result = shared.run_code(f"import os, time\nprint('first')\n{waits}\nprint('second')", on_stdout=on_stdout)
    os.remove(f"{folder}/seen")
    assert ["first\n", "second\n"] == chunks
    assert "first\nsecond\n" == result.stdout


def test_output_beyond_the_limit_is_counted(shared):
    """The first bytes are kept, all are counted, and the cell goes on."""
    result = shared.run_code("print('x' * 999_999)\n'end'", max_output=1000)
    assert ("x" * 1000, 1_000_000, True) == (
        result.stdout,
        result.stdout_stream.total_bytes,
        result.stdout_stream.truncated,
    )
    assert "'end'" == result.text


def test_results_beyond_the_limit_are_counted(shared):
    """A flood of results ends at a number of them; the cell goes on."""
    result = shared.run_code("for n in range(1_200):\n    display(n)\n'end'")
    assert (1_000, 201, "success") == (len(result.results), result.results_omitted, result.status)


def test_memory_limit_of_a_cell_is_an_exception_of_the_cell(shared):
    """What a cell may allocate in addition is a MemoryError; the next cell has no limit."""
    result = shared.run_code("x = bytearray(300 << 20)", memory="50M")
    assert ("MemoryError", False) == (result.error.name, result.state_lost)
    assert "memory limit of the cell" in result.error.hint
    assert "success" == shared.run_code("x = bytearray(300 << 20); del x").status


def test_result_of_a_cell_is_json(shared):
    """`to_json` has everything, and parses."""
    fields = json.loads(shared.run_code("print('a')\ndisplay(1)\n1/0").to_json())
    assert "error a\n ZeroDivisionError exception" == "{status} {stdout} {error[name]} {error[cause]}".format(**fields)
    assert [{"data": {"text/plain": "1"}, "is_main_result": False}] == fields["results"]


def test_result_has_the_names_of_other_code_interpreters(shared):
    """`logs`, `error.value`, `results[0].png` and `formats()` are there."""
    result = shared.run_code(RICH + "print('out')\nRich()")
    assert (["out\n"], []) == (result.logs.stdout, result.logs.stderr)
    assert (PNG, b"\x89PNG") == (result.results[0].png, result.results[0].image_bytes()[:4])
    assert {"a": [1, None]} == result.results[0].json
    assert "no" == shared.run_code("raise ValueError('no')").error.value


@pytest.mark.needs("matplotlib")
@pytest.mark.parametrize(
    ("code", "images"),
    [
        ("plt.plot([1, 2]);", 1),
        ("plt.plot([1]); plt.show()\nplt.plot([2]); plt.show()", 2),
        ("fig, ax = plt.subplots()\nfig", 1),
        ("plt.figure(); plt.figure(); None", 2),
        ("plt.plot([1]); 1/0", 0),
        ("plt.plot([1]); plt.savefig('f.png'); plt.close()", 0),
        ("import matplotlib; matplotlib.use('Agg'); plt.plot([1]); plt.show()", 1),
    ],
)
def test_figure_comes_back_as_png(shared, code, images):
    """Open figures are shown at the end of a cell and by `plt.show`, once each."""
    result = shared.run_code("import matplotlib.pyplot as plt\n" + code, timeout_ms=60_000)
    assert images == sum(one.png is not None for one in result.results), result
    assert "" == result.stderr


@pytest.mark.needs("pandas")
def test_data_frame_comes_back_as_html(shared):
    """A data frame has HTML and text."""
    result = shared.run_code("import pandas\npandas.DataFrame({'a': [1]})", timeout_ms=60_000)
    assert "<table" in result.results[0].html
    assert "a" in result.text


@pytest.mark.needs("PIL")
def test_image_comes_back_as_png(shared):
    """An image of Pillow has PNG."""
    result = shared.run_code("from PIL import Image\nImage.new('RGB', (2, 2))", timeout_ms=60_000)
    assert b"\x89PNG" == result.results[0].image_bytes()[:4]


def test_cells_of_python_are_enough():
    """The table has the sixty cells that the issue asks for, each with something to see."""
    assert len(CELLS) >= 60
    assert all(expected for _, expected in CELLS.values())

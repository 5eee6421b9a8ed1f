"""What a cell of JavaScript comes to: a table of cells, with what their caller sees."""

from __future__ import annotations

import pytest
from places import started
from test_python_cells import check

from capsule_run import CapsuleError

pytestmark = pytest.mark.needs("node")

CELLS = {
    "expression": (["1 + 1"], {"text": "2", "status": "success"}),
    "names stay": (["const kept = 3", "kept * 2"], {"text": "6"}),
    "const again": (["const again = 1", "const again = 2", "again"], {"text": "2"}),
    "let, class and function": (
        ["let l = 1; class C {}; function f() { return l }", "[f(), new C() instanceof C]"],
        {"text": "[ 1, true ]"},
    ),
    "destructuring": (["const { a, b: [c] } = { a: 1, b: [2] }", "a + c"], {"text": "3"}),
    "undefined": (["undefined"], {"text": None}),
    "null": (["null"], {"text": "null"}),
    "string": (["'a'"], {"text": "'a'"}),
    "object": (["({ a: { b: [1] } })"], {"text": "{ a: { b: [ 1 ] } }"}),
    "numbers beyond json": (["[NaN, -0, Infinity, 10n]"], {"text": "[ NaN, -0, Infinity, 10n ]"}),
    "not a number": (["NaN"], {"text": "NaN"}),
    "big integer": (["2n ** 64n"], {"text": "18446744073709551616n"}),
    "symbol": (["Symbol('s')"], {"text": "Symbol(s)"}),
    "function": (["(() => 1)"], {"text": "[Function (anonymous)]"}),
    "empty": ([""], {"text": None, "status": "success"}),
    "console": (["console.log('out'); console.error('err');"], {"stdout": "out\n", "stderr": "err\n"}),
    "child process": (["require('child_process').execSync('echo child', { stdio: 'inherit' });"], {"stdout": "child\n"}),
    "not utf-8": (["require('fs').writeSync(1, Buffer.from([97, 255]));"], {"stdout": "a\N{REPLACEMENT CHARACTER}"}),
    "await": (["await new Promise((done) => setTimeout(() => done('woke'), 5))"], {"text": "'woke'"}),
    "const of await": (["const awaited = await Promise.resolve(4)", "awaited"], {"text": "4"}),
    "promise": (["Promise.resolve(1)"], {"text": "Promise { 1 }"}),
    "exception": (
        ["const y = 1;\nnull.x"],
        {"name": "TypeError", "line": 2, "traceback": lambda t: "<cell-" in t and "node:" not in t},
    ),
    "exception in await": (["await Promise.reject(new RangeError('far'))"], {"name": "RangeError", "message": "far"}),
    "thrown value": (["throw { code: 5 }"], {"name": "Thrown", "message": "{ code: 5 }"}),
    "own class of error": (["class Own extends Error { name = 'Own' }\nthrow new Own('o')"], {"name": "Own", "message": "o"}),
    "frames of functions": (
        ["function deep() { throw new Error('d') }", "deep()"],
        {"traceback": lambda t: "deep" in t, "line": 1},
    ),
    "syntax error": (
        ["const ok = 1;\nlet y = ;"],
        {"name": "SyntaxError", "line": 2, "column": 9, "traceback": lambda t: "let y = ;" in t},
    ),
    "code that ends too early": (["function f() {"], {"name": "SyntaxError", "line": 1, "column": 15}),
    "import statement": (["import fs from 'fs'"], {"name": "SyntaxError", "hint": lambda text: "require" in text}),
    "require": (["require('path').basename('/a/b')"], {"text": "'b'"}),
    "display": (["display(1); display('two'); 3"], {"texts": ["1", "'two'", "3"], "text": "3"}),
    "bundle": (
        ["display({ 'text/html': '<b>', 'application/json': { a: 1 } }, { raw: true });"],
        {"formats": ["text/html", "application/json"]},
    ),
    "image": (["display({ 'image/png': Buffer.from([137, 80]) }, { raw: true });"], {"formats": ["image/png"]}),
    "rich value": (
        ["({ [Symbol.for('Jupyter.display')]() { return { 'text/html': '<i>' } } })"],
        {"formats": ["text/plain", "text/html"]},
    ),
    "rich value that waits": (
        ["({ async [Symbol.for('Jupyter.display')]() { return { 'text/html': '<i>' } } })"],
        {"formats": ["text/plain", "text/html"]},
    ),
    "inspection that raises": (["({ get [Symbol.toStringTag]() { throw new Error('no') } })"], {"status": "error"}),
    "exit": (["process.exit(3)", "1"], {"text": "1", "state_lost": False}),
    "exit is an error": (["process.exit(3)"], {"name": "ProcessExit", "message": "3"}),
    "exit with success": (["process.exit(0)"], {"status": "success", "error": None}),
    "exit in a callback": (
        ["await new Promise(() => setTimeout(() => process.exit(4), 1))"],
        {"name": "ProcessExit", "message": "4"},
    ),
    "exception in a callback": (
        ["setTimeout(() => { throw new Error('late') }, 1)\nawait new Promise((done) => setTimeout(done, 50))"],
        {"status": "success", "stderr": lambda text: "Uncaught Error: late" in text},
    ),
    "stack overflow": (["const r = () => r()\nr()"], {"name": "RangeError"}),
    "surrogate": (["'\\ud800'"], {"text": lambda text: text.lower() == "'\\ud800'"}),
    "names of ours": (["Object.keys(globalThis).filter((name) => /capsule|cell|hook/.test(name))"], {"text": "[]"}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CELLS))
def test_javascript_cell_comes_to_what_the_table_says(shared_javascript, name):
    """Each cell of the table has the value, the streams and the exception that stand beside it."""
    check(shared_javascript, *CELLS[name])


@pytest.mark.sandbox
@pytest.mark.slow
def test_javascript_cells_come_to_the_same_in_a_sandbox(tmp_path):
    """The whole table, in one context of one sandbox."""
    with started("sandbox", tmp_path, "javascript") as context:
        for case in CELLS.values():
            check(context, *case)


@pytest.mark.parametrize("code", ["while (true);", "await new Promise(() => {})"], ids=["loop", "await"])
def test_javascript_cell_is_interrupted_at_its_time_limit(javascript, code):
    """A time limit ends loops and waits, and the variables are kept."""
    javascript.run_code("const kept = 1")
    result = javascript.run_code(code, timeout_ms=300)
    assert ("timeout", False) == (result.status, result.state_lost), result
    assert "1" == javascript.run_code("kept").text


def test_javascript_interpreter_that_ends_says_so(javascript):
    """A crash is a clear result, and the next cell has a new interpreter."""
    javascript.run_code("const kept = 1")
    result = javascript.run_code("console.log('before'); process.reallyExit(3)")
    assert ("exit", True, "before\n") == (result.error.cause, result.state_lost, result.stdout)
    error = javascript.run_code("kept").error
    assert "ReferenceError" == error.name
    assert "restarted" in error.hint


def test_memory_limit_of_a_javascript_cell_is_refused(javascript):
    """A cell of JavaScript has no memory limit of its own."""
    with pytest.raises(CapsuleError, match="E1009: memory: a cell of javascript"):
        javascript.run_code("1", memory=1 << 30)

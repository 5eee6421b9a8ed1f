"""Freeze our modules and those of the standard library that they use: `freeze.py LIB SRC OUT`.

Run by packaging/build-static with the CPython that goes into the file, so that each module is compiled, and once imported, by
the interpreter that will run it. Writes `frozen.h`, the tables of main.c, and their code: `frozen.bin`, which CPython reads as it
is, and `packed.bin`, compressed: what no run of a command imports is two thirds of all.
"""

import _ast
import os
import sys

LIB, SRC, OUT = sys.argv[1:]
PACKAGE = "capsule_run"
# Not of the command line: for programs that import us, and for an installed package.
LEFT_OUT = {f"{PACKAGE}.{name}" for name in ("aio", "integrations", "__main__", "_bundle_writer")}
# Of the others what needs a part of the standard library that this CPython lacks (asyncio, ctypes) is for such programs, too;
# in these packages everything is the command line's.
NEEDED = tuple(f"{PACKAGE}.{name}" for name in ("cli", "doctor", "mcp", "monitor"))
# What CPython looks for by name, when it meets text in such an encoding.
ENCODINGS = [f"encodings.{name}" for name in ("ascii", "latin_1", "unicode_escape", "utf_8", "utf_8_sig")]
# What CPython imports before it can import anything (frozen.c).
DEEP_FROZEN = {"importlib._bootstrap", "importlib._bootstrap_external", "zipimport", "abc", "codecs", "io"}
INSIDE = "contexts/inside"  # programs for the sandbox, not modules
ELSEWHERE = {"_sha2", "ctypes"}  # of a newer Python; what `_capsule_static` has instead
NEAREST = 1 << 16  # how far back the compressed code can refer
CANDIDATES = 16  # earlier places that are compared, to find a long one
BEGIN, STAGE = "_capsule_begin", "_capsule_stage_%d"


class Recorder:
    """Finder that notes each module once it is executed: after those that it imports."""

    def __init__(self):
        self.order = []

    def find_spec(self, name, path=None, target=None):
        """Find as usual, with a loader that notes the module."""
        finder = next(finder for finder in sys.meta_path if getattr(finder, "__name__", "") == "PathFinder")
        spec = finder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                self.order.append(name)

            spec.loader.exec_module = exec_module
        return spec


def load(recorder, names):
    """Import modules; return those that were new, in the order of their execution."""
    before = len(recorder.order)
    for name in names:
        __import__(name)
    return recorder.order[before:]


def stages(recorder):
    """Return the modules of each stage of a run, as the command imports them (`_bundle.begin`, engine/prefetch.py)."""
    first = load(recorder, [f"{PACKAGE}.cli.command", f"{PACKAGE}.engine.prefetch"])
    prefetch = sys.modules[f"{PACKAGE}.engine.prefetch"]
    later = (prefetch.WHILE_THE_ROOM_IS_BUILT, prefetch.WHILE_THE_COMMAND_RUNS)
    return [first, *(load(recorder, [f"{PACKAGE}.{name}" for name in names]) for names in later)]


def imports_of(path):
    """Return the names of the modules that a source imports."""
    return set(imported(compile(read(path), path, "exec", _ast.PyCF_ONLY_AST)))


def can_be_imported(name):
    """Import a module of ours; return whether this CPython has what it needs, and leave no trace of one that it lacks."""
    before = set(sys.modules)
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if name.startswith(NEEDED) or str(error.name).startswith(PACKAGE):
            raise
        for added in set(sys.modules) - before:
            del sys.modules[added]
        print(f"left out: {name}, which needs {error.name}")
        return False
    return True


def our_sources():
    """Return our modules: name to path."""
    found = {}
    for folder, folders, files in os.walk(f"{SRC}/{PACKAGE}"):
        folders.sort()
        if folder == f"{SRC}/{PACKAGE}/{INSIDE}":
            continue
        for file in sorted(files):
            name = f"{folder}/{file}"[len(SRC) + 1 :].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            if not file.endswith(".py") or not LEFT_OUT.isdisjoint({name, ".".join(name.split(".")[:2])}):
                continue
            if can_be_imported(name):
                found[name] = f"{folder}/{file}"
            if name.startswith(NEEDED):
                lacking = LEFT_OUT & {".".join(one.split(".")[:2]) for one in imports_of(f"{folder}/{file}")}
                if lacking:
                    sys.exit(f"{name} imports {', '.join(lacking)}, which freeze.py leaves out: change LEFT_OUT")
    return found


def imported(node):
    """Yield the names of all modules that a syntax tree imports, in functions, too; not what only type checkers read."""
    if isinstance(node, _ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, _ast.ImportFrom):
        yield node.module
        if node.module == PACKAGE:  # a package of ours, or a name of its face
            yield from (f"{PACKAGE}.{alias.name}" for alias in node.names)
    elif isinstance(node, _ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    for field in node._fields:
        value = getattr(node, field, None)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, _ast.AST):
                yield from imported(child)


def read(path):
    """Return the bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def standard_sources(ours):
    """Return the modules in Python of the standard library that ours import, directly or not."""
    wanted = set()
    for path in ours.values():
        wanted |= imports_of(path)
    for name in sorted([*wanted - ELSEWHERE, *ENCODINGS]):
        if name.partition(".")[0] in sys.stdlib_module_names:
            __import__(name)
    found = {}
    for name in sorted(sys.modules):
        stem = f"{LIB}/{name.replace('.', '/')}"
        paths = [path for path in (f"{stem}.py", f"{stem}/__init__.py") if os.path.exists(path)]
        if paths and name not in DEEP_FROZEN:
            found[name] = paths[0]
    return found


def compiled(name, path):
    """Return the code of a module; of ours without what only type checkers read."""
    if name.partition(".")[0] == PACKAGE:
        from capsule_run import _bundle_writer

        return without_lines(_bundle_writer._compiled(read(path), f"<{name}>"))
    return without_lines(compile(read(path), f"<{name}>", "exec", dont_inherit=True, optimize=2))


def without_lines(code):
    """Return code without its table of lines, a tenth of it: what failed is known by its function."""
    constants = tuple(without_lines(one) if isinstance(one, type(code)) else one for one in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=constants)


def holder(constants):
    """Return a code object that only holds constants: many modules are read in one piece, and a name once."""
    return compile("0", "", "exec").replace(co_consts=constants)


def texts():
    """Return the code of `contexts._inside_texts`: what are files in an installed package."""
    folder = f"{SRC}/{PACKAGE}/{INSIDE}"
    names = [name for name in sorted(os.listdir(folder)) if os.path.isfile(f"{folder}/{name}")]
    found = {name: read(f"{folder}/{name}").decode() for name in names}
    return compile(f"TEXTS = {found!r}", "<texts>", "exec")


def length(number):
    """Return the bytes after a token for a length of 15 and more, as LZ4 has it."""
    return b"" if number < 15 else b"\xff" * ((number - 15) // 255) + bytes([(number - 15) % 255])


def common(data, one, other, end):
    """Return how many bytes are the same at two places."""
    size = 4
    while other + size < end and data[one + size] == data[other + size]:
        size += 1
    return size


def packed(data):
    """Return data compressed, as a block of LZ4, which takes 30 lines of C to read."""
    places, out = {}, bytearray()
    at = literal = 0
    end = len(data) - 5  # the last five bytes are literal
    while at < len(data) - 12:
        earlier = places.setdefault(data[at : at + 4], [])
        found = [(common(data, one, at, end), one) for one in earlier[-CANDIDATES:] if at - one < NEAREST]
        earlier.append(at)
        if not found:
            at += 1
            continue
        size, one = max(found)
        rest = data[literal:at]
        out.append(min(len(rest), 15) << 4 | min(size - 4, 15))
        out += length(len(rest)) + rest + (at - one).to_bytes(2, "little") + length(size - 4)
        for inner in range(at + 1, min(at + size, end)):
            places.setdefault(data[inner : inner + 4], []).append(inner)
        at += size
        literal = at
    rest = data[literal:]
    return bytes(out) + bytes([min(len(rest), 15) << 4]) + length(len(rest)) + rest


def embedded(name, content):
    """Write a file, and return the line of C that includes its bytes."""
    with open(f"{OUT}/{name}.bin", "wb") as file:
        file.write(content)
    line = f'__asm__(".section .rodata\\n{name}_code: .incbin \\"{name}.bin\\"\\n.previous\\n");\n'
    return f"{line}extern const unsigned char {name}_code[] HIDDEN;\n"


def write(codes, packages, plain):
    """Write the tables and the code: CPython's table has the plain modules, ours the compressed others."""
    import marshal

    rows, blob, packed_rows, packed_blob = [], bytearray(), [], bytearray()
    for name, code in sorted(codes.items()):
        data = marshal.dumps(code)
        is_package = int(name in packages)
        if name in plain:
            rows.append(f'\t{{ "{name}", frozen_code + {len(blob)}, {len(data)}, {is_package}, NULL }},\n')
            blob += data
        else:
            block = packed(data)
            packed_rows.append(f'\t{{ "{name}", {len(packed_blob)}, {len(block)}, {len(data)}, {is_package} }},\n')
            packed_blob += block
    with open(f"{OUT}/frozen.h", "w") as file:
        file.write(embedded("frozen", blob) + embedded("packed", packed_blob))
        file.write("static const struct _frozen frozen[] = {\n" + "".join(rows) + "\t{ NULL, NULL, 0, 0, NULL }\n};\n")
        file.write("static const struct packed packed[] = {\n" + "".join(packed_rows) + "\t{ NULL, 0, 0, 0, 0 }\n};\n")
    print(f"{len(rows)} modules, {len(blob)} bytes; {len(packed_rows)} compressed ones, {len(packed_blob)} bytes")


def write_deep_frozen():
    """Write for CPython's deepfreeze.py the code of each module that becomes static objects."""
    import marshal

    for name in sorted(DEEP_FROZEN):
        code = compile(
            read(f"{LIB}/{name.replace('.', '/')}.py"), f"<frozen {name}>", "exec", dont_inherit=True, optimize=2
        )
        data = marshal.dumps(without_lines(code))
        rows = [f"    {','.join(map(str, data[at : at + 16]))},\n" for at in range(0, len(data), 16)]
        with open(f"{OUT}/{name}.deep", "w") as file:
            file.write("/* Auto-generated by Programs/_freeze_module.c */\n")  # by which deepfreeze.py knows the form
            file.write(f"const unsigned char _Py_M__{name.replace('.', '_')}[] = {{\n{''.join(rows)}}};\n")


def main():
    static = sys.modules["_capsule_static"] = type(sys)("_capsule_static")  # of the file alone (main.c)
    static.openat2 = static.setfsuid = static.setfsgid = None
    static.unpack = static.release_pages = None
    static.CORE = static.FILE = ""
    sys.builtin_module_names += ("_capsule_static",)
    sys.path[:] = [LIB, SRC]
    recorder = Recorder()
    sys.meta_path.insert(2, recorder)  # after the modules in C and the frozen ones
    names = stages(recorder)
    ours = our_sources()
    sources = {**standard_sources(ours), **ours, BEGIN: f"{os.path.dirname(sys.argv[0])}/begin.py"}
    packages = {name for name, path in sources.items() if path.endswith("/__init__.py")}
    codes = {name: compiled(name, path) for name, path in sorted(sources.items())}
    for number, stage in enumerate(names):
        codes[STAGE % number] = holder(tuple(codes.pop(name) for name in stage))
    codes["_capsule_stages"] = holder(tuple(tuple((name, name in packages) for name in stage) for stage in names))
    codes[f"{PACKAGE}.contexts._inside_texts"] = texts()
    at_start = {name for name in codes if name.partition(".")[0] == "encodings" or name.startswith("_capsule_")}
    write(codes, packages, at_start | {"capsule_run._bundle"})
    write_deep_frozen()


main()

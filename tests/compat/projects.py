"""The projects: other people's test suites and a day's jobs, which must come to the same inside as outside. A table.

Nothing is asked for but a workspace, a virtual environment as `--tool` and a time limit: the defaults are what is tested.
A suite is compared by what its runner counts and by the names of what failed; a job, which says the same every time, by
its words. Both sides run where there is no other network than a loopback interface.
"""

# ruff: noqa: E501 - commands
from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PYTEST = "python -m pytest -q -p no:cacheprovider -p no:randomly -W ignore"


class Project(NamedTuple):
    """One project. Its work tree is an sdist, a Debian source package or a directory that a Debian package installs, or empty."""

    name: str
    command: str
    sdist: str = ""  # NAME==VERSION on the Python package index
    source: str = ""  # a Debian source package
    directory: str = ""  # shell pattern of what `packages` install
    member: str = ""  # an archive or a directory inside, which is the work tree
    setup: str = ""  # shell line, once, with a network: what a developer does after the clone
    environment: str = ""  # requirements/NAME.txt
    packages: str = ""  # Debian's, by which CI installs what the command starts
    tools: str = ""  # programs that must be on PATH
    is_cheap: bool = False  # runs in CI; the others where CAPSULE_PROJECTS=all
    is_job: bool = False  # compared by its words
    seconds: int = 240
    set: tuple[tuple[str, str], ...] = ()  # the environment, on both sides


class Difference(NamedTuple):
    """How a project ends otherwise inside than outside, and why."""

    why: str
    counts: Mapping[str, int] = MappingProxyType({})  # how many more of each kind the runner counts inside
    ends: bool = True  # within its time


JUPYTER = r"""
cat >n.py <<'END'
import nbformat
new = nbformat.v4
cells = ["import numpy as np; print(np.arange(10).sum())", "%matplotlib inline\nimport matplotlib.pyplot as plt; _ = plt.plot([1, 3, 2])",
         "from sklearn.ensemble import RandomForestClassifier as R; print(R(20, n_jobs=2, random_state=1).fit([[0], [1]] * 20, [0, 1] * 20).score([[0], [1]], [0, 1]))", "!echo shell"]
nbformat.write(new.new_notebook(cells=[new.new_code_cell(cell) for cell in cells]), "n.ipynb")
END
python n.py && python -m nbconvert --to notebook --execute n.ipynb --output done >log 2>&1 || { tail -5 log; exit 1; }
python -c '
import json
for cell in json.load(open("done.ipynb"))["cells"]:
    print([output.get("text") or sorted(output["data"]) for output in cell["outputs"]])'
"""
PACKAGING = r"""
mkdir -p p/src/demo && cd p && echo 'VALUE = 42' >src/demo/__init__.py
printf '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "demo"\nversion = "1.0"\n' >pyproject.toml
/usr/bin/python3 -m venv --system-site-packages v && v/bin/pip install -q --no-index --no-build-isolation --disable-pip-version-check -e . && v/bin/python -c 'import demo; print(demo.VALUE)'
uv venv -q --system-site-packages -p /usr/bin/python3 u && uv pip install -q --offline --no-build-isolation -p u/bin/python . && u/bin/python -c 'import demo; print(demo.VALUE)'
uv build -q --offline --no-build-isolation -p v/bin/python --wheel && ls dist
"""
NODE_TOOLS = r"""
mkdir -p src test && for i in $(seq 50); do echo "export const f$i = (x: number): number => x * $i;" >src/f$i.ts; echo "import { test, expect } from 'vitest'; import { f$i } from '../src/f$i'; test('f$i', () => expect(f$i(2)).toBe($((2 * i))));" >test/f$i.test.ts; done
for i in $(seq 50); do echo "export { f$i } from './f$i';"; done >src/index.ts
npx --offline tsc --strict --target es2020 --module esnext --moduleResolution bundler --outDir out src/index.ts && ls out | wc -l
npx --offline esbuild src/index.ts --bundle --outfile=bundle.js --log-level=error && wc -l <bundle.js
npx --offline vitest run 2>&1 | sed 's/\x1b\[[0-9;]*m//g' | grep -E '^ *Tests '
"""
CHOKIDAR = r"""
cat >w.mjs <<'END'
import chokidar from 'chokidar'; import fs from 'node:fs';
fs.mkdirSync('d/e', { recursive: true }); fs.writeFileSync('d/old', '1'); fs.writeFileSync('d/gone', '1');
const seen = [], watcher = chokidar.watch('d', { ignoreInitial: true, atomic: false }).on('all', (event, path) => seen.push(`${event} ${path}`));
const until = async (text) => { for (let i = 0; i < 400 && !seen.includes(text); i++) await new Promise(r => setTimeout(r, 25)); };
await new Promise(r => watcher.on('ready', r));
for (const [act, text] of [[() => fs.writeFileSync('d/new', '1'), 'add d/new'], [() => fs.appendFileSync('d/old', '22'), 'change d/old'], [() => fs.unlinkSync('d/gone'), 'unlink d/gone'],
  [() => fs.mkdirSync('d/e/f'), 'addDir d/e/f'], [() => fs.writeFileSync('d/e/f/deep', '1'), 'add d/e/f/deep'], [() => fs.renameSync('d/new', 'd/moved'), 'add d/moved'], [() => fs.rmSync('d/e', { recursive: true }), 'unlink d/e/f/deep']]) { act(); await until(text); console.log(seen.includes(text) ? text : `MISSED ${text}`); }
await watcher.close();
END
node w.mjs
"""
EXECA = r"""
cat >x.mjs <<'END'
import { execa, $ } from 'execa';
console.log((await execa('echo', ['words'])).stdout, (await $`seq 3`).stdout.split('\n').length);
console.log(await execa('sh', ['-c', 'exit 7']).catch(e => e.exitCode), await execa('sleep', ['9'], { timeout: 50 }).catch(e => e.timedOut));
const child = execa('cat'); child.stdin.end('through stdin'); console.log((await child).stdout);
console.log((await execa('echo', ['piped']).pipe('tr', ['a-z', 'A-Z'])).stdout, (await execa('node', ['-e', 'process.kill(process.pid, "SIGTERM"); setTimeout(() => {}, 9999)']).catch(e => e.signal)));
const lines = []; for await (const line of execa('seq', ['100'])) lines.push(line); console.log(lines.length);
const ipc = execa('node', ['-e', 'process.on("message", m => { process.send(m * 2); process.disconnect(); })'], { ipc: true }); await ipc.sendMessage(21); console.log(await ipc.getOneMessage()); await ipc;
END
node x.mjs
"""
BATS = r"""
printf 'setup() { T=$BATS_TEST_TMPDIR; }\n@test "run and status" { run sh -c "echo out; exit 3"; [ "$status" = 3 ]; [ "$output" = out ]; }\n@test "files" { echo x >$T/f; [ -s $T/f ]; }\n@test "skipped" { skip because; }\n@test "background" { sleep 0.1 & wait $!; }\n@test "fails" { false; }\n' >a.bats
for i in $(seq 30); do echo "@test \"number $i\" { run expr $i + 1; [ \"\$output\" = $((i + 1)) ]; }"; done >b.bats; bats --tap a.bats b.bats; bats --tap -j 2 --no-parallelize-across-files b.bats | tail -1
"""
POSTGRES = r"""
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -1):$PATH; initdb -D data -A trust -U me --no-locale -E UTF8 >log 2>&1 || { tail -3 log; exit 1; }
pg_ctl -D data -w -o "-k $PWD -c listen_addresses=" -l server.log start >/dev/null || { tail -5 server.log; exit 1; }
psql -h "$PWD" -U me -Atc "select sum(n) from generate_series(1, 1000) n; create table t(a int primary key, b text); insert into t select n, md5(n::text) from generate_series(1, 5000) n; select count(*), max(b) from t; create index on t(b); vacuum analyze t" postgres
pgbench -h "$PWD" -U me -i -q postgres 2>/dev/null; pgbench -h "$PWD" -U me -c 4 -t 50 postgres 2>/dev/null | grep -E 'actually|failed'; pg_dump -h "$PWD" -U me postgres | grep -c .; pg_ctl -D data -w stop >/dev/null && echo stopped
"""
REDIS = r"""
redis-server --port 0 --unixsocket "$PWD/s" --dir "$PWD" --appendonly yes >log 2>&1 & server=$!
python - <<'END'
import redis, time
r = redis.Redis(unix_socket_path="s", decode_responses=True)
for _ in range(400):
    try:
        r.ping(); break
    except redis.ConnectionError:
        time.sleep(0.05)
with r.pipeline() as p:
    for n in range(2000): p.set(f"k{n}", n)
    p.execute()
print(r.dbsize(), r.eval("return redis.call('get', KEYS[1]) * 2", 1, "k21"), r.incr("k1"), r.lpush("l", *range(5)), r.zadd("z", {"a": 1, "b": 2}))
def settled(field):
    for _ in range(400):
        if not r.info("persistence")[field]: return r.info("persistence")
        time.sleep(0.05)
r.bgrewriteaof(); print(settled("aof_rewrite_in_progress")["aof_last_bgrewrite_status"]); r.bgsave(); print(settled("rdb_bgsave_in_progress")["rdb_last_bgsave_status"])
s = r.pubsub(); s.subscribe("c"); s.get_message(timeout=1); r.publish("c", "hello"); print(s.get_message(timeout=5)["data"]); r.shutdown(nosave=True)
END
kill $server 2>/dev/null; wait; grep -c 'ready to exit' log
"""
GIT = r"""
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=a@example.org GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git clone -q project clone && cd clone && git log --format=%T | sha256sum && git checkout -q -b side HEAD~3 && echo s >s && git add s && git commit -qm s && git rebase -q main && git worktree add -q ../tree HEAD~5 && ls ../tree | wc -l
echo t >>s && git stash -q && git stash pop -q && git diff --stat | tail -1 && git mv src lib && git commit -qam moved && git gc -q --aggressive && git fsck --strict 2>&1 | grep -v '^Checking'; git bisect start HEAD HEAD~8 >/dev/null && git bisect run test -d src | grep -c 'first bad commit'; git bisect reset -q
git clone -q --bare . ../bare && git push -q ../bare HEAD:refs/heads/pushed && git -C ../bare rev-parse pushed && git clone -q ../bare ../again && git -C ../again log --format=%H | sha256sum && git -c protocol.file.allow=always submodule --quiet add "file://$PWD/../bare" sub; git status --porcelain | head
"""
GIT_SETUP = r"""
git init -q -b main project && cd project && mkdir src && for i in $(seq 12); do seq $((i * 50)) >src/f$i; echo $i >n; git add . && git -c user.name=n -c user.email=a@example.org commit -q --date 2020-01-01T00:00:00Z -m c$i; done
"""
CHROMIUM = r"""
echo '<h1 style="color:green">hi</h1><canvas id=c></canvas><script>c.getContext("2d").fillRect(5, 5, 50, 50); document.title = 6 * 7</script>' >i.html
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$PWD/u" --screenshot=s.png --window-size=400,300 "file://$PWD/i.html" >log 2>&1; sha256sum <s.png
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$PWD/v" --dump-dom "file://$PWD/i.html" 2>>log | grep -o '<title>.*</title>'; chromium --headless --no-sandbox --user-data-dir="$PWD/w" --print-to-pdf=p.pdf "file://$PWD/i.html" >>log 2>&1; head -c 5 p.pdf
"""

# Without a test that wants a request to arrive within a tenth of a second: a busy machine fails it on either side.
TORNADO = "sed -i 's/def test_request_timeout/def no_request_timeout/' tornado/test/simple_httpclient_test.py && python -m tornado.test"
# Without three tests of ids, which fail outside, where the network is kept away by a user namespace that lacks these ids.
LIBUV = r"""
cmake -B build . >/dev/null && make -s -j2 -C build >/dev/null 2>&1 && build/uv_run_tests | grep -Ev ' - (fs_chown|spawn_set[gu]id_fails)$'
"""

PROJECTS = (
    Project("requests", PYTEST + ' tests -k "not TestTimeout"', sdist="requests==2.34.2", environment="python", is_cheap=True),
    Project("click", PYTEST, sdist="click==8.5.1", environment="python", is_cheap=True),
    Project("attrs", PYTEST + " tests", sdist="attrs==26.1.0", environment="python"),
    Project("jinja2", PYTEST, sdist="jinja2==3.1.6", environment="python", is_cheap=True),
    Project("pluggy", PYTEST + " testing", sdist="pluggy==1.7.0", environment="python", is_cheap=True),
    Project("werkzeug", PYTEST + " --timeout 30", sdist="werkzeug==3.1.9", environment="python"),
    Project("anyio", PYTEST + " tests/test_sockets.py tests/test_subprocesses.py tests/test_signals.py tests/test_fileio.py", sdist="anyio==4.16.0", environment="anyio"),
    Project("trio", PYTEST + " --pyargs trio -p trio._tests.pytest_plugin --ignore-glob='/*/test_gen_exports.py'", environment="python"),
    Project("tornado", TORNADO, sdist="tornado==6.6.1", environment="python", seconds=900, set=(("ASYNC_TEST_TIMEOUT", "60"),)),
    Project("aiohttp", PYTEST + " -o addopts=  tests/test_web_request.py tests/test_web_response.py tests/test_helpers.py tests/test_streams.py", sdist="aiohttp==3.14.5", environment="python"),
    Project("networkx", PYTEST + " -n 2 --pyargs networkx.algorithms.centrality networkx.algorithms.flow networkx.classes", environment="science"),
    Project("watchdog", PYTEST + " -o addopts= tests", sdist="watchdog==7.1.0", environment="python"),
    Project("psutil", "rm -r psutil && " + PYTEST + " -o addopts= tests --ignore tests/test_memleaks.py", sdist="psutil==7.2.2", environment="python"),
    Project("ptyprocess", PYTEST, sdist="ptyprocess==0.7.0", environment="python", is_cheap=True),
    Project("pexpect", PYTEST + " tests -k 'not test_spawn_uses_env'", sdist="pexpect==4.9.0", environment="python"),
    Project("numpy", PYTEST + " --pyargs numpy._core numpy.lib numpy.random -m 'not slow'", environment="science"),
    Project("pandas", PYTEST + " --pyargs pandas.tests.io.parser.common pandas.tests.io.test_common pandas.tests.frame.methods", environment="science"),
    Project("scikit-learn", PYTEST + " --pyargs sklearn.ensemble.tests.test_forest sklearn.tests.test_multiclass sklearn.model_selection.tests.test_search", environment="science"),
    Project("joblib", PYTEST + " --pyargs joblib.test.test_memmapping joblib.test.test_memory joblib.test.test_parallel", environment="science"),
    Project("Jupyter: nbconvert --execute", JUPYTER, environment="science", is_job=True),
    Project("pip, venv, uv", PACKAGING, environment="packaging", tools="/usr/bin/python3", packages="python3-venv python3-setuptools python3-wheel", is_job=True, is_cheap=True),
    Project("express", "node_modules/.bin/mocha --reporter dot --require test/support/env --check-leaks --timeout 20000 test/ test/acceptance/", source="node-express", setup="npm install --no-audit --no-fund --ignore-scripts --omit=optional", tools="node npm", packages="nodejs npm dpkg-dev"),
    Project("chokidar", CHOKIDAR, setup="npm install --no-audit --no-fund chokidar@5.0.0", tools="node npm", packages="nodejs npm", is_job=True, is_cheap=True),
    Project("execa", EXECA, setup="npm install --no-audit --no-fund execa@9.6.0", tools="node npm", packages="nodejs npm", is_job=True, is_cheap=True),
    Project("typescript, esbuild, vitest", NODE_TOOLS, setup="npm install --no-audit --no-fund typescript@5.9.3 esbuild@0.25.10 vitest@3.2.4", tools="node npm", packages="nodejs npm", is_job=True),
    Project("pflag (Go)", "go test -vet=off ./...", directory="/usr/share/gocode/src/github.com/spf13/pflag", packages="golang-github-spf13-pflag-dev golang-go", tools="go", is_cheap=True),
    Project("Go: os/exec, os/signal, net, path/filepath, time, context, io/fs", "go test -short os/exec os/signal net path/filepath time context io/fs", packages="golang-go golang-src", tools="go"),
    Project("zlib", "./configure && make -j2 && make test", source="zlib", packages="gcc make libc6-dev dpkg-dev", tools="gcc make", is_cheap=True),
    Project("lua", "gcc -O2 -DLUA_USE_LINUX -o lua onelua.c -lm -ldl && cd testes && ../lua -e '_U=true' all.lua", sdist="lupa==2.8", member="third-party/lua54", packages="gcc libc6-dev", tools="gcc"),
    Project("jq", "autoreconf -i && ./configure --with-oniguruma=no --disable-docs && make -j2 && make check", sdist="jq==1.13.0", member="deps/jq-*.tar.gz", seconds=600, packages="autoconf automake libtool bison flex gcc make", tools="autoreconf make gcc"),
    Project("libuv", LIBUV, source="libuv1", packages="cmake make gcc dpkg-dev", tools="cmake make gcc"),
    Project("redis, its own tests", "make -s -j2 MALLOC=libc >/dev/null 2>&1; ./runtest --single unit/type/string --single unit/type/list --single unit/expire --single unit/scan --single unit/aofrw --single unit/pubsub", source="redis", packages="gcc make tcl dpkg-dev", tools="gcc make tclsh", seconds=1200),
    Project("bats", BATS, packages="bats", tools="bats", is_job=True, is_cheap=True),
    Project("PostgreSQL", POSTGRES, packages="postgresql", is_job=True, is_cheap=True),
    Project("redis-server and redis-py", REDIS, environment="python", packages="redis-server", tools="redis-server", is_job=True, is_cheap=True),
    Project("git", GIT, setup=GIT_SETUP, packages="git", tools="git", is_job=True, is_cheap=True),
    Project("Chromium", CHROMIUM, packages="chromium", tools="chromium", is_job=True),
    Project("Maven", "mvn -v | sed -n '1p;3p'", packages="maven", tools="mvn", is_job=True, is_cheap=True),
)  # fmt: skip

# What differs inside, each with the reason. Exactly this must differ: a row is removed when the project comes to the same.
DIFFERENCES: dict[str, Difference] = {
    "Chromium": Difference(
        "does not end in time under the defaults, as it waits for a hundred and first thread; with "
        "`--memory 1G --max-pids 400` it takes the screenshot",
        ends=False,
    ),
    "anyio": Difference(
        "there is no block device in `/dev`, and a test that looks for one is skipped on each of three loops",
        counts={"passed": -3, "skipped": 3},
    ),
    "pexpect": Difference("no file can become set-user-ID, as one test wants", counts={"failed": 1, "passed": -1}),
    "psutil": Difference(
        "no `/sys`, no disks and one file size limit: tests that ask the machine for them fail",
        counts={"failed": 10, "passed": -13, "skipped": 3},
    ),
}
# What is not tried, each with the reason.
NOT_TRIED = {
    "lodash": "no package registry has its tests",
    "semver and httparse (Rust)": "their tests need crates that Debian does not have",
}

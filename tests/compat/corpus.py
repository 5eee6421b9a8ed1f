"""The corpus: ordinary programs that must run inside as they run outside. Not a test: a table, read by tests and report.

A program is a shell script with a deterministic output. It runs in an empty folder that is its home, once outside and
once inside, and must end in the same way with the same words. `packages` are Debian's, by which CI installs it.
"""

# ruff: noqa: E501 - programs
from __future__ import annotations

from typing import NamedTuple


class Program(NamedTuple):
    """One program. `tools` must be on PATH; `memory_mib` where the default of 512 is too little for it outside, too."""

    name: str
    packages: str
    tools: str
    script: str
    memory_mib: int = 512
    max_pids: int = 100


# What ordinary programs do and the default profile does not have, each with the reason.
NOT_THERE = {
    "debuggers and tracers (ptrace: gdb, strace)": "refused in every profile, since they take over other processes",
    "containers and sandboxes inside (unshare, mount: docker, bwrap, Chromium's own)": "no new namespace can be made inside",
    "lscpu, lsblk, numactl": "there is no `/sys`; `--bind /sys/devices/system/cpu:/sys/devices/system/cpu:ro,force` shows the processors",
    "screen": "keeps its sockets in `/run`, which is not there: `--env SCREENDIR=/home/user/.screen`",
}

PROGRAMS = (
    Program("bash: arrays, here-documents, traps", "bash", "bash", r"""
        bash -euo pipefail -c '
        declare -A map=([one]=1 [two]=2); for key in $(printf "%s\n" "${!map[@]}" | sort); do echo "$key=${map[$key]}"; done
        trap "echo trapped" EXIT; cat <<END | tr a-z A-Z
here document $((6 * 7))
END
        diff <(seq 3) <(seq 3) && echo same; sleep 0.01 & wait $!; echo waited $?
        coproc bc_like { while read -r line; do echo $((line)); done; }; echo "2**10" >&"${bc_like[1]}"; read -r answer <&"${bc_like[0]}"; echo "$answer"
        (exit 7) || echo "status $?"; set -m; sleep 5 & kill %1; wait %1 2>/dev/null || echo killed
        '"""),
    Program("sh: pipes, fifo, background jobs", "dash", "sh mkfifo", r"""
        mkfifo pipe; (echo through >pipe &) ; read line <pipe; echo $line
        yes | head -1000 | sort | uniq -c | tr -s ' '; for i in 1 2 3; do (sleep 0.0$i; echo $i >done.$i) & done; wait; cat done.*; umask"""),
    Program("coreutils", "coreutils findutils", "sort find xargs split", r"""
        seq 1000 >n; sort -rn n | head -3; split -l 300 n part.; wc -l part.* | tail -1; paste -sd+ n | wc -c; shuf --random-source=n n | md5sum
        sha256sum n | cut -c1-16; base64 n | tail -1; od -An -tx1 n | head -1; numfmt --to=iec 1048576; date -u -d @0 +%F; factor 1001; expr 6 \* 7
        mkdir -p a/b/c; touch -d '2020-01-01 UTC' a/b/c/f; ln -s b a/link; ln a/b/c/f a/hard; cp -a a z; find z -printf '%y %P %l\n' | sort; stat -c '%a %h %Y' z/hard
        chmod 640 n; install -m 700 n i; ls -l i | cut -c1-10; dd if=/dev/zero of=zero bs=1k count=64 status=none; du -b zero; truncate -s 1M sparse; stat -c %s sparse
        timeout 0.1 sleep 5; echo $?; nice -n 5 nice; nohup true 2>/dev/null; tee copy <n | tail -1; comm -12 n copy | wc -l; seq 20 | xargs -P4 -n1 echo | sort -n | tail -1; env -i A=1 env; realpath --relative-to=. a/link; mktemp -d -p . | wc -l; df . >/dev/null && echo df; id -u >/dev/null && echo id; tty || true; nproc | grep -c .; truncate -s 0 n; rm -rf a z"""),
    Program("sed, awk, grep, diff, patch", "sed gawk grep diffutils patch", "sed awk grep diff patch", r"""
        seq 10 | sed -n '3,5p;$p'; printf 'a b\nc d\n' | awk '{ print $2, NR; n += length($0) } END { print n | "cat"; close("cat"); "echo piped" | getline x; print x }'
        seq 5 >one; sed -i.bak 's/3/three/' one; diff -u one.bak one | grep '^[-+][^-+]'; cp one.bak two; diff -u one.bak one | patch -s two; cmp one two && echo patched; grep -rlE 'thr?ee' . | sort"""),
    Program("tar, gzip, bzip2, xz: round trip", "tar gzip bzip2 xz-utils", "tar gzip bzip2 xz", r"""
        mkdir -p d/sub; seq 5000 >d/sub/n; ln -s sub/n d/link; ln d/sub/n d/hard; chmod 4640 d/sub/n 2>/dev/null; chmod 640 d/sub/n; mkfifo d/fifo
        for z in gz bz2 xz; do tar caf x.tar.$z d; mkdir out.$z; tar xpf x.tar.$z -C out.$z; diff -r --no-dereference --exclude fifo d out.$z/d && stat -c '%a %h' out.$z/d/hard; done; tar tzf x.tar.gz | sort; gzip -t x.tar.gz && echo whole"""),
    Program("tar as root unpacks foreign owners", "tar", "tar", r"""
        mkdir d; echo x >d/f; tar --owner=4321 --group=4321 -cf x.tar d; mkdir out; tar --no-same-owner -xf x.tar -C out; cat out/d/f"""),
    Program("zip and unzip: round trip", "zip unzip", "zip unzip", r"""
        mkdir -p d/sub; seq 5000 >d/sub/n; zip -qr x.zip d; unzip -qo x.zip -d out; diff -r d out/d && echo same; unzip -l x.zip | tail -1 | tr -s ' '"""),
    Program("git: commit, branch, merge, clone, gc", "git", "git", r"""
        export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'; git config --global user.email a@b; git config --global user.name n; git config --global init.defaultBranch main
        git init -q one; cd one; for i in 1 2 3; do seq $((i * 100)) >f$i; git add .; git commit -qm "c$i"; done; git checkout -qb side HEAD~1; echo s >s; git add s; git commit -qm s; git checkout -q main; git merge -q --no-edit side
        git gc -q; cd ..; git clone -q one two; git clone -q --depth 1 "file://$PWD/one" three; git -C two log --format=%s | sort; git -C three log --oneline | wc -l; git -C two rev-parse HEAD; git -C two fsck 2>/dev/null && echo sound; git -C one worktree add -q ../w side && ls w; git -C two stash list; git -C one bundle create -q b main && git bundle verify -q one/b 2>/dev/null; echo $?"""),
    Program("gcc and make: a library and a program", "gcc make libc6-dev", "gcc make ar", r"""
        mkdir src; for i in $(seq 12); do printf '#include <stdio.h>\nint f%s(int x) { return printf("") + x * %s; }\n' $i $i >src/f$i.c; done
        { for i in $(seq 12); do echo "int f$i(int);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int s = 0;'; for i in $(seq 12); do echo "s += f$i($i);"; done; echo 'printf("%d\n", s); return 0; }'; } >src/main.c
        printf 'O := $(patsubst src/f%%.c,f%%.o,$(wildcard src/f*.c))\nall: prog shared\n%%.o: src/%%.c\n\t@gcc -O2 -fPIC -c $< -o $@\nlib.a: $(O)\n\t@ar rcs $@ $^\nprog: src/main.c lib.a\n\t@gcc -O2 $^ -o $@\nshared: src/main.c lib.so\n\t@gcc src/main.c ./lib.so -o $@\nlib.so: $(O)\n\t@gcc -shared -o $@ $^\n' >Makefile
        make -j4 && ./prog && ./shared && make -q && echo "up to date" """, 1024),
    Program("g++: the standard library, threads, exceptions", "g++", "g++", r"""
        printf '#include <algorithm>\n#include <atomic>\n#include <future>\n#include <iostream>\n#include <map>\n#include <stdexcept>\n#include <thread>\n#include <vector>\nint main() { std::atomic<int> n{0}; std::vector<std::thread> t; for (int i = 0; i < 8; i++) t.emplace_back([&] { for (int j = 0; j < 1000; j++) n++; }); for (auto &x : t) x.join(); auto f = std::async(std::launch::async, [] { return 41; }); try { throw std::runtime_error("caught"); } catch (const std::exception &e) { std::cout << e.what() << n + f.get() << std::endl; } }\n' >p.cc
        g++ -O1 -std=c++17 -pthread p.cc -o p && ./p""", 2048),
    Program("node: files, workers, children, crypto", "nodejs", "node", r"""
        cat >p.js <<'END'
const fs = require('fs'), { Worker, isMainThread, parentPort } = require('worker_threads'), { execFileSync, spawn } = require('child_process'), crypto = require('crypto'), zlib = require('zlib'), net = require('net');
if (!isMainThread) { parentPort.postMessage(6 * 7); } else { (async () => {
  fs.writeFileSync('f', 'x'.repeat(1e6)); console.log(crypto.createHash('sha256').update(fs.readFileSync('f')).digest('hex').slice(0, 16));
  console.log(await new Promise(r => new Worker(__filename).on('message', r))); console.log(execFileSync('echo', ['child']).toString().trim());
  console.log(zlib.gunzipSync(zlib.gzipSync(Buffer.from('zipped'))).toString()); console.log(await fs.promises.readdir('.').then(l => l.sort().join()));
  await new Promise(r => { const s = net.createServer(c => c.end('over loopback')).listen(0, '127.0.0.1', () => net.connect(s.address().port, '127.0.0.1').on('data', d => { console.log(d.toString()); s.close(r); })); });
  setTimeout(() => console.log('timer'), 5);
  const w = new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])); console.log(w instanceof WebAssembly.Module);
})(); }
END
        node p.js""", 1024),
    Program("npm: pack, install and run without a network", "nodejs npm", "npm node", r"""
        export npm_config_cache=$PWD/cache npm_config_update_notifier=false npm_config_audit=false npm_config_fund=false
        mkdir dep app; cd dep; echo '{"name":"dep","version":"1.2.3","main":"i.js","bin":{"dep-tool":"i.js"}}' >package.json; printf '#!/usr/bin/env node\nmodule.exports = 42; if (require.main === module) console.log("bin");\n' >i.js; npm pack --silent
        cd ../app; echo '{"name":"app","version":"0.0.1","scripts":{"test":"node -e \"console.log(require(\\\"dep\\\"))\""}}' >package.json
        npm install --silent --offline ../dep/dep-1.2.3.tgz && npm test --silent && npx --offline dep-tool && npm ls | tail -2 | head -1""", 2048),
    Program("pip: a venv, a local wheel, an entry point", "python3-venv", "/usr/bin/python3", r"""
        mkdir -p src/pack; echo 'def main(): print("entry point")' >src/pack/__init__.py; mkdir -p wheel/pack-1.0.dist-info; cp -r src/pack wheel/; cd wheel
        printf 'Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n' >pack-1.0.dist-info/METADATA; printf 'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n' >pack-1.0.dist-info/WHEEL; printf '[console_scripts]\npack = pack:main\n' >pack-1.0.dist-info/entry_points.txt; : >pack-1.0.dist-info/RECORD
        /usr/bin/python3 -c 'import shutil; shutil.make_archive("../pack-1.0-py3-none-any", "zip", ".")'; cd ..; mv pack-1.0-py3-none-any.zip pack-1.0-py3-none-any.whl
        /usr/bin/python3 -m venv v && v/bin/pip install -q --no-index --disable-pip-version-check ./pack-1.0-py3-none-any.whl && v/bin/pack && v/bin/pip list --format=freeze --disable-pip-version-check | grep pack""", 1024),
    Program("python: threads, processes, asyncio, sqlite, ctypes", "python3", "/usr/bin/python3", r"""
        cat >p.py <<'END'
import asyncio, concurrent.futures as cf, ctypes, json, multiprocessing as mp, os, queue, signal, socket, sqlite3, subprocess, tempfile, threading, time, mmap, select
def square(n): return n * n
async def many():
    server = await asyncio.start_server(lambda r, w: (w.write(b"hi"), w.close()), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    print((await reader.read()).decode()); writer.close(); server.close()
    p = await asyncio.create_subprocess_exec("echo", "async child", stdout=-1); print((await p.communicate())[0].decode().strip())
if __name__ == "__main__":
    with mp.Pool(3) as pool: print(sum(pool.map(square, range(100))))
    with mp.get_context("spawn").Pool(1) as pool: print(pool.apply(square, (9,)))
    with cf.ProcessPoolExecutor(2) as e: print(list(e.map(square, range(4))))
    with cf.ThreadPoolExecutor(8) as e: print(sum(e.map(square, range(100))))
    q = mp.Queue(); mp.Process(target=q.put, args=("queued",)).start(); print(q.get())
    with mp.Manager() as m: d = m.dict(); d["k"] = 1; print(dict(d))
    asyncio.run(many())
    db = sqlite3.connect("f.db"); db.execute("pragma journal_mode=wal"); db.execute("create virtual table t using fts5(x)"); db.execute("insert into t values('hello world')"); print(db.execute("select count(*) from t where t match 'world'").fetchone()); db.close()
    print(ctypes.CDLL(None).abs(-5)); callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(square); print(callback(7))
    from multiprocessing import shared_memory; s = shared_memory.SharedMemory(create=True, size=64); s.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()
    signal.signal(signal.SIGALRM, lambda *a: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.05)
    pid, fd = os.forkpty()
    if pid == 0: print("on a terminal", os.isatty(1), flush=True); os._exit(0)
    print(os.fdopen(fd).readline().strip()); os.waitpid(pid, 0)
    print(subprocess.run("exit 3", shell=True).returncode, os.sched_getaffinity(0) != set(), os.cpu_count() > 0)
END
        /usr/bin/python3 p.py""", 1024),
    Program("sqlite3: transactions, WAL, full text", "sqlite3", "sqlite3", r"""
        sqlite3 f.db "pragma journal_mode=wal; create table t(a integer primary key, b text); with recursive c(x) as (select 1 union all select x+1 from c where x<10000) insert into t select x, hex(x) from c; begin; delete from t where a>100; rollback; select count(*), sum(a), max(b) from t; create virtual table s using fts5(b); insert into s select b from t; select count(*) from s where s match '31'; vacuum; pragma integrity_check;"; sqlite3 -json f.db "select 1 as one"; sqlite3 f.db .dump | wc -l"""),
    Program("perl: regular expressions, fork, sockets", "perl", "perl", r"""
        perl -MFile::Temp=tempfile -MIO::Socket::INET -MPOSIX=strftime -MList::Util=sum -MTime::HiRes=sleep -e '
        $_ = "a1b22c333"; print join(",", /(\d+)/g), "\n"; print sum(1..10), " ", strftime("%Y", gmtime(0)), "\n"; my ($fh, $name) = tempfile(); print $fh "x" x 10; close $fh; print -s $name, "\n"; unlink $name;
        my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!; if (!fork) { my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1:" . $s->sockport); print $c "hello\n"; exit 0 } my $c = $s->accept; print scalar <$c>; wait; print $?, "\n"; print `echo shell`; sleep 0.01; local $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select(undef, undef, undef, 1.5)'"""),
    Program("java: compile, threads, files, processes", "openjdk-17-jdk-headless", "javac java", r"""
        cat >P.java <<'END'
import java.nio.file.*; import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
public class P { public static void main(String[] a) throws Exception {
  System.out.println(IntStream.rangeClosed(1, 1000).parallel().sum()); Files.writeString(Path.of("f"), "text"); System.out.println(Files.readString(Path.of("f")));
  ExecutorService e = Executors.newFixedThreadPool(4); System.out.println(e.submit(() -> 42).get()); e.shutdown();
  Process p = new ProcessBuilder("echo", "child").start(); System.out.println(new String(p.getInputStream().readAllBytes()).trim() + p.waitFor());
  try { Object o = null; o.toString(); } catch (NullPointerException x) { System.out.println("null"); }
  try (var s = new java.net.ServerSocket(0, 1, java.net.InetAddress.getLoopbackAddress())) { var c = new java.net.Socket(s.getInetAddress(), s.getLocalPort()); System.out.println(s.accept() != null); c.close(); }
} }
END
        javac -J-Xmx256m P.java && java -Xmx256m P""", 3072, 300),
    Program("openssl, ssh-keygen", "openssl openssh-client", "openssl ssh-keygen", r"""
        echo text | openssl enc -aes-256-cbc -pbkdf2 -k pw | openssl enc -d -aes-256-cbc -pbkdf2 -k pw; openssl genrsa -out k 2048 2>/dev/null; openssl rsa -in k -check -noout 2>&1 | tail -1; ssh-keygen -q -t ed25519 -N '' -f id && wc -l <id.pub"""),
    Program("bc, m4, file, xxd", "bc m4 file xxd", "bc m4 file xxd", r"""
        echo '2^100' | bc; echo 'scale=20; 4*a(1)' | bc -l; echo 'define(x,42)x' | m4; echo '#!/bin/sh' >s; file s; printf '\x01\xff' | xxd -p"""),
    Program("jq, rsync, less, vim in batch", "jq rsync less vim-tiny", "jq rsync less vi", r"""
        echo '{"a":[1,2,{"b":3}]}' | jq -c '.a[2].b, (.a|length)'; mkdir x; seq 100 >x/n; rsync -a x/ y/ && diff -r x y && echo synced; less x/n | tail -1; vi -es -c '%s/100/hundred/' -c 'wq' x/n; tail -1 x/n"""),
)  # fmt: skip

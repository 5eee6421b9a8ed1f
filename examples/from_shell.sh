#!/bin/sh
# JSON from the shell: build a request, run it, read the answer. Only sh, capsule-run and Python's json are needed.
#
#   examples/from_shell.sh
set -eu

# One value out of a JSON answer on stdin, such as `field error.code`. (printf, because some shells' echo reads backslashes.)
field() {
	python3 -c '
import functools, json, sys
value = functools.reduce(lambda found, name: (found or {}).get(name), sys.argv[1].split("."), json.load(sys.stdin))
print("" if value is None else value, end="")' "$1"
}

# The exit code is the command's own, so `set -e` would end this script where the command fails: keep it instead.
status=0
answer=$(capsule-run --json <<'REQUEST'
{
  "command": ["sh", "-c", "sort -n; echo sorted >&2"],
  "stdin": "10\n9\n1\n",
  "timeout_ms": 5000,
  "resources": {"memory_bytes": 67108864, "max_pids": 8},
  "execution_id": "from-shell-1"
}
REQUEST
) || status=$?

echo "exit code $status, status $(printf %s "$answer" | field status), id $(printf %s "$answer" | field execution_id)"
printf %s "$answer" | field stdout

status=0
answer=$(echo '{"command": ["sh", "-c", "echo so far; sleep 60"], "timeout_ms": 200}' | capsule-run --json) || status=$?
echo "exit code $status, status $(printf %s "$answer" | field status), code $(printf %s "$answer" | field error.code)"
printf %s "$answer" | field stdout

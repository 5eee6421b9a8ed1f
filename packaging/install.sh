#!/bin/sh
# Install the static file of capsule-run @VERSION@: downloads it and the checksums, compares, and copies it to a directory.
#
#   sh install.sh [DIRECTORY]    default: ~/.local/bin; of root /usr/local/bin
#
# CAPSULE_RELEASE is another place that has the release's files: a URL, or a directory.
set -eu
version=@VERSION@
from=${CAPSULE_RELEASE:-https://github.com/haasonsaas/capsule-run/releases/download/v$version}
if [ "$(id -u)" = 0 ]; then default=/usr/local/bin; else default=$HOME/.local/bin; fi
directory=${1:-$default}
machine=$(uname -m)
name=capsule-run-$version-$machine

fail() { printf 'error: %s\n' "$1" >&2; exit 1; }
fetch() {
	case "$from" in
	/*) cp "$from/$1" "$1" ;;
	*) if command -v curl >/dev/null; then curl -fsSLO "$from/$1"; else wget -q "$from/$1"; fi ;;
	esac || fail "cannot get $from/$1"
}

[ "$(uname -s)" = Linux ] || fail "capsule-run needs Linux"
case "$machine" in x86_64 | aarch64) ;; *) fail "there is no file for $machine: build it from source" ;; esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
fetch SHA256SUMS
fetch "$name.tar.gz"
grep " $name.tar.gz\$" SHA256SUMS >wanted || fail "SHA256SUMS does not name $name.tar.gz"
sha256sum -c wanted >/dev/null 2>&1 || fail "$name.tar.gz is not what SHA256SUMS says: nothing was installed"
tar -xzf "$name.tar.gz"
mkdir -p "$directory"
cp "$name/capsule-run" "$directory/.capsule-run.new"
mv "$directory/.capsule-run.new" "$directory/capsule-run"
printf 'installed %s\n' "$directory/capsule-run"
case ":$PATH:" in *":$directory:"*) ;; *) printf 'add %s to your PATH\n' "$directory" ;; esac

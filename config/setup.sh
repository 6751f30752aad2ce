#!/bin/sh
# setup.sh REQUIREMENTS STAMP: make .venv with the packages of a requirements file, then STAMP. Says what the system
# lacks, and installs it with apt-get where it may. The first python3 on PATH may be too old: newer names are tried too.
set -eu
cd "$(dirname "$0")/.."

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if new_enough "$name"; then command -v "$name"; return; fi
    done
}

lacking() {
    command -v git >/dev/null || echo git ca-certificates
    command -v tmux >/dev/null || echo tmux
    python=$(find_python)
    [ -n "$python" ] || echo python3
    [ -n "$python" ] && "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    [ "$1" = config/requirements-dev.txt ] || return 0
    command -v gh >/dev/null || echo gh
    command -v npm >/dev/null || echo npm ca-certificates  # for GitHub's schema
}

install() {
    as_root=
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
        echo "setup: this system lacks: $*; install these, then run make again" >&2
        exit 1
    fi
    echo "setup: installing $* with apt-get" >&2
    as_root="$as_root env DEBIAN_FRONTEND=noninteractive"
    { $as_root apt-get update && $as_root apt-get install -y --no-install-recommends "$@"; } >/dev/null
}

missing=$(lacking "$1" | tr '\n' ' ')
# shellcheck disable=SC2086  # several words
[ -z "$missing" ] || install $missing
python=$(find_python)
[ -n "$python" ] || { echo "setup: needs Python 3.11 or newer, found $(python3 --version 2>&1)" >&2; exit 1; }
if ! new_enough .venv/bin/python; then
    echo "setup: making .venv with $python" >&2
    "$python" -m venv --clear .venv
fi
.venv/bin/python -m pip install -q --disable-pip-version-check -r "$1"
touch "$2"

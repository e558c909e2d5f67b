# What the peers' scripts share: temporary directories, free ports, starting and stopping by process id.
# shellcheck shell=bash

PIDS=()      # of everything started
DIRS=()      # temporary directories

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A fresh directory, in $DIR, removed at the end.
new_dir() {
    DIR=$(mktemp -d "${BENCH_TMP:-/tmp}/mammoth-peers.XXXXXX")
    DIRS+=("$DIR")
    chmod 711 "$DIR"
}

# A free loopback port.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_port PORT PID SECONDS
wait_port() {
    local tries=$(($3 * 10))
    while ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; do
        kill -0 "$2" 2> /dev/null || return 1
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
}

# stop_pid PID: asks, waits, insists.
stop_pid() {
    local i
    kill -TERM "$1" 2> /dev/null || return 0
    for ((i = 0; i < 100; i++)); do
        kill -0 "$1" 2> /dev/null || break
        sleep 0.1
    done
    kill -KILL "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || true
}

# stop_all: everything started since the last call, last first, and the directories.
stop_all() {
    local i
    for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do stop_pid "${PIDS[i]}"; done
    PIDS=()
    for i in "${DIRS[@]}"; do
        case $i in */mammoth-peers.*) rm -rf -- "$i" ;; esac
    done
    DIRS=()
}

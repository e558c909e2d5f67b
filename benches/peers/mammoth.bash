# Mammoth from this source tree, release build, with a private configuration: archive embedded, or in a private PostgreSQL.
# shellcheck shell=bash disable=SC2034

# start_mammoth embedded|pg ACCOUNTS-FILE: sets PORT, PID, COMMAND, DURABILITY.
start_mammoth() {
    local storage=$1 accounts=$2 name archive='archive = "embedded"'
    new_dir
    DURABILITY="durable before delivery in both archives (group commit, synchronous=FULL)"
    if [ "$storage" = pg ]; then
        start_postgres
        archive='archive = "postgresql"

[storage.postgresql]
url = "postgresql://bench@127.0.0.1:'$SQL_PORT'/bench"'
        DURABILITY="durable before delivery in both archives ($SQL_SETTINGS)"
    fi
    PORT=$(free_port)
    cat > "$DIR/mammoth.toml" <<END
domain = "localhost"
data = "$DIR/data"
modules_enabled = ["roster", "carbons", "mam"]
max_archive_query_results = 50
default_archive_policy = true
archive_expires_after = "never"

[listen]
c2s = []
c2s_tls = []
c2s_plain = ["127.0.0.1:$PORT"]

[storage]
$archive
END
    while read -r name; do
        echo pencil | "$MAMMOTH" account add "$name@localhost" --password-stdin --config "$DIR/mammoth.toml" \
            > "$DIR/accounts.log" 2>&1 || { cat "$DIR/accounts.log" >&2; die "mammoth refused account $name"; }
    done < "$accounts"
    COMMAND=("$MAMMOTH" serve --config "$DIR/mammoth.toml")
    "${COMMAND[@]}" > "$DIR/out.log" 2>&1 9>&- &
    PID=$!
    PIDS+=("$PID")
    wait_port "$PORT" "$PID" 20 || { cat "$DIR"/*.log >&2; die "mammoth did not start"; }
    VERSION=$(git -C "$ROOT" describe --always --dirty 2> /dev/null || echo unknown)
}

# Mammoth from this source tree, release build, with a private configuration.
# shellcheck shell=bash disable=SC2034

# start_mammoth ACCOUNTS-FILE: sets PORT, PID, COMMAND, DURABILITY.
start_mammoth() {
    local accounts=$1 name
    new_dir
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
archive = "embedded"
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
    DURABILITY="durable before delivery in both archives (group commit, synchronous=FULL)"
    VERSION=$(git -C "$ROOT" describe --always --dirty 2> /dev/null || echo unknown)
}

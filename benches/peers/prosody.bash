# Prosody from Debian with a private configuration: archive in its own files, in SQLite, or in a private PostgreSQL.
# shellcheck shell=bash disable=SC2034

# start_prosody internal|sql|pg ACCOUNTS-FILE: sets PORT, PID, COMMAND, DURABILITY.
start_prosody() {
    local storage=$1 accounts=$2 sql=
    new_dir
    PORT=$(free_port)
    if [ "$storage" = sql ]; then
        sql='storage = { archive = "sql" }
sql = { driver = "SQLite3", database = "'$DIR'/archive.sqlite" }'
        DURABILITY="durable at commit (SQLite defaults: rollback journal, synchronous=FULL, one transaction per archive entry)"
    elif [ "$storage" = pg ]; then
        start_postgres
        sql='storage = { archive = "sql" }
sql = { driver = "PostgreSQL", host = "127.0.0.1", port = '$SQL_PORT', database = "bench", username = "bench", password = "bench" }'
        DURABILITY="durable at commit ($SQL_SETTINGS; one transaction per archive entry)"
    else
        DURABILITY="not synced: written to files, the kernel decides when they reach the disk"
    fi
    mkdir -p "$DIR/data/localhost/accounts"
    cat > "$DIR/prosody.cfg.lua" <<END
-- no limits, no offline queue, no other servers
run_as_root = $([ "$(id -u)" = 0 ] && echo true || echo false)
daemonize = false
pidfile = "$DIR/prosody.pid"
data_path = "$DIR/data"
certificates = "$DIR"
modules_enabled = { "roster", "saslauth", "disco", "ping", "mam", "carbons" }
modules_disabled = { "s2s", "offline", "tls" }
c2s_interfaces = { "127.0.0.1" }
c2s_ports = { $PORT }
c2s_direct_tls_ports = {}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
default_archive_policy = true
max_archive_query_results = 50
archive_expires_after = "never"
$sql
log = { warn = "$DIR/prosody.log" }
VirtualHost "localhost"
END
    # All accounts have the same password, so their hashes may be the same.
    python3 - "$DIR/data/localhost/accounts" "$accounts" <<'END'
import hashlib, hmac, sys
salt, rounds = "d6a4f1c2-mammoth-bench", 10000
salted = hashlib.pbkdf2_hmac("sha1", b"pencil", salt.encode(), rounds)
key = lambda name: hmac.new(salted, name, "sha1").digest()
stored, server = hashlib.sha1(key(b"Client Key")).hexdigest(), key(b"Server Key").hex()
data = (f'return {{\n\t["iteration_count"] = {rounds};\n\t["salt"] = "{salt}";\n'
        f'\t["stored_key"] = "{stored}";\n\t["server_key"] = "{server}";\n}};\n')
escape = lambda name: "".join(c if c.isascii() and c.isalnum() else "%%%02x" % ord(c) for c in name)
for name in open(sys.argv[2]).read().split():
    open(f"{sys.argv[1]}/{escape(name)}.dat", "w").write(data)
END
    COMMAND=(prosody --config "$DIR/prosody.cfg.lua")
    "${COMMAND[@]}" > "$DIR/out.log" 2>&1 9>&- &
    PID=$!
    PIDS+=("$PID")
    wait_port "$PORT" "$PID" 20 || { cat "$DIR"/*.log >&2; die "prosody did not start"; }
    VERSION=$(dpkg-query -W -f '${Version}' prosody)
}

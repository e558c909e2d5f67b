# ejabberd from Debian with a private configuration: archive in Mnesia, or in a private PostgreSQL.
# shellcheck shell=bash disable=SC2034

# start_ejabberd mnesia|pg ACCOUNTS-FILE: sets PORT, PID, COMMAND, DURABILITY.
start_ejabberd() {
    local storage=$1 accounts=$2 sql= db=mnesia api
    new_dir
    # ejabberd runs as the caller; its files must be reachable for PostgreSQL's user only in their own directory.
    if [ "$storage" = pg ]; then
        start_postgres
        psql -qX -h 127.0.0.1 -p "$SQL_PORT" -U bench -d bench -f /usr/share/ejabberd/sql/pg.sql > "$DIR/schema.log" 2>&1
        db=sql
        sql="sql_type: pgsql
sql_server: \"127.0.0.1\"
sql_port: $SQL_PORT
sql_database: bench
sql_username: bench
sql_password: bench
sql_pool_size: 10"
        DURABILITY="durable at commit ($SQL_SETTINGS)"
    else
        DURABILITY="not synced: Mnesia disc_only_copies (DETS), saved every few minutes and on close"
    fi
    PORT=$(free_port)
    api=$(free_port)
    cat > "$DIR/ejabberd.yml" <<END
hosts: [localhost]
loglevel: warning
auth_method: internal
auth_password_format: scram
$sql
listen:
  - port: $PORT
    ip: "127.0.0.1"
    module: ejabberd_c2s
    max_stanza_size: infinity
    shaper: none
    access: all
    backlog: 1024
  - port: $api
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: { /api: mod_http_api }
api_permissions:
  "bench":
    who: [{ ip: "127.0.0.1/8" }]
    what: [register, status]
max_fsm_queue: 1000000
modules:
  mod_carboncopy: {}
  mod_disco: {}
  mod_ping: {}
  mod_roster: {}
  mod_mam:
    default: always
    db_type: $db
    compress_xml: false
    request_activates_archiving: false
END
    mkdir "$DIR/spool"
    local ebin
    ebin=$(ls -d /usr/lib/*/ejabberd-*/ebin | tail -1)
    # Not distributed: no epmd, no cookie.
    COMMAND=(env EJABBERD_CONFIG_PATH="$DIR/ejabberd.yml" EJABBERD_LOG_PATH="$DIR/ejabberd.log" HOME="$DIR"
        ERL_CRASH_DUMP="$DIR/crash.dump" erl +K true +P 250000 -noinput -start_epmd false -pa "$ebin"
        -mnesia dir "\"$DIR/spool\"" -s ejabberd)
    "${COMMAND[@]}" > "$DIR/out.log" 2>&1 9>&- &
    PID=$!
    PIDS+=("$PID")
    wait_port "$PORT" "$PID" 60 && wait_port "$api" "$PID" 20 \
        || { cat "$DIR"/*.log >&2; die "ejabberd did not start"; }
    # One connection for all registrations.
    python3 - "$api" "$accounts" <<'END' || die "ejabberd refused to register accounts"
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for name in open(sys.argv[2]).read().split():
    body = json.dumps({"user": name, "host": "localhost", "password": "pencil"})
    connection.request("POST", "/api/register", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        sys.exit(f"{name}: {answer.status} {text}")
END
    VERSION=$(dpkg-query -W -f '${Version}' ejabberd)
}

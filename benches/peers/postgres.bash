# A private PostgreSQL for whichever peer stores its archive in one: the same settings for all of them.
# shellcheck shell=bash disable=SC2034

# as_postgres COMMAND…: PostgreSQL refuses to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# sql_shows SETTING
sql_shows() {
    psql -qXAt -h 127.0.0.1 -p "$SQL_PORT" -U bench -d bench -c "show $1"
}

# start_postgres: a server in $DIR with an empty database "bench"; sets SQL_PORT, SQL_PID, SQL_SETTINGS.
start_postgres() {
    local bin
    bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
    SQL_PORT=$(free_port)
    mkdir "$DIR/pg"
    [ "$(id -u)" != 0 ] || chown postgres "$DIR/pg"
    as_postgres "$bin/initdb" -D "$DIR/pg" -U bench -A trust -E UTF8 > "$DIR/initdb.log" 2>&1
    as_postgres sh -c "echo \"port = $SQL_PORT
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
synchronous_commit = on
shared_buffers = 512MB
max_wal_size = 4GB
max_connections = 60\" >> '$DIR/pg/postgresql.conf'"
    # exec, so that the process id is that of the server itself.
    (
        if [ "$(id -u)" = 0 ]; then
            exec setpriv --reuid=postgres --regid=postgres --init-groups "$bin/postgres" -D "$DIR/pg"
        else
            exec "$bin/postgres" -D "$DIR/pg"
        fi
    ) > "$DIR/pg.log" 2>&1 9>&- &
    SQL_PID=$!
    PIDS+=("$SQL_PID")
    local i
    for ((i = 0; i < 100; i++)); do
        ! psql -qX -h 127.0.0.1 -p "$SQL_PORT" -U bench -d postgres -c 'select 1' > /dev/null 2>&1 || break
        sleep 0.1
    done
    psql -qX -h 127.0.0.1 -p "$SQL_PORT" -U bench -d postgres -c 'create database bench' \
        || { cat "$DIR/pg.log" >&2; die "postgresql did not start"; }
    SQL_SETTINGS="PostgreSQL, fsync=$(sql_shows fsync), synchronous_commit=$(sql_shows synchronous_commit)"
}

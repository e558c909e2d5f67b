#!/usr/bin/env python3
"""Turns a script of messages (lines of number, contact, body, as `mammoth-bench script` prints them) into the rows that
a peer itself would have stored for their sender, because sending a hundred thousand messages takes some peers an hour.

    prefill.py prosody OWNER        prints a Prosody .list file
    prefill.py prosody-sql OWNER DATABASE   inserts into a Prosody SQLite database
    prefill.py prosody-pg OWNER     prints rows for COPY prosodyarchive (host, "user", ...) FROM STDIN
    prefill.py ejabberd-pg OWNER    prints rows for COPY archive (username, timestamp, ...) FROM STDIN
"""

import sqlite3
import sys
import time
import uuid

HOST = "localhost"
# One message every two seconds, the last one a minute ago: stamps differ even where only seconds are stored.
STEP_S = 2


def messages(depth):
    start = int(time.time()) - 60 - depth * STEP_S
    for line in sys.stdin:
        seq, contact, body = line.rstrip("\n").split("\t")
        yield int(seq), f"{contact}@{HOST}", body, start + int(seq) * STEP_S


def xml(owner, seq, to, body, namespace, extra):
    return (
        f"<message xml:lang='en' type='chat' to='{to}' id='{owner}-{seq}' from='{owner}@{HOST}/bench'{namespace}>"
        f"<body>{body}</body><origin-id id='{owner}-{seq}' xmlns='urn:xmpp:sid:0'/>"
        f"<request xmlns='urn:xmpp:receipts'/>{extra}</message>"
    )


def prosody(owner, rows):
    for seq, to, body, when in rows:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
        sys.stdout.write(
            f'item({{\n\t{{\n\t\t"{body}";\n\t\t["name"] = "body";\n\t\t["attr"] = {{}};\n\t}};\n'
            f'\t{{\n\t\t["name"] = "origin-id";\n\t\t["attr"] = {{\n\t\t\t["xmlns"] = "urn:xmpp:sid:0";\n'
            f'\t\t\t["id"] = "{owner}-{seq}";\n\t\t}};\n\t}};\n'
            f'\t{{\n\t\t["name"] = "request";\n\t\t["attr"] = {{\n\t\t\t["xmlns"] = "urn:xmpp:receipts";\n\t\t}};\n\t}};\n'
            f'\t["when"] = {when};\n\t["key"] = "{uuid.uuid4()}";\n\t["with"] = "{to}";\n\t["name"] = "message";\n'
            f'\t["attr"] = {{\n\t\t["stamp"] = "{stamp}";\n\t\t["to"] = "{to}";\n\t\t["from"] = "{owner}@{HOST}/bench";\n'
            f'\t\t["xml:lang"] = "en";\n\t\t["type"] = "chat";\n\t\t["id"] = "{owner}-{seq}";\n\t}};\n}});\n'
        )


def prosody_rows(owner, rows):
    # host, user, store, key, when, with, type, value
    for seq, to, body, when in rows:
        yield HOST, owner, "archive", str(uuid.uuid4()), when, to, "xml", xml(owner, seq, to, body, "", "")


def prosody_sql(owner, rows, database):
    connection = sqlite3.connect(database)
    with connection:
        connection.executemany(
            'INSERT INTO prosodyarchive (host, "user", store, "key", "when", "with", type, value)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            prosody_rows(owner, rows),
        )
    connection.close()


def prosody_pg(owner, rows):
    for row in prosody_rows(owner, rows):
        sys.stdout.write("\t".join(map(str, row)) + "\n")


def ejabberd_pg(owner, rows):
    extra = "<active xmlns='http://jabber.org/protocol/chatstates'/>"
    for seq, to, body, when in rows:
        stanza = xml(owner, seq, to, body, " xmlns='jabber:client'", extra)
        # username, timestamp, peer, bare_peer, xml, txt, kind, nick
        sys.stdout.write(f"{owner}\t{when * 1000000}\t{to}\t{to}\t{stanza}\t{body}\tchat\t\n")


def main():
    kind, owner = sys.argv[1:3]
    rows = messages(int(owner.lstrip("abcdefghijklmnopqrstuvwxyz-")))
    if kind == "prosody":
        prosody(owner, rows)
    elif kind == "prosody-sql":
        prosody_sql(owner, rows, sys.argv[3])
    elif kind == "prosody-pg":
        prosody_pg(owner, rows)
    elif kind == "ejabberd-pg":
        ejabberd_pg(owner, rows)
    else:
        sys.exit(f"unknown kind {kind}")


main()

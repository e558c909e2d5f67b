"""What else Prosody keeps in archives, in ours: messages for those who are away, personal eventing, a publish-subscribe
service, and the slots of file sharing. Each is written, found again after a restart, and removed by Prosody's own modules."""

import http.client
import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))
from prosody import HOST, PASSWORD, PATIENCE_SECONDS, ROOMS, Prosody, free_port  # noqa: E402
from xmpp import CLIENT, Client, Refused  # noqa: E402

PUBSUB = "http://jabber.org/protocol/pubsub"
UPLOAD = "urn:xmpp:http:upload:0"
SERVICE = f"pubsub.{HOST}"
SHARE = f"upload.{HOST}"
STORES = ("archive", "muc_log", "offline", "pep_data", "pubsub_data", "uploads")
AWAY = [f"while you were away {i}" for i in range(5)]
# Enough for the first to be handed out while the last are still coming.
MANY = [f"while you come back {i}" for i in range(600)]
FILE = bytes(range(256)) * 8


def log_in(server, user):
    return Client(server.port, user, PASSWORD)


def ask(client, kind, payload, to=None):
    answer = client.ask(kind, payload, to)
    if answer.get("type") != "result":
        raise Refused(answer)
    return answer


def publish(client, node, item, text, to=None):
    ask(
        client,
        "set",
        f"<pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='{item}'><note xmlns='urn:example:note'>{text}</note>"
        "</item></publish><publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>"
        f"<value>{PUBSUB}#publish-options</value></field><field var='pubsub#persist_items'><value>true</value></field>"
        "<field var='pubsub#max_items'><value>3</value></field></x></publish-options></pubsub>",
        to,
    )


def items(client, node, to=None):
    answer = ask(client, "get", f"<pubsub xmlns='{PUBSUB}'><items node='{node}'/></pubsub>", to)
    return {item.get("id"): item.findtext("{urn:example:note}note") for item in answer.iter(f"{{{PUBSUB}}}item")}


def retract(client, node, item, to=None):
    ask(client, "set", f"<pubsub xmlns='{PUBSUB}'><retract node='{node}'><item id='{item}'/></retract></pubsub>", to)


def notes(client, node, to=None):
    """Publishes, replaces, pushes out and retracts; answers what is left."""
    for i in range(4):
        publish(client, node, f"i{i}", f"text {i}", to)
    assert items(client, node, to) == {f"i{i}": f"text {i}" for i in (1, 2, 3)}, items(client, node, to)
    publish(client, node, "i2", "another text", to)
    retract(client, node, "i3", to)
    left = {"i1": "text 1", "i2": "another text"}
    assert items(client, node, to) == left, items(client, node, to)
    return left


def http_request(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    headers = {"Host": SHARE, **({"Content-Type": "application/octet-stream"} if body else {})}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, read


def share(client, port):
    """Uploads a file; answers its path."""
    request = f"<request xmlns='{UPLOAD}' filename='f.bin' size='{len(FILE)}' content-type='application/octet-stream'/>"
    slot = ask(client, "get", request, SHARE)
    put, get = (slot.find(f"{{{UPLOAD}}}slot/{{{UPLOAD}}}{name}") for name in ("put", "get"))
    token = put.findtext(f"{{{UPLOAD}}}header[@name='Authorization']")
    path = lambda element: "/" + element.get("url").split("/", 3)[3]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    headers = {"Host": SHARE, "Content-Type": "application/octet-stream"}
    connection.request("PUT", path(put), FILE, {**headers, **({"Authorization": token} if token else {})})
    assert connection.getresponse().status == 201
    connection.close()
    return path(get)


def delayed(client, count):
    """The next messages, each with the stamp of when it was kept."""
    bodies = []
    while len(bodies) < count:
        stanza = client.next(PATIENCE_SECONDS)
        if stanza.tag == CLIENT + "message" and stanza.find(CLIENT + "body") is not None:
            assert stanza.find("{urn:xmpp:delay}delay") is not None
            bodies.append(stanza.findtext(CLIENT + "body"))
    return bodies


def bodies_of(client, count):
    """The texts of the next messages."""
    texts = (client.next(PATIENCE_SECONDS).findtext(CLIENT + "body") for _ in iter(int, 1))
    return list(itertools.islice((text for text in texts if text is not None), count))


def come_back(server):
    """Bob logs in amid what alice sends him: each message comes once, by way of the store or at once."""
    alice, bob = log_in(server, "alice"), log_in(server, "bob")
    for body in MANY[: len(MANY) // 2]:
        alice.message(f"bob@{HOST}", body)
    bob.send("<presence/>")
    for body in MANY[len(MANY) // 2 :]:
        alice.message(f"bob@{HOST}", body)
    heard = bodies_of(bob, len(MANY))
    assert heard == MANY, (sorted(set(MANY) - set(heard)), len(heard) - len(set(heard)))
    alice.close()
    bob.close()


def join(server):
    """Bob joins a room in which alice speaks all the while: what was said before, then what is said, nothing twice."""
    alice, bob = log_in(server, "alice"), log_in(server, "bob")
    room, enter = f"talk@{ROOMS}", "<presence to='talk@{}/{}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
    alice.send(enter.format(ROOMS, "alice"))
    for body in MANY:
        alice.message(room, body, "groupchat")
        if body == MANY[len(MANY) // 2]:
            bodies_of(alice, len(MANY) // 4)
            bob.send(enter.format(ROOMS, "bob"))
    heard = bodies_of(bob, 1)
    heard += bodies_of(bob, len(MANY) - MANY.index(heard[0]) - 1)
    assert heard == MANY[-len(heard) :], heard
    alice.close()
    bob.close()


def main(native, lua):
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        settings = f"""
modules_disabled = {{ "s2s", "tls" }}
modules_enabled = {{ "roster", "saslauth", "disco", "mam", "offline", "pep", "cron" }}
http_ports = {{ {port} }}
http_interfaces = {{ "127.0.0.1" }}
admins = {{ "alice@{HOST}" }}
"""
        components = f"""
Component "{SERVICE}" "pubsub"
    autocreate_on_publish = true
Component "{SHARE}" "http_file_share"
    http_host = "{SHARE}"
    http_external_url = "http://{SHARE}:{port}/"
"""
        storage = "storage = { " + ", ".join(f"{store} = 'mammoth'" for store in STORES) + " }"
        with Prosody(directory, storage, ["alice", "bob"], settings, native, lua, components) as server:
            server.start()
            alice = log_in(server, "alice")
            for body in AWAY:
                alice.message(f"bob@{HOST}", body)
            mine = notes(alice, "urn:example:notes")
            news = notes(alice, "news", SERVICE)
            path = share(alice, port)
            assert http_request(port, "GET", path) == (200, FILE)
            alice.close()
            server.stop()
            server.start()
            bob = log_in(server, "bob").presence()
            assert delayed(bob, len(AWAY)) == AWAY
            bob.close()
            bob = log_in(server, "bob").presence()
            bob.message(f"bob@{HOST}", "nothing before this")
            assert bodies_of(bob, 1) == ["nothing before this"], "consumed messages came again"
            bob.close()
            come_back(server)
            join(server)
            print("  messages for those who are away")
            alice = log_in(server, "alice")
            assert items(alice, "urn:example:notes") == mine
            print("  personal eventing")
            assert items(alice, "news", SERVICE) == news
            retract(alice, "news", "i1", SERVICE)
            assert list(items(alice, "news", SERVICE)) == ["i2"]
            print("  publish-subscribe")
            assert http_request(port, "GET", path) == (200, FILE)
            print("  shared files")
            alice.close()
            server.finish()
            for store in STORES:
                elsewhere = [p for p in server.data.rglob(f"{store}*") if p.is_dir() and "mammoth" not in p.parts]
                assert not any(p.suffix in (".list", ".lidx") for d in elsewhere for p in d.rglob("*")), elsewhere
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""kill -9 of Prosody under load, then again on the same data: what was committed is there, in order, once. With durable
appends that is everything anybody was told of; without, everything but what fell into the commit window."""

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))
from prosody import HOST, PASSWORD, Prosody  # noqa: E402
from xmpp import CLIENT, Client, stanza_id  # noqa: E402

ROUNDS = 2
WINDOW_SECONDS = 1.0
# The kill comes after so many messages, in all.
HEARD = (300, 1500)
PATIENCE_SECONDS = 60
PAIRS = [("a", "b"), ("c", "d"), ("e", "f")]


def listen(client, heard):
    try:
        while True:
            at, stanza = client.next_at(30)
            if stanza.tag == CLIENT + "message":
                name = stanza_id(stanza, client.bare)
                if name:
                    heard.append((at, name, stanza.findtext(CLIENT + "body")))
    except (ConnectionError, OSError, TimeoutError):
        pass


def talk(client, to, number, stop):
    try:
        while not stop.is_set():
            client.message(to, f"message {next(number)}")
    except OSError:
        pass


def main(native, lua, durable):
    print(f"durable appends: {durable}")
    users = [user for pair in PAIRS for user in pair]
    with tempfile.TemporaryDirectory() as directory:
        storage = f"storage = {{ archive = 'mammoth', muc_log = 'mammoth' }}\nmammoth_durable_append = {str(durable).lower()}"
        with Prosody(directory, storage, users, 'archive_expires_after = "never"', native, lua) as server:
            known = {user: [] for user in users}
            for turn in range(ROUNDS):
                server.start()
                for user in users:
                    check(server, user, known[user])
                heard = {user: [] for user in users}
                stop = threading.Event()
                clients = {user: Client(server.port, user, PASSWORD).presence() for user in users}
                threads = []
                for a, b in PAIRS:
                    number = iter(range(turn * 1_000_000, 10**9))
                    threads.append(threading.Thread(target=listen, args=(clients[b], heard[b])))
                    threads.append(threading.Thread(target=talk, args=(clients[a], f"{b}@{HOST}", number, stop)))
                deadline = time.perf_counter() + PATIENCE_SECONDS
                for thread in threads:
                    thread.start()
                enough = random.randint(*HEARD)
                while sum(len(list) for list in heard.values()) < enough and time.perf_counter() < deadline:
                    threads[0].join(0.01)
                killed = time.perf_counter()
                server.kill()
                stop.set()
                for thread in threads:
                    thread.join()
                for client in clients.values():
                    client.close()
                server.start()
                for _, b in PAIRS:
                    client = Client(server.port, b, PASSWORD)
                    ids, _ = client.archive()
                    client.close()
                    assert len(ids) == len(set(ids)), "an id twice"
                    place = {name: i for i, name in enumerate(ids)}
                    old = known[b]
                    assert ids[: len(old)] == old, "what was there before has changed"
                    missing = [(at, name) for at, name, _ in heard[b] if name not in place]
                    must = [name for at, name, _ in heard[b] if durable or at < killed - WINDOW_SECONDS]
                    lost = [name for name in must if name not in place]
                    assert not lost, f"{len(lost)} of {len(must)} committed messages are lost"
                    order = [place[name] for _, name, _ in heard[b] if name in place]
                    assert order == sorted(order), "out of order"
                    if durable:
                        assert not missing
                    latest = max((killed - at for at, _ in missing), default=0)
                    print(
                        f"  round {turn + 1}, {b}: {len(heard[b])} heard, {len(ids) - len(old)} new in the archive, "
                        f"{len(missing)} not kept, the oldest of those {latest * 1000:.0f} ms before the kill"
                    )
                    known[b] = ids
                assert sum(len(list) for list in heard.values()) > 50, "there was no load"
                for a, _ in PAIRS:
                    client = Client(server.port, a, PASSWORD)
                    known[a] = client.archive()[0]
                    client.close()
                server.stop()
            assert not [line for line in server.errors() if "mammoth" in line], server.errors()
    print("ok")


def check(server, user, known):
    if known:
        client = Client(server.port, user, PASSWORD)
        ids, _ = client.archive()
        assert ids == known, "what was there before has changed"
        client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "durable")

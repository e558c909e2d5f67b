"""slixmpp against Debian's Prosody with our archives: two accounts and a room talk, page, catch up; Prosody restarts; old
messages expire; an account goes, and its archive with it."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))
from prosody import HOST, PASSWORD, ROOMS, Prosody  # noqa: E402

from slixmpp import ClientXMPP  # noqa: E402
from slixmpp.exceptions import IqError  # noqa: E402
from slixmpp.xmlstream import ET  # noqa: E402

MAM = "urn:xmpp:mam:2"
RSM = "http://jabber.org/protocol/rsm"
SID = "{urn:xmpp:sid:0}stanza-id"
ROOM = f"room@{ROOMS}"
PATIENCE_SECONDS = 60
EXPIRES_AFTER_SECONDS = 3


class Client(ClientXMPP):
    """One account that keeps what it receives."""

    def __init__(self, name, port):
        super().__init__(f"{name}@{HOST}/slixmpp", PASSWORD)
        self.port = port
        self.enable_plaintext = True
        self.enable_direct_tls = False
        self.enable_starttls = False
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        self.register_plugin("xep_0045")
        self.register_plugin("xep_0313")
        self.received = asyncio.Queue()
        self.ready = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.got)
        self.add_event_handler("failed_all_auth", lambda _: self.ready.set_exception(RuntimeError("login refused")))

    async def started(self, _event):
        await self.get_roster()
        self.send_presence()
        self.ready.set_result(None)

    def got(self, message):
        if message["body"]:
            self.received.put_nowait(message)

    async def log_in(self):
        self.connect("127.0.0.1", self.port)
        await asyncio.wait_for(self.ready, PATIENCE_SECONDS)
        return self

    async def log_out(self):
        await self.disconnect()

    async def hear(self, by):
        """The next message: its body and its id in the archive of `by`."""
        message = await asyncio.wait_for(self.received.get(), PATIENCE_SECONDS)
        ids = [e.get("id") for e in message.xml.findall(SID) if e.get("by") == by]
        assert len(ids) == 1, message
        return message["body"], ids[0]

    async def page(self, to=None, rsm=(), **fields):
        """One page: [(id, body)], and the fin."""
        query = ET.Element(f"{{{MAM}}}query")
        if fields:
            form = ET.SubElement(query, "{jabber:x:data}x", type="submit")
            for name, value in {"FORM_TYPE": MAM, **{k.replace("_", "-"): v for k, v in fields.items()}}.items():
                field = ET.SubElement(form, "{jabber:x:data}field", var=name)
                ET.SubElement(field, "{jabber:x:data}value").text = value
        set_ = ET.SubElement(query, f"{{{RSM}}}set")
        for name, value in rsm:
            ET.SubElement(set_, f"{{{RSM}}}{name}").text = value
        iq = self.make_iq_set(query, ito=to)
        query.set("queryid", iq["id"])
        results = []

        def result(message):
            found = message.xml.find(f"{{{MAM}}}result")
            if found is not None and found.get("queryid") == iq["id"]:
                results.append((found.get("id"), found.findtext(".//{jabber:client}body")))

        name = f"page-{iq['id']}"
        from slixmpp.xmlstream.handler import Callback
        from slixmpp.xmlstream.matcher import MatchXPath

        self.register_handler(Callback(name, MatchXPath("{jabber:client}message/{%s}result" % MAM), result))
        try:
            answer = await iq.send(timeout=PATIENCE_SECONDS)
        finally:
            self.remove_handler(name)
        return results, answer.xml.find(f"{{{MAM}}}fin")

    async def everything(self, to=None, page="7", **fields):
        """All pages, forwards."""
        found, after = [], ()
        while True:
            some, fin = await self.page(to, (("max", page), *after), **fields)
            found += some
            if fin.get("complete") == "true":
                return found
            after = (("after", some[-1][0]),)

    async def backwards(self, to=None, page="7"):
        """All pages, from the last one, put in order."""
        found, before = [], None
        while True:
            some, fin = await self.page(to, (("max", page), ("before", before)))
            found = some + found
            if fin.get("complete") == "true":
                return found
            before = some[0][0]


def count(fin):
    return int(fin.findtext(f"{{{RSM}}}set/{{{RSM}}}count"))


def check(ok, what):
    if not ok:
        raise AssertionError(what)
    print(f"  {what}")


async def talk(server):
    """Messages both ways and in a room. Answers what everybody is to find later."""
    alice, bob = [await Client(name, server.port).log_in() for name in ("alice", "bob")]
    said = []
    for i in range(25):
        speaker, listener = (alice, bob) if i % 3 else (bob, alice)
        body = f"{i}: <&> \u00e9\U0001f9a3"
        speaker.send_message(mto=listener.boundjid.bare, mbody=body, mtype="chat")
        heard, name = await listener.hear(listener.boundjid.bare)
        check(heard == body, f"heard {i}") if i % 10 == 0 else None
        said.append((listener, name, body))
    for client in (alice, bob):
        whole = await client.everything()
        check([body for _, body in whole] == [body for _, _, body in said], f"{client.boundjid.bare} has all 25, in order")
        own = [(name, body) for listener, name, body in said if listener is client]
        check([pair for pair in whole if pair in own] == own, "under the ids they came with")
        check(await client.backwards() == whole, "and backwards the same")
    with_bob = await alice.everything(**{"with": f"bob@{HOST}"})
    check(len(with_bob) == 25, "with bob: all")
    none, fin = await alice.page(rsm=(("max", "5"),), **{"with": f"nobody@{HOST}"})
    check((none, count(fin), fin.get("complete")) == ([], 0, "true"), "with nobody: none")
    none, fin = await alice.page(rsm=(("max", "0"),))
    check((none, count(fin)) == ([], 25), "max 0 counts")
    try:
        await alice.page(rsm=(("max", "5"), ("after", "no-such-id")))
        raise AssertionError("an unknown id was answered")
    except IqError as error:
        check(error.condition == "item-not-found", "an unknown id is item-not-found")
    # A room.
    for client in (alice, bob):
        join = client.plugin["xep_0045"].join_muc_wait
        await join(ROOM, client.boundjid.user, maxstanzas=0, timeout=PATIENCE_SECONDS)
    room_bodies = []
    for i in range(12):
        (alice, bob)[i % 2].send_message(mto=ROOM, mbody=f"room {i}", mtype="groupchat")
        room_bodies.append(f"room {i}")
        heard, name = await bob.hear(ROOM)
        check(heard == f"room {i}", f"heard in the room: {i}") if i % 10 == 0 else None
    room = [pair for pair in await alice.everything(ROOM) if pair[1]]
    check([body for _, body in room] == room_bodies, "the room has its messages")
    check(name == room[-1][0], "under the ids they came with")
    check(await bob.backwards(ROOM, "5") == await alice.everything(ROOM), "and backwards the same")
    whole = await bob.everything()
    last = whole[-1][0]
    await bob.log_out()
    for i in range(9):
        alice.send_message(mto=f"bob@{HOST}", mbody=f"away {i}", mtype="chat")
    await alice.page(rsm=(("max", "1"),))
    bob = await Client("bob", server.port).log_in()
    missed = await bob.everything(page="4", after_id=last)
    check([body for _, body in missed] == [f"away {i}" for i in range(9)], "bob catches up by the last id he saw")
    found = {"alice": await alice.everything(), "bob": await bob.everything(), ROOM: await alice.everything(ROOM)}
    await alice.log_out()
    await bob.log_out()
    return found


async def after_restart(server, found):
    for name in ("alice", "bob"):
        client = await Client(name, server.port).log_in()
        check(await client.everything() == found[name], f"after the restart {name} finds the same")
        client.send_message(mto=client.boundjid.bare, mbody="note to self", mtype="chat")
        await client.hear(client.boundjid.bare)
        check((await client.everything())[-1][1] == "note to self", "and can add to it")
        if name == "alice":
            await client.plugin["xep_0045"].join_muc_wait(ROOM, "alice", maxstanzas=0, timeout=PATIENCE_SECONDS)
            check(await client.everything(ROOM) == found[ROOM], "and the room's")
        await client.log_out()


async def expired(server, old):
    """Waits until old messages have gone."""
    client = await Client("bob", server.port).log_in()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await client.page(rsm=(("max", "1"),)))[0]:
        if time.monotonic() > deadline:
            raise AssertionError("nothing expires")
        await asyncio.sleep(0.1)
    check(True, "old messages expire")
    try:
        await client.page(rsm=(("max", "5"), ("after", old)))
        raise AssertionError("an expired id was answered")
    except IqError as error:
        check(error.condition == "item-not-found", "an expired id is item-not-found")
    client.send_message(mto=client.boundjid.bare, mbody="a new beginning", mtype="chat")
    await client.hear(client.boundjid.bare)
    # mod_mam keeps a note to oneself as sent and as received.
    check([body for _, body in await client.everything()] == ["a new beginning"] * 2, "and new ones follow")
    await client.log_out()


async def removed(server):
    """An account removes itself."""
    client = await Client("carol", server.port).log_in()
    secret = "do not leave this behind"
    for i in range(5):
        client.send_message(mto=client.boundjid.bare, mbody=f"{secret} {i}", mtype="chat")
        await client.hear(client.boundjid.bare)
    check(len(await client.everything()) == 2 * 5, "carol has an archive")
    remove = ET.Element("{jabber:iq:register}query")
    ET.SubElement(remove, "{jabber:iq:register}remove")
    answer = client.make_iq_set(remove).send(timeout=PATIENCE_SECONDS)
    try:
        await answer
    except Exception as error:  # the stream ends with the account
        print(f"  (removal: {type(error).__name__})")
    deadline = time.monotonic() + PATIENCE_SECONDS
    accounts = server.data / HOST / "accounts" / "carol.dat"
    while accounts.exists() or server.archives_with(secret.encode()):
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {server.archives_with(secret.encode())}")
        await asyncio.sleep(0.1)
    check(True, "carol is gone, and no byte of her messages is left")


def main(native, lua):
    with tempfile.TemporaryDirectory() as directory:
        storage = "storage = { archive = 'mammoth', muc_log = 'mammoth' }"
        with Prosody(directory, storage, ["alice", "bob", "carol"], 'archive_expires_after = "never"\nmam_include_total = true', native, lua) as server:
            server.start()
            found = asyncio.run(talk(server))
            server.stop()
            server.start()
            asyncio.run(after_restart(server, found))
            server.stop()
            server.forget_daily_tasks()
            server.configure(f'archive_expires_after = "{EXPIRES_AFTER_SECONDS}"')
            time.sleep(EXPIRES_AFTER_SECONDS + 1)  # messages grow old only with time
            server.start()
            asyncio.run(expired(server, found["bob"][3][0]))
            asyncio.run(removed(server))
            server.finish()
    print("ok")


if __name__ == "__main__":
    os.umask(0o077)
    main(sys.argv[1], sys.argv[2])

"""slixmpp with its own MAM plugin: two accounts talk, one goes away and catches up. See ../README.md."""

import asyncio
import json
import sys

from slixmpp import ClientXMPP

PATIENCE_SECONDS = 60


class Client(ClientXMPP):
    """One account that keeps what it receives."""

    def __init__(self, name, given):
        super().__init__(f"{name}@{given['domain']}/slixmpp", given["password"])
        self.given = given
        self.ca_certs = given["certificate"]
        self.enable_plaintext = False
        self.enable_direct_tls = False
        self.enable_starttls = True
        self.register_plugin("xep_0313")
        self.register_plugin("xep_0359")
        self.received = asyncio.Queue()
        self.ready = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.got)
        self.add_event_handler("failed_all_auth", self.refused)

    async def started(self, _event):
        await self.get_roster()
        self.send_presence()
        self.ready.set_result(None)

    def refused(self, _event):
        self.ready.set_exception(RuntimeError("login refused"))

    def got(self, message):
        if message["type"] in ("chat", "normal") and message["body"]:
            self.received.put_nowait(message)

    async def log_in(self):
        self.connect(self.given["host"], self.given["port"])
        await asyncio.wait_for(self.ready, PATIENCE_SECONDS)
        return self

    def say(self, to, body):
        self.send_message(mto=f"{to}@{self.given['domain']}", mbody=body, mtype="chat")

    async def hear(self):
        """The next message: its body and its id in the own archive."""
        message = await asyncio.wait_for(self.received.get(), PATIENCE_SECONDS)
        own = [
            element.get("id")
            for element in message.xml.findall("{urn:xmpp:sid:0}stanza-id")
            if element.get("by") == self.boundjid.bare
        ]
        assert len(own) == 1, message
        return message["body"], own[0]

    async def after(self, last):
        """The bodies of the archive after an id, by the plugin's own paging."""
        rsm = {"max": self.given["page"], "after": last}
        return [body(result) async for result in self.plugin["xep_0313"].iterate(rsm=rsm)]

    async def backwards(self):
        """The bodies of the whole archive, page by page from its end.

        The plugin's iterator gives the last page and stops there: it takes a page whose index and count say that
        nothing comes after it for the end, in either direction. So it is asked for each further page.
        """
        plugin = self.plugin["xep_0313"]
        rsm = {"max": self.given["page"]}
        page = await plugin.retrieve(iterator=True, reverse=True, rsm=rsm).next()
        bodies = []
        while True:
            bodies[:0] = [body(result) for result in page["mam"]["results"]]
            fin = page["mam_fin"]
            if fin["complete"] in (True, "true"):
                return bodies
            page = await plugin.retrieve(rsm={**rsm, "before": fin["rsm"]["first"]})


def body(result):
    return result["mam_result"]["forwarded"]["stanza"]["body"]


async def main(given):
    alice = await Client("alice", given).log_in()
    bob = await Client("bob", given).log_in()
    clients = {"alice": alice, "bob": bob}
    live = {"alice": [], "bob": []}
    last = None
    for message in given["talk"]:
        clients[message["from"]].say(message["to"], message["body"])
        body, seen = await clients[message["to"]].hear()
        live[message["to"]].append(body)
        if message["to"] == "bob":
            last = seen
    await bob.disconnect()
    for message in given["away"]:
        alice.say(message["to"], message["body"])
    # Her archive answers only once what she said is in it.
    await alice.plugin["xep_0313"].get_archive_metadata()
    bob = await Client("bob", given).log_in()
    caught_up = await bob.after(last)
    backwards = {"alice": await alice.backwards(), "bob": await bob.backwards()}
    await bob.disconnect()
    await alice.disconnect()
    return {"live": live, "caught_up": caught_up, "backwards": backwards}


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        told = json.load(file)
    print(json.dumps(asyncio.run(main(told))))

"""A client of few words, over a plain socket: fast enough to load a server, simple enough to be trusted. It knows the
stream, PLAIN, messages and archive queries; what is done with them is left to others."""

import base64
import select
import socket
import time
import xml.etree.ElementTree as ET

CLIENT = "{jabber:client}"
MAM = "urn:xmpp:mam:2"
RSM = "http://jabber.org/protocol/rsm"
SID = "{urn:xmpp:sid:0}stanza-id"
PATIENCE_SECONDS = 120


class Client:
    """One session."""

    def __init__(self, port, user, password, host="localhost", resource="t"):
        self.bare = f"{user}@{host}"
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = host
        self.ids = 0
        self.stanzas = []
        self.open()
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>")
        assert self.next().tag.endswith("success")
        self.open()
        bound = self.ask("set", f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>")
        assert bound.get("type") == "result", ET.tostring(bound)
        self.jid = bound.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")

    def open(self):
        self.parser = ET.XMLPullParser(["start", "end"])
        self.depth = 0
        self.root = None
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{self.host}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        assert self.next().tag.endswith("features")

    def send(self, text):
        self.socket.sendall(text.encode())

    def read(self, timeout):
        """Takes in what has come; waits up to `timeout` seconds for something to come."""
        ready, _, _ = select.select([self.socket], [], [], timeout)
        if not ready:
            return False
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the stream")
        now = time.perf_counter()
        self.parser.feed(data)
        for event, element in self.parser.read_events():
            if event == "start":
                self.depth += 1
                if self.depth == 1:
                    self.root = element
            else:
                self.depth -= 1
                if self.depth == 1:
                    self.stanzas.append((now, element))
                    self.root.clear()
        return True

    def next_at(self, timeout=None):
        """The next stanza, and when it came."""
        deadline = time.monotonic() + (timeout or PATIENCE_SECONDS)
        while not self.stanzas:
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                raise TimeoutError(f"{self.bare} waits in vain")
        return self.stanzas.pop(0)

    def next(self, timeout=None):
        return self.next_at(timeout)[1]

    def ask(self, kind, payload, to=None):
        """Sends an IQ and waits for its answer; other stanzas are kept for later."""
        self.ids += 1
        name = f"q{self.ids}"
        address = f" to='{to}'" if to else ""
        self.send(f"<iq type='{kind}' id='{name}'{address}>{payload}</iq>")
        kept = []
        while True:
            at, stanza = self.next_at()
            if stanza.tag == CLIENT + "iq" and stanza.get("id") == name:
                self.stanzas = kept + self.stanzas
                return stanza
            kept.append((at, stanza))

    def presence(self):
        self.send("<presence/>")
        while True:
            if self.next().tag == CLIENT + "presence":
                return self

    def message(self, to, body, kind="chat", name=""):
        self.send(f"<message to='{to}' type='{kind}' id='{name}'><body>{body}</body></message>")

    def page(self, rsm="", fields=None, to=None):
        """One page of an archive: (ids, bodies, fin) or raises what the server answered."""
        self.ids += 1
        name = f"p{self.ids}"
        form = ""
        if fields:
            values = "".join(f"<field var='{k}'><value>{v}</value></field>" for k, v in fields.items())
            form = f"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{MAM}</value></field>{values}</x>"
        address = f" to='{to}'" if to else ""
        self.send(
            f"<iq type='set' id='{name}'{address}><query xmlns='{MAM}' queryid='{name}'>{form}"
            f"<set xmlns='{RSM}'>{rsm}</set></query></iq>"
        )
        ids, bodies, kept = [], [], []
        while True:
            at, stanza = self.next_at()
            if stanza.tag == CLIENT + "iq" and stanza.get("id") == name:
                self.stanzas = kept + self.stanzas
                if stanza.get("type") != "result":
                    raise Refused(stanza)
                return ids, bodies, stanza.find(f"{{{MAM}}}fin")
            result = stanza.find(f"{{{MAM}}}result")
            if result is not None and result.get("queryid") == name:
                ids.append(result.get("id"))
                bodies.append(result.findtext(f".//{CLIENT}body"))
            else:
                kept.append((at, stanza))

    def archive(self, page=50, fields=None, to=None):
        """The whole archive, forwards: ids and bodies."""
        ids, bodies = [], []
        rsm = f"<max>{page}</max>"
        while True:
            some, texts, fin = self.page(rsm, fields, to)
            ids += some
            bodies += texts
            if fin.get("complete") == "true":
                return ids, bodies
            rsm = f"<max>{page}</max><after>{some[-1]}</after>"

    def close(self):
        try:
            self.send("</stream:stream>")
        except OSError:
            pass
        self.socket.close()


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, stanza):
        super().__init__(ET.tostring(stanza).decode())
        error = stanza.find(CLIENT + "error")
        self.condition = error[0].tag.split("}")[1] if error is not None and len(error) else "?"


def stanza_id(message, by):
    """The id of a message in the archive of `by`."""
    for element in message.findall(SID):
        if element.get("by") == by:
            return element.get("id")
    return None


def count(fin):
    """The number of messages a page is of."""
    text = fin.findtext(f"{{{RSM}}}set/{{{RSM}}}count")
    return None if text is None else int(text)

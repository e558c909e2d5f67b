// xmpp.js: two accounts talk, one goes away and catches up. See ../README.md. The library has no archive of its own,
// so queries are written as XML.

import { readFileSync } from "node:fs";
import { client as connect, xml } from "@xmpp/client";

const PATIENCE_MS = 60_000;
const MAM = "urn:xmpp:mam:2";
const RSM = "http://jabber.org/protocol/rsm";

const given = JSON.parse(readFileSync(process.argv[2], "utf-8"));

class Client {
  constructor(name) {
    this.account = `${name}@${given.domain}`;
    this.received = [];
    this.waiting = [];
    this.results = [];
    this.xmpp = connect({
      service: `xmpp://${given.host}:${given.port}`,
      domain: given.domain,
      resource: "xmpp-js",
      username: name,
      password: given.password,
    });
    // Its own patience of two seconds is short for a machine that runs many tests at once.
    this.xmpp.timeout = PATIENCE_MS;
    // The library decodes each piece that the socket gives by itself, and so breaks a character that lies across two.
    const decoder = new TextDecoder();
    const onData = this.xmpp._onData;
    this.xmpp._onData = (data) => onData.call(this.xmpp, decoder.decode(data, { stream: true }));
    this.xmpp.reconnect.stop();
    this.xmpp.on("error", (error) => {
      console.error(error);
      process.exit(1);
    });
    this.xmpp.on("stanza", (stanza) => this.got(stanza));
  }

  got(stanza) {
    if (!stanza.is("message")) return;
    const result = stanza.getChild("result", MAM);
    if (result && stanza.attrs.from === this.account) {
      this.results.push(result);
    } else if (stanza.getChildText("body") !== null) {
      const next = this.waiting.shift();
      if (next) next(stanza);
      else this.received.push(stanza);
    }
  }

  async login() {
    await this.xmpp.start();
    await this.xmpp.send(xml("presence"));
    // What was sent before has been dealt with once this is answered.
    await this.ask("get", xml("metadata", { xmlns: MAM }));
    return this;
  }

  ask(type, payload) {
    return this.xmpp.iqCaller.request(xml("iq", { type }, payload), PATIENCE_MS);
  }

  say(to, body) {
    return this.xmpp.send(
      xml("message", { to: `${to}@${given.domain}`, type: "chat" }, xml("body", {}, body)),
    );
  }

  async hear() {
    const message =
      this.received.shift() ??
      (await new Promise((resolve, reject) => {
        this.waiting.push(resolve);
        setTimeout(() => reject(new Error("waited in vain")), PATIENCE_MS).unref();
      }));
    const own = message
      .getChildren("stanza-id", "urn:xmpp:sid:0")
      .filter((id) => id.attrs.by === this.account);
    if (own.length !== 1) throw new Error(`no id of the own archive: ${message}`);
    return { body: message.getChildText("body"), id: own[0].attrs.id };
  }

  async page(...paging) {
    this.results = [];
    const set = xml("set", { xmlns: RSM }, xml("max", {}, String(given.page)), ...paging);
    const answer = await this.ask("set", xml("query", { xmlns: MAM, queryid: "q" }, set));
    const fin = answer.getChild("fin", MAM);
    const edges = fin.getChild("set", RSM);
    return {
      bodies: this.results.map((result) =>
        result.getChild("forwarded", "urn:xmpp:forward:0").getChild("message").getChildText("body"),
      ),
      first: edges.getChildText("first"),
      last: edges.getChildText("last"),
      complete: fin.attrs.complete === "true",
    };
  }

  async after(id) {
    const bodies = [];
    for (;;) {
      const page = await this.page(xml("after", {}, id));
      bodies.push(...page.bodies);
      if (page.complete) return bodies;
      id = page.last;
    }
  }

  async backwards() {
    const bodies = [];
    let before = "";
    for (;;) {
      const page = await this.page(xml("before", {}, before));
      bodies.unshift(...page.bodies);
      if (page.complete) return bodies;
      before = page.first;
    }
  }
}

const alice = await new Client("alice").login();
let bob = await new Client("bob").login();
const clients = { alice, bob };
const live = { alice: [], bob: [] };
let last;
for (const { from, to, body } of given.talk) {
  await clients[from].say(to, body);
  const heard = await clients[to].hear();
  live[to].push(heard.body);
  if (to === "bob") last = heard.id;
}
await bob.xmpp.stop();
for (const { to, body } of given.away) await alice.say(to, body);
await alice.ask("get", xml("metadata", { xmlns: MAM }));
bob = await new Client("bob").login();
const caught_up = await bob.after(last);
const backwards = { alice: await alice.backwards(), bob: await bob.backwards() };
await bob.xmpp.stop();
await alice.xmpp.stop();
console.log(JSON.stringify({ live, caught_up, backwards }));

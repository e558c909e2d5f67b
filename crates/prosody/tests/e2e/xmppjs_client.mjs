// xmpp.js against Prosody with our archives. `talk`: two accounts and a room talk, page, catch up. `again`: everything is
// still there. `expired`: only what is new is. `remove`: an account goes. Prints what it found as JSON. The library has
// no archive of its own, so queries are written as XML.
//   node xmppjs_client.mjs STEP PORT PASSWORD HOST ROOM

import { client as connect, xml } from "@xmpp/client";

const PATIENCE_MS = 60_000;
const MAM = "urn:xmpp:mam:2";
const RSM = "http://jabber.org/protocol/rsm";
const [step, port, password, domain, room] = process.argv.slice(2);

class Client {
  constructor(name) {
    this.account = `${name}@${domain}`;
    this.name = name;
    this.queues = { message: [], result: [] };
    this.waiting = [];
    this.xmpp = connect({ service: `xmpp://127.0.0.1:${port}`, domain, resource: "xmpp-js", username: name, password });
    this.xmpp.reconnect.stop();
    this.xmpp.on("error", (error) => {
      if (this.leaving) return;
      console.error(error);
      process.exit(1);
    });
    this.xmpp.on("stanza", (stanza) => this.got(stanza));
  }

  got(stanza) {
    if (stanza.is("presence") && stanza.attrs.from === `${room}/${this.name}`) this.entered?.();
    if (!stanza.is("message")) return;
    const result = stanza.getChild("result", MAM);
    if (result) this.queues.result.push(result);
    else if (stanza.getChildText("body") !== null) {
      const next = this.waiting.shift();
      if (next) next(stanza);
      else this.queues.message.push(stanza);
    }
  }

  async login() {
    await this.xmpp.start();
    await this.xmpp.send(xml("presence"));
    await this.ask("get", undefined, xml("metadata", { xmlns: MAM }));
    return this;
  }

  ask(type, to, payload) {
    return this.xmpp.iqCaller.request(xml("iq", { type, to }, payload), PATIENCE_MS);
  }

  say(to, body, type = "chat") {
    return this.xmpp.send(xml("message", { to, type }, xml("body", {}, body)));
  }

  async hear(by) {
    const message =
      this.queues.message.shift() ??
      (await new Promise((resolve, reject) => {
        this.waiting.push(resolve);
        setTimeout(() => reject(new Error(`${this.name} waits in vain`)), PATIENCE_MS).unref();
      }));
    const own = message.getChildren("stanza-id", "urn:xmpp:sid:0").filter((id) => id.attrs.by === by);
    if (own.length !== 1) throw new Error(`no id by ${by}: ${message}`);
    return [own[0].attrs.id, message.getChildText("body")];
  }

  async enter(room) {
    const x = xml("x", { xmlns: "http://jabber.org/protocol/muc" }, xml("history", { maxstanzas: "0" }));
    const entered = new Promise((resolve) => (this.entered = resolve));
    await this.xmpp.send(xml("presence", { to: `${room}/${this.name}` }, x));
    await entered;
  }

  async page(to, ...paging) {
    this.queues.result = [];
    const set = xml("set", { xmlns: RSM }, xml("max", {}, "7"), ...paging);
    const answer = await this.ask("set", to, xml("query", { xmlns: MAM, queryid: "q" }, set));
    const fin = answer.getChild("fin", MAM);
    const found = this.queues.result.map((result) => [
      result.attrs.id,
      result.getChild("forwarded", "urn:xmpp:forward:0").getChild("message").getChildText("body"),
    ]);
    const count = Number(fin.getChild("set", RSM).getChildText("count"));
    return { found, count, complete: fin.attrs.complete === "true" };
  }

  async forwards(to, after) {
    const all = [];
    for (;;) {
      const page = await this.page(to, ...(after ? [xml("after", {}, after)] : []));
      all.push(...page.found);
      if (page.complete) return all;
      after = page.found.at(-1)[0];
    }
  }

  async backwards(to) {
    const all = [];
    let before = "";
    for (;;) {
      const page = await this.page(to, xml("before", {}, before));
      all.unshift(...page.found);
      if (page.complete) return all;
      before = page.found[0][0];
    }
  }

  async everything() {
    return { own: await this.forwards(), backwards: await this.backwards() };
  }
}

async function talk() {
  const alice = await new Client("alice").login();
  let bob = await new Client("bob").login();
  const live = [];
  for (let i = 0; i < 20; i++) {
    const [from, to] = i % 3 ? [alice, bob] : [bob, alice];
    await from.say(to.account, `${i}: <&> \u00e9\u{1f9a3}`);
    const heard = await to.hear(to.account);
    if (to === bob) live.push(heard);
  }
  await bob.xmpp.stop();
  for (let i = 0; i < 10; i++) await alice.say(bob.account, `away ${i}`);
  await alice.ask("get", undefined, xml("metadata", { xmlns: MAM }));
  bob = await new Client("bob").login();
  const caughtUp = await bob.forwards(undefined, live.at(-1)[0]);
  let unknown;
  try {
    await bob.page(undefined, xml("after", {}, "no-such-id"));
  } catch (error) {
    unknown = error.condition;
  }
  await alice.enter(room);
  await bob.enter(room);
  const inRoom = [];
  for (let i = 0; i < 10; i++) {
    await alice.say(room, `room ${i}`, "groupchat");
    inRoom.push(await bob.hear(room));
  }
  const found = {
    live,
    caughtUp,
    unknown,
    inRoom,
    count: (await bob.page()).count,
    alice: await alice.everything(),
    bob: await bob.everything(),
    room: (await bob.forwards(room)).filter(([, body]) => body),
    roomBackwards: (await alice.backwards(room)).filter(([, body]) => body),
  };
  await alice.xmpp.stop();
  await bob.xmpp.stop();
  return found;
}

async function again() {
  const alice = await new Client("alice").login();
  const bob = await new Client("bob").login();
  await alice.enter(room);
  await alice.say(room, "again", "groupchat");
  await alice.hear(room);
  const found = {
    alice: await alice.everything(),
    bob: await bob.everything(),
    room: (await alice.forwards(room)).filter(([, body]) => body),
  };
  await alice.xmpp.stop();
  await bob.xmpp.stop();
  return found;
}

async function expired() {
  const bob = await new Client("bob").login();
  const found = { own: await bob.forwards() };
  await bob.xmpp.stop();
  return found;
}

async function remove() {
  const carol = await new Client("carol").login();
  for (let i = 0; i < 5; i++) {
    await carol.say(carol.account, `do not leave this behind ${i}`);
    await carol.hear(carol.account);
  }
  const before = await carol.forwards();
  carol.leaving = true;
  const answer = carol.ask("set", undefined, xml("query", { xmlns: "jabber:iq:register" }, xml("remove")));
  const gone = new Promise((resolve) => carol.xmpp.on("offline", resolve));
  await Promise.race([answer.catch(() => {}), gone]);
  return { before };
}

console.log(JSON.stringify(await { talk, again, expired, remove }[step]()));
process.exit(0);

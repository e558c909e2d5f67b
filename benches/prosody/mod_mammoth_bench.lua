-- What the measurement asks of a Prosody from within: fill an archive, let its oldest messages expire, count. Loaded by
-- `run` into servers of its own, whatever their storage; never in a real one.

local st = require "util.stanza";
local now = require "util.time".now;

local xmlns = "urn:mammoth:bench";
local archive = module:open_store("archive", "archive");
local words = {};
for word in ([[the mammoth walks slowly over frozen ground and nobody follows it but the wind which knows every name
of the plain we said tomorrow at nine near the old bridge bring bread and the long rope]]):gmatch("%S+") do
	words[#words+1] = word;
end

local function body(i)
	local text, seed = {}, i * 7919 + 13;
	for w = 1, 6 + i % 17 do
		seed = (seed * 1103515245 + 12345) % 2147483648;
		text[w] = words[seed % #words + 1];
	end
	return table.concat(text, " ").." "..i;
end

local function message(user, i)
	local contact = ("contact%d@localhost"):format(i % 100);
	return st.message({ from = contact.."/phone", to = user.."@localhost", id = ("%08x-%04x"):format(i * 2654435761 % 4294967296, i % 65536), type = "chat" })
		:tag("body"):text(body(i)):up()
		:tag("origin-id", { xmlns = "urn:xmpp:sid:0", id = ("%08x"):format(i * 40503 % 4294967296) }):up()
		:tag("markable", { xmlns = "urn:xmpp:chat-markers:0" }):up(), contact;
end

-- SQLite's syncs, off while what is not measured is filled in.
local function syncs(on)
	for _, engine in pairs(module:shared("/*/sql/connections")) do
		if type(engine) == "table" and engine.execute then engine:execute("PRAGMA synchronous="..(on and "FULL" or "OFF")); end
	end
end

-- One message a minute, the newest when the measurement began.
local function when_of(i, all, base)
	return base - (all - i) * 60;
end

module:hook("iq-set/host/"..xmlns..":fill", function (event)
	local attr = event.stanza.tags[1].attr;
	local from, to, all, measured = tonumber(attr.from), tonumber(attr.to), tonumber(attr.all), attr.measured == "true";
	if not measured then syncs(false); end
	local began = now();
	for i = from, to do
		local stanza, with = message(attr.user, i);
		assert(archive:append(attr.user, nil, stanza, when_of(i, all, tonumber(attr.base)), with));
	end
	local took = now() - began;
	if not measured then syncs(true); end
	event.origin.send(st.reply(event.stanza):tag("took", { xmlns = xmlns }):text(("%.6f"):format(took)));
	return true;
end);

-- As mod_mam does it once a day, for the oldest messages up to number `to`.
module:hook("iq-set/host/"..xmlns..":expire", function (event)
	local attr = event.stanza.tags[1].attr;
	local user = attr.user;
	if archive.caps and archive.caps.wildcard_delete then user = true; end
	local began = now();
	local gone, err = archive:delete(user, { ["end"] = when_of(tonumber(attr.to), tonumber(attr.all), tonumber(attr.base)) + 30 });
	local took = now() - began;
	module:log("info", "expired %s %s", tostring(gone), tostring(err));
	event.origin.send(st.reply(event.stanza):tag("took", { xmlns = xmlns, gone = tostring(tonumber(gone) or gone) }):text(("%.6f"):format(took)));
	return true;
end);

-- What Prosody's own specification of archive stores leaves out. Runs with kit/helper.lua, which finds the driver.

local unpack = table.unpack;

local test_host = "driver-tests.invalid";
local data_path = assert(os.getenv "MAMMOTH_DATA");
local time = 1539204123;

_G.prosody = {
	core_post_stanza = function () end;
	events = require "util.events".new();
	hosts = {};
	paths = { data = "./data" };
};

local config = require "core.configmanager";
local sm = require "core.storagemanager";
local hm = require "core.hostmanager";
local mm = require "core.modulemanager";
local async = require "util.async";
local server = require "net.server";
local st = require "util.stanza";

config.set(test_host, "storage", { archive = "mammoth", limited = "mammoth", other = "mammoth", offline = "mammoth" });
config.set(test_host, "mammoth_data", data_path);
assert(hm.activate(test_host, {}));
sm.initialize_host(test_host);
assert(mm.load(test_host, "storage_mammoth"));

local archive = assert(sm.open(test_host, "archive", "archive"));

local function message(body)
	return st.message({ from = "a@b.example/c", id = body }):tag("body"):text(body);
end

local function all(username, query, using)
	local iter, total = (using or archive):find(username, query);
	assert.truthy(iter, total);
	local found = {};
	for id, value, when, with in iter do
		found[#found+1] = { id = id, body = st.is_stanza(value) and value:get_child_text("body") or value, when = when, with = with };
	end
	return found, total;
end

local function bodies(...)
	local found, total = all(...);
	local list = {};
	for i, item in ipairs(found) do list[i] = item.body; end
	return table.concat(list, " "), total;
end

-- Ten entries, one a second; odd ones with bob, even ones with carol. Returns their ids.
local function ten(username)
	local ids = {};
	for i = 1, 10 do
		ids[i] = assert(archive:append(username, nil, message(tostring(i)), time+i, i % 2 == 1 and "bob@b.example" or "carol@b.example"));
	end
	return ids;
end

-- A stanza with neighbouring texts joined, attributes in no order, and each element's namespace said.
local function canonical(stanza, namespace)
	local attr = { xmlns = namespace or "jabber:client" };
	for name, value in pairs(stanza.attr) do attr[name] = value; end
	local children = {};
	for _, child in ipairs(stanza) do
		if type(child) == "table" then
			children[#children+1] = canonical(child, attr.xmlns);
		elseif type(children[#children]) == "string" then
			children[#children] = children[#children]..child;
		else
			children[#children+1] = child;
		end
	end
	return { name = stanza.name, attr = attr, children = children };
end

-- Runs the function in an async context, with the event loop running, until it ends.
local function in_loop(f, ...)
	local results;
	local failed;
	local runner = async.runner(function (args)
		results = table.pack(f(unpack(args, 1, args.n)));
	end, { error = function (_, err) failed = err; end });
	runner:run(table.pack(...));
	local rounds = 0;
	while not results and not failed do
		server.loop(true);
		rounds = rounds + 1;
		assert(rounds < 100000, "it never ends");
	end
	if failed then error(failed, 0); end
	return unpack(results, 1, results.n);
end

-- Every case runs twice: called from outside any coroutine, and from one of Prosody's while the loop runs.
local function both(name, f)
	it(name, function () f("s"..name:gsub("%W", "")); end);
	it(name.." (while the loop runs)", function () in_loop(f, "a"..name:gsub("%W", "")); end);
end

describe("ids that are not there", function ()
	both("are errors in after and before, in either direction", function (user)
		ten(user);
		for _, field in ipairs { "after", "before" } do
			for _, reverse in ipairs { false, true } do
				for _, id in ipairs { "no-such-id", "", ("x"):rep(5000), "\0" } do
					local iter, err = archive:find(user, { [field] = id, reverse = reverse });
					assert.is_nil(iter);
					assert.equal("item-not-found", err);
				end
			end
		end
	end);

	both("are errors in the archive of another user", function (user)
		local ids = ten(user);
		ten(user.."2");
		assert.same({ nil, "item-not-found" }, { archive:find(user.."2", { after = ids[3] }) });
		assert.same({ nil, "item-not-found" }, { archive:find(user.."3", { after = ids[3] }) });
		assert.same({ nil, "item-not-found" }, { archive:find(nil, { before = ids[3] }) });
	end);

	both("are errors once deleted, at the end or in the middle", function (user)
		local ids = ten(user);
		assert.equal(2, archive:delete(user, { ["end"] = time+2 }));
		assert.equal(1, archive:delete(user, { key = ids[5] }));
		for _, i in ipairs { 1, 2, 5 } do
			assert.same({ nil, "item-not-found" }, { archive:find(user, { after = ids[i] }) });
			assert.same({ nil, "item-not-found" }, { archive:get(user, ids[i]) });
			assert.same({ nil, "item-not-found" }, { archive:set(user, ids[i], message("x")) });
		end
		assert.equal("6 7 8 9 10", (bodies(user, { after = ids[4] })));
	end);

	both("are an error in a list of ids, and match nothing as a key", function (user)
		local ids = ten(user);
		assert.same({ nil, "item-not-found" }, { archive:find(user, { ids = { ids[1], "no-such-id" } }) });
		assert.equal("1 7", (bodies(user, { ids = { ids[7], ids[1], ids[7] } })));
		local none, total = bodies(user, { key = "no-such-id", total = true });
		assert.equal("", none);
		assert.equal(0, total);
		assert.equal(0, archive:delete(user, { key = "no-such-id" }));
		assert.equal(0, archive:delete(user, { ids = {} }));
		assert.same({ nil, "item-not-found" }, { archive:delete(user, { before = "no-such-id" }) });
		assert.same({ nil, "item-not-found" }, { archive:get(user, "no-such-id") });
	end);

	both("are none for a user who has nothing", function (user)
		local none, total = bodies(user, { total = true });
		assert.equal("", none);
		assert.equal(0, total);
		assert.equal(0, archive:delete(user));
		assert.equal(0, archive:delete(user, { ["end"] = time }));
		assert.same({ counts = {}, earliest = {}, latest = {} }, archive:summary(user));
	end);
end);

describe("filters", function ()
	both("combine", function (user)
		local ids = ten(user);
		assert.equal("3 5 7", (bodies(user, { with = "bob@b.example", start = time+2, ["end"] = time+8 })));
		assert.equal("4 6", (bodies(user, { with = "carol@b.example", after = ids[2], before = ids[8] })));
		assert.equal("6 4", (bodies(user, { with = "carol@b.example", after = ids[2], before = ids[8], reverse = true })));
		assert.equal("5", (bodies(user, { ids = { ids[2], ids[5] }, with = "bob@b.example" })));
		assert.equal("", (bodies(user, { with = "nobody@b.example" })));
		assert.equal("", (bodies(user, { after = ids[8], before = ids[2] })));
	end);

	both("combine in delete too", function (user)
		ten(user);
		assert.equal(3, archive:delete(user, { with = "bob@b.example", ["end"] = time+5 }));
		assert.equal("2 4 6 7 8 9 10", (bodies(user)));
		assert.equal(2, archive:delete(user, { start = time+7, ["end"] = time+8 }));
		assert.equal("2 4 6 9 10", (bodies(user)));
		assert.equal(2, archive:delete(user, { start = time+9 }));
		assert.equal("2 4 6", (bodies(user)));
		assert.equal(1, archive:delete(user, { with = "carol@b.example", truncate = 2 }));
		assert.equal("4 6", (bodies(user)));
	end);

	both("take after, before and ids in delete", function (user)
		local ids = ten(user);
		assert.equal(2, archive:delete(user, { before = ids[3] }));
		assert.equal("3 4 5 6 7 8 9 10", (bodies(user)));
		assert.equal(2, archive:delete(user, { after = ids[8] }));
		assert.equal("3 4 5 6 7 8", (bodies(user)));
		assert.equal(2, archive:delete(user, { ids = { ids[4], ids[6], ids[1], "no-such-id" } }));
		assert.equal("3 5 7 8", (bodies(user)));
	end);

	both("take any string as with", function (user)
		local withs = { "", "message<groupchat", "Bob@B.example", "bob@b.example", "bob@b.example/phone", "two words", "ü", ("w"):rep(3000) };
		for i, with in ipairs(withs) do
			assert(archive:append(user, nil, message(tostring(i)), time+i, with));
		end
		for i, with in ipairs(withs) do
			local found, total = all(user, { with = with, total = true });
			assert.equal(1, #found);
			assert.equal(1, total);
			assert.equal(tostring(i), found[1].body);
			assert.equal(with, found[1].with);
		end
		assert.equal(#withs, select(2, all(user, { total = true })));
	end);
end);

describe("truncation", function ()
	both("keeps the newest", function (user)
		ten(user);
		assert.equal(7, archive:delete(user, { truncate = 3 }));
		assert.equal("8 9 10", (bodies(user)));
		assert.equal(0, archive:delete(user, { truncate = 3 }));
		assert.equal(0, archive:delete(user, { truncate = 100 }));
		assert.equal(3, archive:delete(user, { truncate = 0 }));
		assert.equal("", (bodies(user)));
	end);

	both("counts what is there, not what was", function (user)
		local ids = ten(user);
		for _, i in ipairs { 3, 8, 10 } do assert.equal(1, archive:delete(user, { key = ids[i] })); end
		assert.equal(4, archive:delete(user, { truncate = 3 }));
		assert.equal("6 7 9", (bodies(user)));
	end);

	both("keeps the oldest in reverse", function (user)
		ten(user);
		assert.equal(7, archive:delete(user, { truncate = 3, reverse = true }));
		local list, total = bodies(user, { total = true });
		assert.equal("1 2 3", list);
		assert.equal(3, total);
		assert(archive:append(user, nil, message("11"), time+11, "bob@b.example"));
		assert.equal("1 2 3 11", (bodies(user)));
		assert.equal("11 3", (bodies(user, { reverse = true, limit = 2 })));
	end);
end);

describe("no user name", function ()
	it("is an archive like any other, and nobody's", function ()
		local other = assert(sm.open(test_host, "other", "archive"));
		local id = assert(other:append(nil, nil, message("host"), time, "uploader@b.example"));
		assert(other:append("someone", nil, message("user"), time, "uploader@b.example"));
		assert.equal("host", (bodies(nil, nil, other)));
		assert.equal("host", other:get(nil, id):get_child_text("body"));
		assert.equal("user", (bodies("someone", {}, other)));
		assert.equal(1, other:delete(nil, { with = "uploader@b.example" }));
		assert.equal("", (bodies(nil, nil, other)));
		assert.equal("user", (bodies("someone", {}, other)));
	end);
end);

describe("times", function ()
	both("come back as they were given", function (user)
		local times = { 0, 5.5, time, time+0.25, time+0.123456, time+1/3, time+1 };
		for i, when in ipairs(times) do
			assert(archive:append(user, nil, message(tostring(i)), when, "bob@b.example"));
		end
		for i, item in ipairs(all(user)) do
			assert.equal(times[i], item.when);
		end
		assert.equal("integer", math.type(all(user)[3].when));
		assert.equal("4 5 6 7", (bodies(user, { start = time+0.1 })));
		assert.equal("4", (bodies(user, { start = time+0.25, ["end"] = time+0.25 })));
		assert.equal("1 2 3", (bodies(user, { ["end"] = time })));
	end);

	both("count even where they go backwards", function (user)
		for i, when in ipairs { 10, 30, 20, 40, 15, 50, 50, 5 } do
			assert(archive:append(user, nil, message(tostring(i)), time+when, i % 2 == 1 and "bob@b.example" or "carol@b.example"));
		end
		assert.equal("1 2 3 4 5 6 7 8", (bodies(user)));
		local list, total = bodies(user, { start = time+15, ["end"] = time+30, total = true });
		assert.equal("2 3 5", list);
		assert.equal(3, total);
		assert.equal("5 3 2", (bodies(user, { start = time+15, ["end"] = time+30, reverse = true })));
		assert.equal("5 3", (bodies(user, { start = time+15, ["end"] = time+30, reverse = true, limit = 2 })));
		list, total = bodies(user, { with = "bob@b.example", start = time+15, ["end"] = time+30, total = true });
		assert.equal("3 5", list);
		assert.equal(2, total);
		assert.same({ ["bob@b.example"] = time+10, ["carol@b.example"] = time+5 }, archive:summary(user).earliest);
		assert.equal(4, archive:delete(user, { ["end"] = time+20 }));
		list, total = bodies(user, { total = true });
		assert.equal("2 4 6 7", list);
		assert.equal(4, total);
	end);

	both("are now if none is given, and an error if they are none", function (user)
		local before = os.time();
		assert(archive:append(user, nil, message("now"), nil, "bob@b.example"));
		local when = all(user)[1].when;
		assert(when >= before and when <= os.time());
		assert.same({ nil, "unsupported-datatype" }, { archive:append(user, nil, message("x"), 0/0, "bob@b.example") });
		assert.same({ nil, "unsupported-datatype" }, { archive:append(user, nil, message("x"), 1/0, "bob@b.example") });
	end);

	both("have days", function (user)
		assert.same({}, archive:dates(user));
		for _, when in ipairs { 0, 5, 86399, 86400, 3*86400 } do
			assert(archive:append(user, nil, message("x"), when, "bob@b.example"));
		end
		assert.same({ "1970-01-01", "1970-01-02", "1970-01-04" }, archive:dates(user));
		assert(archive:append(user, nil, message("x"), 2*86400, "bob@b.example"));
		assert.same({ "1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04" }, archive:dates(user));
	end);
end);

describe("totals", function ()
	both("are exact, whatever the page", function (user)
		local ids = ten(user);
		for _, query in ipairs { {}, { limit = 3 }, { after = ids[4] }, { before = ids[4], reverse = true, limit = 1 }, { limit = 0 } } do
			query.total = true;
			assert.equal(10, select(2, all(user, query)));
			query.with = "bob@b.example";
			assert.equal(5, select(2, all(user, query)));
			query.start = time+4;
			assert.equal(3, select(2, all(user, query)));
		end
		assert.is_nil(select(2, all(user, { limit = 3 })));
		archive:delete(user, { key = ids[5] });
		archive:delete(user, { key = ids[6] });
		assert.equal(8, select(2, all(user, { total = true })));
		assert.equal(4, select(2, all(user, { total = true, with = "bob@b.example" })));
		assert.equal(5, select(2, all(user, { total = true, start = time+4 })));
		assert.equal(1, select(2, all(user, { total = true, ids = { ids[4] } })));
	end);

	both("come alone with limit 0", function (user)
		ten(user);
		local list, total = bodies(user, { limit = 0, total = true });
		assert.equal("", list);
		assert.equal(10, total);
	end);
end);

describe("keys of the caller's", function ()
	both("move to the end when they come again", function (user)
		for _, key in ipairs { "a", "b", "c" } do
			assert.equal(key, archive:append(user, key, message(key), time, "bob@b.example"));
		end
		assert.equal("a", archive:append(user, "a", message("a2"), time+1, "carol@b.example"));
		local list, total = bodies(user, { total = true });
		assert.equal("b c a2", list);
		assert.equal(3, total);
		assert.equal("b", archive:append(user, "b", message("b2"), time+2, "bob@b.example"));
		assert.equal("c", archive:append(user, "c", message("c2"), time+3, "bob@b.example"));
		assert.equal("a2 b2 c2", (bodies(user)));
		assert.equal("a2", archive:get(user, "a"):get_child_text("body"));
		assert.equal("c2", (bodies(user, { after = "b" })));
		assert.equal("c2 b2", (bodies(user, { after = "a", reverse = true })));
		assert.equal(1, select(2, all(user, { total = true, with = "carol@b.example" })));
		assert.equal(1, archive:delete(user, { key = "b" }));
		assert.equal("a2 c2", (bodies(user)));
		assert.equal("b", archive:append(user, "b", message("b3"), time+4, "bob@b.example"));
		assert.equal("a2 c2 b3", (bodies(user)));
	end);

	both("may be ids of ours", function (user)
		local ids = ten(user);
		assert.equal(ids[4], archive:append(user, ids[4], message("moved"), time+20, "bob@b.example"));
		assert.equal("1 2 3 5 6 7 8 9 10 moved", (bodies(user)));
		assert.equal("moved", archive:get(user, ids[4]):get_child_text("body"));
		assert.equal("moved 10", (bodies(user, { reverse = true, limit = 2 })));
		assert.equal("", (bodies(user, { after = ids[4] })));
	end);

	both("can be published again and again", function (user)
		assert(archive:append(user, "stays", message("stays"), time, ""));
		for i = 1, 600 do
			assert(archive:append(user, "current", message(tostring(i)), time+i, ""));
		end
		local list, total = bodies(user, { total = true });
		assert.equal("stays 600", list);
		assert.equal(2, total);
	end);
end);

describe("set", function ()
	both("replaces in place", function (user)
		local ids = ten(user);
		assert(archive:set(user, ids[3], message("tombstone")));
		assert.equal("1 2 tombstone 4", (bodies(user, { limit = 4 })));
		local value, when, with = archive:get(user, ids[3]);
		assert.equal("tombstone", value:get_child_text("body"));
		assert.equal(time+3, when);
		assert.equal("bob@b.example", with);
		assert.equal("1 tombstone 5 7 9", (bodies(user, { with = "bob@b.example" })));
	end);

	both("replaces time and with too", function (user)
		local ids = ten(user);
		assert(archive:set(user, ids[3], message("three"), time+100.5, "dave@b.example"));
		local _, when, with = archive:get(user, ids[3]);
		assert.equal(time+100.5, when);
		assert.equal("dave@b.example", with);
		assert.equal("three", (bodies(user, { with = "dave@b.example" })));
		assert.equal("1 5 7 9", (bodies(user, { with = "bob@b.example" })));
		local list, total = bodies(user, { ["end"] = time+5, total = true });
		assert.equal("1 2 4 5", list);
		assert.equal(4, total);
		assert.equal("three", (bodies(user, { start = time+50 })));
		assert.equal(4, archive:delete(user, { ["end"] = time+5 }));
		assert.equal("three 6 7 8 9 10", (bodies(user)));
		assert(archive:set(user, ids[3], message("3"), time+3, "bob@b.example"));
		assert.equal("3", (bodies(user, { ["end"] = time+5 })));
		assert.equal("3 7 9", (bodies(user, { with = "bob@b.example" })));
	end);
end);

describe("iterators", function ()
	both("yield copies of their own", function (user)
		ten(user);
		for _, stanza in archive:find(user, {}) do
			stanza:maptags(function () return nil; end);
			stanza.attr.id = "spoiled";
		end
		assert.equal("1 2 3", (bodies(user, { limit = 3 })));
		assert.equal("1", select(2, archive:find(user, {})()).attr.id);
	end);

	both("may be stopped early, and never called", function (user)
		ten(user);
		for _ = 1, 300 do
			archive:find(user, {});
			local iter = archive:find(user, { limit = 5 });
			iter();
			iter();
		end
		collectgarbage();
		assert.equal("10", (bodies(user, { reverse = true, limit = 1 })));
	end);

	both("go on over many entries, and show what was there at the start", function (user)
		for i = 1, 1700 do assert(archive:append(user, nil, message(tostring(i)), time+i, "bob@b.example")); end
		local count = 0;
		for _, value in archive:find(user, {}) do
			count = count + 1;
			assert.equal(tostring(count), value:get_child_text("body"));
			if count == 1 then assert(archive:append(user, nil, message("late"), time+2000, "bob@b.example")); end
		end
		assert.equal(1700, count);
		for _, value in archive:find(user, { reverse = true, start = time, ["end"] = time+1999 }) do
			assert.equal(tostring(count), value:get_child_text("body"));
			count = count - 1;
		end
		assert.equal(0, count);
		assert.equal(1001, #(all(user, { limit = 1001 })));
		assert.equal(900, archive:delete(user, { start = time+101, ["end"] = time+1000 }));
		local found, total = all(user, { total = true });
		assert.equal(801, #found);
		assert.equal(801, total);
		assert.equal("1001", found[101].body);
		assert.equal("100", (bodies(user, { before = found[101].id, reverse = true, limit = 1 })));
	end);

	both("end after their end", function (user)
		assert(archive:append(user, nil, message("x"), time, ""));
		local iter = archive:find(user, {});
		assert.truthy(iter());
		assert.is_nil(iter());
		assert.is_nil(iter());
	end);
end);

describe("values", function ()
	both("may be anything Lua can write down", function (user)
		local values = { "text", 5, 1.5, true, { a = { 1, 2 }, ["b c"] = "<xml/>" }, "<not xml", "line\nfeed" };
		for i, value in ipairs(values) do
			assert(archive:append(user, nil, value, time+i, ""));
		end
		local i = 0;
		for _, value in archive:find(user, {}) do
			i = i + 1;
			assert.same(values[i], value);
		end
		assert.equal(#values, i);
		assert.same({ nil, "unsupported-datatype" }, { archive:append(user, nil, function () end, time, "") });
	end);

	both("are stanzas as they were", function (user)
		local stanza = st.message({ to = "ü@b.example", ["xml:lang"] = "de", type = "chat" }, "a & <b> \u{1f98b}\n\"'")
			:tag("x", { xmlns = "urn:x" }):tag("y"):text(" "):up():tag("body", { xmlns = "jabber:client" }):up():up();
		assert(archive:append(user, nil, stanza, time, "bob@b.example"));
		local _, value = archive:find(user, {})();
		assert.same(canonical(stanza), canonical(value));
	end);
end);

describe("users", function ()
	it("are those who have something", function ()
		local other = assert(sm.open(test_host, "other", "archive"));
		for _, name in ipairs { "zoe", "adam", "Odd Name" } do
			assert(other:append(name, nil, message("x"), time, ""));
		end
		other:delete("zoe");
		local names = {};
		for name in other:users() do names[name] = true; end
		assert.is_true(names["adam"]);
		assert.is_true(names["Odd Name"]);
		assert.is_nil(names["zoe"]);
	end);

	it("can all be expired together", function ()
		local other = assert(sm.open(test_host, "other", "archive"));
		for _, name in ipairs { "adam", "beth", "cleo" } do
			other:delete(name);
			for i = 1, 5 do assert(other:append(name, nil, message(tostring(i)), time+1000+i, "")); end
		end
		-- One of them has an entry in the wrong place.
		assert(other:append("cleo", nil, message("early"), time+1001, ""));
		local before = 0;
		for name in other:users() do before = before + select(2, all(name, { total = true, ["end"] = time+1003 }, other)); end
		assert.equal(before, other:delete(true, { ["end"] = time+1003 }));
		for _, name in ipairs { "adam", "beth", "cleo" } do
			assert.equal("4 5", (bodies(name, {}, other)));
		end
		assert.equal(0, other:delete(true, { ["end"] = time+1003 }));
	end);

	it("can be removed for good", function ()
		ten("goner");
		archive:delete("goner", { with = "carol@b.example" });
		assert(sm.get_driver(test_host, "archive"):purge("goner"));
		assert.equal("", (bodies("goner")));
		local id = assert(archive:append("goner", nil, message("again"), time+50, ""));
		assert.equal("again", (bodies("goner")));
		assert.equal("again", archive:get("goner", id):get_child_text("body"));
	end);
end);

describe("many at once", function ()
	it("find, append and delete without getting mixed up", function ()
		local users, done, failed = 12, 0, nil;
		for u = 1, users do
			local user = "crowd"..u;
			local runner = async.runner(function ()
				for round = 1, 20 do
					local id = assert(archive:append(user, nil, message(user.."-"..round), time+round, "bob@b.example"));
					assert(archive:append(user, "key", message("key"), time+round, "carol@b.example"));
					local list, total = bodies(user, { with = "bob@b.example", reverse = true, limit = 1, total = true });
					assert.equal(user.."-"..round, list);
					assert.equal(round, total);
					assert.equal(user.."-"..round, archive:get(user, id):get_child_text("body"));
					assert.equal(round + 1, select(2, all(user, { total = true, limit = 0 })));
				end
				assert.equal(1, archive:delete(user, { key = "key" }));
				done = done + 1;
			end, { error = function (_, err) failed = err; end });
			runner:run(true);
		end
		local rounds = 0;
		while done < users and not failed do
			server.loop(true);
			rounds = rounds + 1;
			assert(rounds < 100000, "it never ends");
		end
		if failed then error(failed, 0); end
	end);

	-- How often the loop turned while one coroutine did this.
	local function turns(f)
		local ticks, over = 0, false;
		server.add_task(0, function () ticks = ticks + 1; return not over and 0 or nil; end);
		in_loop(function ()
			f();
			over = true;
		end);
		return ticks;
	end

	it("does not hold up the loop while a client's query waits", function ()
		ten("patient");
		assert(turns(function ()
			for _ = 1, 20 do assert.equal(10, select(2, all("patient", { total = true }))); end
		end) > 0);
		assert(turns(function ()
			for _ = 1, 20 do all("patient", { total = false }); end
		end) > 0);
	end);

	it("does not let the loop turn where Prosody counts on it", function ()
		local offline = assert(sm.open(test_host, "offline", "archive"));
		offline:delete("away");
		for i = 1, 40 do assert(offline:append("away", nil, message(tostring(i)), time+i, "")); end
		assert.equal(0, turns(function ()
			assert.equal(40, #(all("away", { total = true }, offline)));
			assert.equal(40, offline:delete("away"));
		end));
		ten("room");
		assert.equal(0, turns(function () all("room", { limit = 5, reverse = true }); end));
	end);
end);

describe("what is remembered", function ()
	it("is there when the store is opened again", function ()
		local user = "reopened";
		local ids = ten(user);
		archive:delete(user, { key = ids[4] });
		archive:delete(user, { with = "bob@b.example", start = time+6, ["end"] = time+8 });
		archive:set(user, ids[2], message("two"), time+200, "dave@b.example");
		archive:append(user, "own", message("own"), time-50, "bob@b.example");
		archive:append(user, "own", message("own2"), time-40, "bob@b.example");
		local function check()
			local list, total = bodies(user, { total = true });
			assert.equal("1 two 3 5 6 8 9 10 own2", list);
			assert.equal(9, total);
			assert.equal("1 3 5 9 own2", (bodies(user, { with = "bob@b.example" })));
			assert.equal("two", (bodies(user, { start = time+100 })));
			assert.equal("own2", (bodies(user, { ["end"] = time })));
			assert.same({ nil, "item-not-found" }, { archive:find(user, { after = ids[4] }) });
			assert.equal("own2", archive:get(user, "own"):get_child_text("body"));
		end
		check();
		assert(mm.reload(test_host, "storage_mammoth"));
		archive = assert(sm.open(test_host, "archive", "archive"));
		check();
		assert(archive:append(user, nil, message("more"), time+300, "bob@b.example"));
		assert.equal("more own2", (bodies(user, { reverse = true, limit = 2 })));
	end);
end);

describe("the quota", function ()
	it("is an error that makes room", function ()
		config.set(test_host, "storage_archive_item_limit", 5);
		assert(mm.reload(test_host, "storage_mammoth"));
		local limited = assert(sm.open(test_host, "limited", "archive"));
		assert.equal(5, limited.caps.quota);
		for i = 1, 5 do assert(limited:append("u", nil, message(tostring(i)), time+i, "")); end
		assert.same({ nil, "quota-limit" }, { limited:append("u", nil, message("6"), time+6, "") });
		assert.equal(1, limited:delete("u", { truncate = 4 }));
		assert(limited:append("u", nil, message("6"), time+6, ""));
		assert.equal("2 3 4 5 6", (bodies("u", {}, limited)));
		config.set(test_host, "storage_archive_item_limit", nil);
	end);
end);

describe("other kinds of store", function ()
	it("stay where Prosody keeps them by default", function ()
		config.set(test_host, "storage", "mammoth");
		local store = assert(sm.open(test_host, "things"));
		assert(store:set("someone", { a = 1 }));
		assert.same({ a = 1 }, store:get("someone"));
		local map = assert(sm.open(test_host, "things", "map"));
		assert.equal(1, map:get("someone", "a"));
	end);
end);

-- Prosody's archives in Mammoth's store: the half of the driver that knows Prosody. What is kept, and how, is in the
-- native half (mammoth_prosody.so), which lies beside this file or anywhere Lua looks for libraries.
--
--   storage = { archive = "mammoth", muc_log = "mammoth" }
--   mammoth_data = "/var/lib/prosody/mammoth"   -- the default: "mammoth" in Prosody's data directory
--   mammoth_durable_append = false              -- true: a message waits until its archive entry is on disk
--
-- See docs/prosody.md.

local async = require "util.async";
local serialization = require "util.serialization";
local st = require "util.stanza";
local storagemanager = require "core.storagemanager";
local xml_parse = require "util.xml".parse;

local stanza_mt = st.stanza_mt;
local is_stanza, tostring, type, setmetatable = st.is_stanza, tostring, type, setmetatable;
local os_time = os.time;
local isyieldable = coroutine.isyieldable;
local host = module.host;

-- The native half --------------------------------------------------------------------------------------------------

local function load_native()
	local directory = module.get_directory and module:get_directory() or nil;
	local beside = directory and directory.."/mammoth_prosody.so";
	local file = beside and io.open(beside, "rb");
	if file then
		file:close();
		local open, err = package.loadlib(beside, "luaopen_mammoth_prosody");
		if not open then error("Cannot load "..beside..": "..tostring(err)); end
		return open("mammoth_prosody", beside);
	end
	return require "mammoth_prosody";
end

local native = module:shared("/*/storage_mammoth/native");
if not native.open then
	for name, value in pairs(load_native()) do native[name] = value; end
end

local default_data = (prosody.paths and prosody.paths.data or ".").."/mammoth";
local data_path = module:get_option_string("mammoth_data", default_data);
local durable = module:get_option_boolean("mammoth_durable_append", false);
local item_limit = module:get_option_number("storage_archive_item_limit");

-- Waiting without blocking -----------------------------------------------------------------------------------------

-- The native half answers on threads of its own and rings a bell, which Prosody's loop watches. Whoever asked waits in
-- its coroutine; who has none is answered on the spot.
--
-- Prosody takes it in most places that nothing happens between two calls of a store: mod_offline sends what it has found
-- and then deletes everything, which would be more if the loop had turned; who joins a room gets its history before
-- what is said next. So only the stores of mod_mam and mod_muc_mam wait, and of their searches those that answer a
-- client's query: they say whether they want a total, the others do not.
local waits_for = {
	archive = true, archive2 = true, muc_log = true;
	[module:get_option_string("archive_store", "archive")] = true;
};

local function is_clients_query(query)
	return query ~= nil and query.total ~= nil;
end

local hub, watch;
local waiting = {};

-- A connection that was paused while its session waited may have input that was read from the network already and
-- now lies in LuaSocket's buffer; Prosody looks at it when the *next* packet comes. So look when it is resumed, as
-- Prosody itself does after a pause for rate limiting.
local function mind_buffered_input(interface)
	local resume = type(interface) == "table" and rawget(interface, "resume");
	if not resume or native.minded == interface or not rawget(interface, "pausefor") then return; end
	native.minded = interface;
	interface.resume = function (self, ...)
		local ret = resume(self, ...);
		local conn = self.conn;
		local dirty = type(conn) ~= "number" and conn and conn.dirty;
		if dirty and not self._pausefor and dirty(conn) then
			self:pausefor(0);
		end
		return ret;
	end
end

local function on_bell()
	local rung = hub:rung();
	for i = 1, #rung do
		local done = waiting[rung[i]];
		waiting[rung[i]] = nil;
		if done then done(); end
	end
end

local function watch_bell()
	-- Not in prosodyctl or the migrator, whose loops are not made for it.
	if (prosody.process_type or "prosody") ~= "prosody" then return; end
	local ok, server = pcall(require, "net.server");
	if not ok or not server.watchfd then return; end
	local new_hub = native.hub();
	local watched, conn = pcall(server.watchfd, new_hub:fd(), on_bell);
	if not watched or not conn then return; end
	hub, watch = new_hub, conn;
	local mt = getmetatable(conn);
	mind_buffered_input(mt and mt.__index);
end

local function can_wait(patient)
	return hub and patient and isyieldable() and async.ready();
end

local function answer_of(token)
	local wait, done = async.waiter();
	waiting[token] = done;
	wait();
	return hub:take(token);
end

-- Asks the native half, and waits as befits the caller.
local function ask(patient, db, name, ...)
	if can_wait(patient) then
		return answer_of(db:submit(hub, name, ...));
	end
	return db:run(name, ...);
end

-- Values -----------------------------------------------------------------------------------------------------------

local function write_value(value)
	if is_stanza(value) then
		return "xml", tostring(value);
	end
	local t = type(value);
	if t == "table" or t == "string" or t == "number" or t == "boolean" then
		return "data", serialization.serialize(value, "compact");
	end
	return nil, "unsupported-datatype";
end

local function read_value(kind, text)
	if kind == "stanza" then
		return text; -- read already
	end
	if kind == "xml" then
		return xml_parse(text);
	end
	return serialization.deserialize(text);
end

-- The archive store ------------------------------------------------------------------------------------------------

-- Prosody's names of hosts and stores as names of directories, as its own file storage writes them.
local function path_encode(name)
	return (name:gsub("[^%w_-]", function (c) return ("%%%02x"):format(c:byte()); end));
end

local dbs = {}; -- store -> db

local function directory_of(store)
	return data_path.."/"..path_encode(host).."/"..path_encode(store);
end

local function open_db(store)
	local db = dbs[store];
	if db then return db; end
	local err;
	db, err = native.open(directory_of(store), host);
	if not db then
		module:log("error", "Cannot open the archive store %q: %s", store, err);
		return nil, "storage: "..tostring(err);
	end
	dbs[store] = db;
	return db;
end

local archive_store = {};
archive_store.__index = archive_store;

archive_store.caps = {
	total = true;
	quota = item_limit;
	truncate = true;
	full_id_range = true;
	ids = true;
	wildcard_delete = true;
};

function archive_store:append(username, key, value, when, with)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	local kind, text = write_value(value);
	if not kind then return nil, text; end
	when = when or os_time();
	if key ~= nil then
		return ask(self.patient, db, "append", username, key, kind, text, when, with or "");
	end
	local id, next = db:append(username, kind, text, when, with or "", item_limit);
	if not id then
		return nil, next;
	end
	if durable then
		local kept;
		if can_wait(self.patient) then
			kept, err = answer_of(db:submit_wait(hub, username, next));
		else
			kept, err = db:wait(username, next);
		end
		if not kept then return nil, err; end
	end
	return id;
end

-- Prosody does whatever it does with a row before it asks for the next one, and nothing else meanwhile: a page would
-- keep everybody waiting. So the loop may turn after so many rows.
local rows_at_once = 8;

local function iterate(patient, db, rows)
	local taken = 0;
	return function ()
		while rows do
			if taken == rows_at_once then
				taken = 0;
				if can_wait(patient) then answer_of(hub:ring()); end
			end
			taken = taken + 1;
			local id, kind, text, when, with = rows:next(stanza_mt);
			if id ~= nil then
				local value, err = read_value(kind, text);
				if value == nil then error("Cannot read an archive entry: "..tostring(err)); end
				return id, value, when, with;
			end
			if not rows:more() then
				rows = nil;
				return nil;
			end
			local err;
			rows, err = ask(patient, db, "more", rows);
			if not rows then error("Cannot read on in the archive: "..tostring(err)); end
		end
	end
end

function archive_store:find(username, query)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	local patient = self.patient and is_clients_query(query);
	local rows, total = ask(patient, db, "find", username, query);
	if not rows then return nil, total; end
	return iterate(patient, db, rows), total;
end

function archive_store:get(username, key)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	local kind, text, when, with = ask(self.patient, db, "get", username, key);
	if not kind then return nil, text; end
	local value;
	value, err = read_value(kind, text);
	if value == nil then return nil, err; end
	return value, when, with;
end

function archive_store:set(username, key, value, when, with)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	local kind, text;
	if value ~= nil then
		kind, text = write_value(value);
		if not kind then return nil, text; end
	end
	return ask(self.patient, db, "set", username, key, kind, text, when, with);
end

function archive_store:delete(username, query)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	return ask(self.patient, db, "delete", username, query);
end

function archive_store:summary(username, query)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	return ask(self.patient, db, "summary", username, query);
end

function archive_store:dates(username)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	return ask(self.patient, db, "dates", username);
end

function archive_store:users()
	local db, err = open_db(self.store);
	if not db then error(err); end
	local names = assert(ask(self.patient, db, "users"));
	local i = 0;
	return function ()
		i = i + 1;
		local name = names[i];
		if name == "" then return ""; end
		return name;
	end
end

function archive_store:purge(username)
	local db, err = open_db(self.store);
	if not db then return nil, err; end
	return ask(self.patient, db, "purge", username);
end

-- The driver -------------------------------------------------------------------------------------------------------

-- Everything that is not an archive stays where Prosody keeps it by default.
local function other_driver()
	local name = module:get_option_string("default_storage", "internal");
	if name == "mammoth" then name = "internal"; end
	return storagemanager.load_driver(host, name);
end

local driver = {};

function driver:open(store, typ) -- luacheck: ignore 212/self
	if typ == "archive" then
		return setmetatable({ store = store, patient = waits_for[store] }, archive_store);
	end
	local other = other_driver();
	if not other then return nil, "unsupported-store"; end
	return other:open(store, typ);
end

function driver:stores(username, typ) -- luacheck: ignore 212/self
	local other = other_driver();
	if other and other.stores then
		return other:stores(username, typ);
	end
	return function () end;
end

-- Every store of this host that was ever written to.
local function known_stores()
	local lfs = require "lfs";
	local names = {};
	local base = data_path.."/"..path_encode(host);
	if lfs.attributes(base, "mode") == "directory" then
		for name in lfs.dir(base) do
			if lfs.attributes(base.."/"..name.."/mammoth.sqlite", "mode") == "file" then
				names[#names+1] = (name:gsub("%%(%x%x)", function (hex) return string.char(tonumber(hex, 16)); end));
			end
		end
	end
	return names;
end

local requests_path = data_path.."/"..path_encode(host).."/forget";

local function purge_archives(username)
	local all_ok, first_err = true, nil;
	for _, store in ipairs(known_stores()) do
		local db, ok, err;
		db, err = open_db(store);
		if db then ok, err = ask(true, db, "purge", username); end
		if not ok then
			all_ok, first_err = false, first_err or err;
		end
	end
	return all_ok, first_err;
end

function driver:purge(username) -- luacheck: ignore 212/self
	local ok, err = purge_archives(username);
	if not ok then
		-- Most likely prosodyctl beside a running Prosody, which has the stores: leave it a note.
		module:log("warn", "The archives of %s are left to the running server to remove: %s", username, err);
		local file = io.open(requests_path, "a");
		if file then
			file:write(path_encode(username), "\n");
			file:close();
		end
	end
	local other = other_driver();
	if other and other.purge then other:purge(username); end
	return true;
end

-- Users that prosodyctl removed while this process had the stores.
local function purge_requested()
	local file = io.open(requests_path, "r");
	if not file then return; end
	local taken = requests_path..".taken";
	if not os.rename(requests_path, taken) then file:close(); return; end
	for line in file:lines() do
		local username = line:gsub("%%(%x%x)", function (hex) return string.char(tonumber(hex, 16)); end);
		local ok, err = purge_archives(username);
		module:log(ok and "info" or "error", "Removed the archives of %s%s", username, ok and "" or ": "..tostring(err));
	end
	file:close();
	os.remove(taken);
end

local requests_interval = 60;

watch_bell();

if hub then
	module:add_timer(1, function ()
		async.runner(purge_requested):run(true);
		return requests_interval;
	end);
end

local function close_all()
	for store, db in pairs(dbs) do
		db:flush();
		db:close();
		dbs[store] = nil;
	end
end

if module.hook_global then
	-- After everything else has written its last.
	module:hook_global("server-stopped", close_all, -1000);
end

function module.unload()
	close_all();
	if watch then watch:close(); end
end

module:provides("storage", driver);

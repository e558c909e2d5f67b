-- A busted helper: lets specifications run against the driver in an installed Prosody, without changing a byte of them.
-- It knows nothing of what they specify.
--
--   MAMMOTH_PROSODY    where Prosody's Lua files are (/usr/lib/prosody)
--   MAMMOTH_DRIVER     the directory with mod_storage_mammoth.lua and mammoth_prosody.so
--   MAMMOTH_DATA       a directory for data
--   MAMMOTH_MANAGER    another storagemanager.lua than the installed one, such as the one a specification is of

local prosody_path = os.getenv "MAMMOTH_PROSODY" or "/usr/lib/prosody";
local driver_path = assert(os.getenv "MAMMOTH_DRIVER");
local data_path = assert(os.getenv "MAMMOTH_DATA");

package.path = prosody_path.."/?.lua;"..package.path;
package.cpath = prosody_path.."/?.so;"..package.cpath;
_G.CFG_PLUGINDIR = driver_path..";"..prosody_path.."/modules/";

-- Newer Prosody calls its modules "prosody.util.…", older "util.…".
table.insert(package.searchers, 2, function (name)
	local short = name:match("^prosody%.(.+)$");
	if not short or package.searchpath(name, package.path) then return; end
	return function () return require(short); end
end);

local manager = os.getenv "MAMMOTH_MANAGER";
if manager then
	package.preload["core.storagemanager"] = assert(loadfile(manager));
end

-- Outside a running Prosody the event loop is to be named directly.
package.preload["net.server"] = function () return require "net.server_epoll"; end

-- Prosody's storage specification goes through a table of storages to test. Ours takes their place in it.
local next, pairs = next, pairs;
function _G.pairs(t)
	if type(t) == "table" and type(rawget(t, "internal")) == "table" and t.internal.storage == "internal"
	and type(rawget(t, "memory")) == "table" then
		return next, { mammoth = { storage = "mammoth", mammoth_data = data_path } }, nil;
	end
	return pairs(t);
end

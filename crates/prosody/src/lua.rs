//! The functions that Lua sees. They take Lua's values apart, hand requests on, and put answers together; they never
//! wait for the disk unless asked to.
//!
//! ```text
//! hub()                     → hub          hub:fd()  hub:rung() → {token…}  hub:take(token) → answer…
//! hub:ring()                → token        of an answer that is there, for whoever wants the loop to turn once
//! open(dir, host)           → db | nil, err
//! db:append(user, kind, text, when, with, limit) → id, next | nil, err
//! db:run(name, user, …)     → answer… | nil, err               waits
//! db:submit(hub, name, user, …) → token                        does not
//! rows:next(stanza_mt)      → id, "stanza", stanza, when, with | id, kind, text, when, with | nothing
//! rows:more()               → boolean
//! ```

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mlua::{AnyUserData, IntoLuaMulti, Lua, MultiValue, Table, UserData, UserDataMethods, Value as LuaValue};

use crate::Fail;
use crate::db::{Answer, Db, Request, Summed, Who};
use crate::envelope::{Kind, Value, micros};
use crate::find::{Ask, Row, Walk};
use crate::hub::{Hub, Outcome, answer};
use crate::names;
use crate::remove::{Change, Keep};
use crate::stanza::{self, Child, Element};

/// The most ids in one query.
const IDS_MAX: usize = 10_000;

struct LuaHub(Arc<Hub>);
struct LuaDb(Option<Arc<Db>>);

struct Rows {
    user: Option<String>,
    rows: std::vec::IntoIter<Row>,
    rest: Option<Walk>,
}

/// What `require` gives.
#[mlua::lua_module]
#[allow(unsafe_code, unreachable_pub)]
fn mammoth_prosody(lua: &Lua) -> mlua::Result<Table> {
    let exports = lua.create_table()?;
    exports.set("version", env!("CARGO_PKG_VERSION"))?;
    exports.set("hub", lua.create_function(|_, ()| Ok(LuaHub(Hub::new()?)))?)?;
    let open = |lua: &Lua, (dir, host): (String, String)| match Db::open(Path::new(&dir), &host) {
        Ok(db) => LuaDb(Some(db)).into_lua_multi(lua),
        Err(fail) => failed(lua, &fail),
    };
    exports.set("open", lua.create_function(open)?)?;
    Ok(exports)
}

fn failed(lua: &Lua, fail: &Fail) -> mlua::Result<MultiValue> {
    (LuaValue::Nil, fail.to_string()).into_lua_multi(lua)
}

impl UserData for LuaHub {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("fd", |_, this, ()| Ok(this.0.fd()));
        methods.add_method("rung", |_, this, ()| Ok(this.0.rung()));
        methods.add_method("ring", |_, this, ()| {
            let token = this.0.token();
            this.0.done(token, Ok(Answer::Done));
            Ok(token)
        });
        methods.add_method("take", |lua, this, token: u64| match this.0.take(token) {
            Some(outcome) => tell(lua, outcome),
            None => (LuaValue::Nil, "no such answer").into_lua_multi(lua),
        });
    }
}

impl LuaDb {
    fn db(&self) -> mlua::Result<&Arc<Db>> {
        self.0.as_ref().ok_or_else(|| mlua::Error::runtime("the store is closed"))
    }
}

impl UserData for LuaDb {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        type Append = (Option<String>, String, mlua::LuaString, Option<f64>, Option<String>, Option<u64>);
        methods.add_method("append", |lua, this, (user, kind, text, when, with, limit): Append| {
            let value = value(&kind, &text, when, with)?;
            match this.db()?.append(user.as_deref(), &value, limit) {
                Ok(appended) => (appended.id, appended.next).into_lua_multi(lua),
                Err(fail) => failed(lua, &fail),
            }
        });
        methods.add_method("run", |lua, this, (name, arguments): (String, MultiValue)| {
            match request(lua, &name, arguments)? {
                Ok(request) => tell(lua, answer(this.db()?, request)),
                Err(fail) => failed(lua, &fail),
            }
        });
        methods.add_method(
            "submit",
            |lua, this, (hub, name, arguments): (AnyUserData, String, MultiValue)| {
                let hub = hub.borrow::<LuaHub>()?.0.clone();
                match request(lua, &name, arguments)? {
                    Ok(request) => Ok(hub.submit(this.db()?.clone(), request)),
                    Err(fail) => {
                        let token = hub.token();
                        hub.done(token, Err(fail));
                        Ok(token)
                    }
                }
            },
        );
        methods.add_method("wait", |lua, this, (user, next): (Option<String>, i64)| {
            match this.db()?.wait(user.as_deref(), next) {
                Ok(()) => true.into_lua_multi(lua),
                Err(fail) => failed(lua, &fail),
            }
        });
        methods.add_method(
            "submit_wait",
            |_, this, (hub, user, next): (AnyUserData, Option<String>, i64)| {
                let hub = hub.borrow::<LuaHub>()?.0.clone();
                let token = hub.token();
                let told = hub.clone();
                let waiter = Box::new(move |outcome: Result<(), Fail>| {
                    told.done(token, outcome.map(|()| Answer::Done))
                });
                this.db()?.tell_when(user.as_deref(), next, waiter);
                Ok(token)
            },
        );
        methods.add_method("flush", |_, this, ()| {
            this.db()?.flush();
            Ok(true)
        });
        methods.add_method_mut("close", |_, this, ()| {
            this.0 = None;
            Ok(true)
        });
    }
}

impl UserData for Rows {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("next", |lua, this, metatable: Option<Table>| {
            let Some(row) = this.rows.next() else { return Ok(MultiValue::new()) };
            let read = match (&metatable, row.kind) {
                (Some(metatable), Kind::Stanza) => built(lua, &row.text, metatable)?,
                _ => None,
            };
            match read {
                Some(stanza) => (row.id, "stanza", stanza, number(row.when), row.with).into_lua_multi(lua),
                None => {
                    (row.id, row_values(lua, row.kind, &row.text, row.when, row.with)?).into_lua_multi(lua)
                }
            }
        });
        methods.add_method("more", |_, this, ()| Ok(this.rest.is_some()));
    }
}

fn row_values(lua: &Lua, kind: Kind, text: &[u8], when: f64, with: String) -> mlua::Result<MultiValue> {
    (kind.as_str(), lua.create_string(text)?, number(when), with).into_lua_multi(lua)
}

/// A stanza as Prosody has it in memory; `None` when its text is for Prosody to read.
fn built(lua: &Lua, text: &[u8], metatable: &Table) -> mlua::Result<Option<Table>> {
    let element = std::str::from_utf8(text).ok().and_then(stanza::read);
    element.map(|element| element_table(lua, &element, metatable)).transpose()
}

fn element_table(lua: &Lua, element: &Element<'_>, metatable: &Table) -> mlua::Result<Table> {
    let attr = lua.create_table_with_capacity(0, element.attributes.len() + 1)?;
    for (name, value) in &element.attributes {
        attr.raw_set(*name, value.as_ref())?;
    }
    if let Some(namespace) = &element.namespace {
        attr.raw_set("xmlns", namespace.as_ref())?;
    }
    let table = lua.create_table_with_capacity(element.children.len(), 3)?;
    let tags = lua.create_table()?;
    for child in &element.children {
        match child {
            Child::Text(text) => table.raw_push(text.as_ref())?,
            Child::Element(element) => {
                let child = element_table(lua, element, metatable)?;
                tags.raw_push(&child)?;
                table.raw_push(child)?;
            }
        }
    }
    table.raw_set("name", element.name)?;
    table.raw_set("attr", attr)?;
    table.raw_set("tags", tags)?;
    table.set_metatable(Some(metatable.clone()))?;
    Ok(table)
}

/// Whole numbers as such, as they mostly came.
fn number(n: f64) -> LuaValue {
    if n.fract() == 0.0 && n.abs() < 1e15 { LuaValue::Integer(n as i64) } else { LuaValue::Number(n) }
}

/// An outcome as Lua's storage API returns it.
fn tell(lua: &Lua, outcome: Outcome) -> mlua::Result<MultiValue> {
    match outcome {
        Err(fail) => failed(lua, &fail),
        Ok(Answer::Found(user, found)) => {
            let total = found.total;
            (Rows { user, rows: found.rows.into_iter(), rest: found.rest }, total).into_lua_multi(lua)
        }
        Ok(Answer::Row(row)) => row_values(lua, row.kind, &row.text, row.when, row.with),
        Ok(Answer::Key(key)) => key.into_lua_multi(lua),
        Ok(Answer::Count(count)) => count.into_lua_multi(lua),
        Ok(Answer::Names(names)) => names.into_lua_multi(lua),
        Ok(Answer::Done) => true.into_lua_multi(lua),
        Ok(Answer::Summary(sums)) => {
            let (counts, earliest, latest) = (lua.create_table()?, lua.create_table()?, lua.create_table()?);
            for Summed { with, count, earliest: first, latest: last } in sums {
                counts.set(with.as_str(), count)?;
                earliest.set(with.as_str(), number(first))?;
                latest.set(with.as_str(), number(last))?;
            }
            let summary = lua.create_table()?;
            summary.set("counts", counts)?;
            summary.set("earliest", earliest)?;
            summary.set("latest", latest)?;
            summary.into_lua_multi(lua)
        }
    }
}

fn value(kind: &str, text: &mlua::LuaString, when: Option<f64>, with: Option<String>) -> mlua::Result<Value> {
    let kind = Kind::named(kind).ok_or_else(|| mlua::Error::runtime("no such kind of value"))?;
    let text = Bytes::copy_from_slice(&text.as_bytes());
    let when = when.unwrap_or_else(crate::clock::now_seconds);
    Ok(Value { kind, text, when, with: with.unwrap_or_default() })
}

/// A request as Lua makes it: what it is called, whose archive, and what else it takes.
fn request(lua: &Lua, name: &str, arguments: MultiValue) -> mlua::Result<Result<Request, Fail>> {
    use mlua::FromLuaMulti;
    type Keyed = (Option<String>, String, String, mlua::LuaString, Option<f64>, Option<String>);
    type Set = (Option<String>, String, Option<String>, Option<mlua::LuaString>, Option<f64>, Option<String>);
    Ok(Ok(match name {
        "find" => {
            let (user, query) = <(Option<String>, Option<Table>)>::from_lua_multi(arguments, lua)?;
            match ask(query.as_ref())? {
                Ok(ask) => Request::Find(user, ask),
                Err(fail) => return Ok(Err(fail)),
            }
        }
        "more" => {
            let rows = AnyUserData::from_lua_multi(arguments, lua)?;
            let mut rows = rows.borrow_mut::<Rows>()?;
            let rest = rows.rest.take().ok_or_else(|| mlua::Error::runtime("there are no more rows"))?;
            Request::More(rows.user.clone(), rest)
        }
        "get" => {
            let (user, key) = <(Option<String>, String)>::from_lua_multi(arguments, lua)?;
            Request::Get(user, key)
        }
        "append" => {
            let (user, key, kind, text, when, with) = Keyed::from_lua_multi(arguments, lua)?;
            Request::Append(user, key, value(&kind, &text, when, with)?)
        }
        "set" => {
            let (user, key, kind, text, when, with) = Set::from_lua_multi(arguments, lua)?;
            let value = match (kind.as_deref().and_then(Kind::named), text) {
                (Some(kind), Some(text)) => Some((kind, Bytes::copy_from_slice(&text.as_bytes()))),
                _ => None,
            };
            Request::Set(user, key, Change { value, when, with })
        }
        "delete" => {
            let (user, query) = <(LuaValue, Option<Table>)>::from_lua_multi(arguments, lua)?;
            let who = match user {
                LuaValue::Boolean(true) => Who::All,
                LuaValue::Nil => Who::One(None),
                LuaValue::String(user) => Who::One(Some(user.to_str()?.to_owned())),
                _ => return Err(mlua::Error::runtime("a user name, nil or true is expected")),
            };
            let keep = match &query {
                Some(query) => keep(query)?,
                None => Keep::None,
            };
            match ask(query.as_ref())? {
                Ok(mut ask) => {
                    // What is not there need not be deleted.
                    if ask.keys.is_none() {
                        ask.keys = ask.ids.take();
                    }
                    Request::Delete(who, ask, keep)
                }
                Err(fail) => return Ok(Err(fail)),
            }
        }
        "summary" => {
            let (user, query) = <(Option<String>, Option<Table>)>::from_lua_multi(arguments, lua)?;
            match ask(query.as_ref())? {
                Ok(ask) => Request::Summary(user, ask),
                Err(fail) => return Ok(Err(fail)),
            }
        }
        "dates" => Request::Dates(Option::from_lua_multi(arguments, lua)?),
        "users" => Request::Users,
        "purge" => Request::Purge(Option::from_lua_multi(arguments, lua)?),
        "flush" => Request::Flush,
        _ => return Err(mlua::Error::runtime(format!("no request is called {name}"))),
    }))
}

fn keep(query: &Table) -> mlua::Result<Keep> {
    let Some(count) = query.get::<Option<f64>>("truncate")? else { return Ok(Keep::None) };
    let count = count.max(0.0) as usize;
    Ok(if truthy(&query.get("reverse")?) { Keep::Oldest(count) } else { Keep::Newest(count) })
}

fn truthy(value: &LuaValue) -> bool {
    !matches!(value, LuaValue::Nil | LuaValue::Boolean(false))
}

fn ask(query: Option<&Table>) -> mlua::Result<Result<Ask, Fail>> {
    let Some(query) = query else { return Ok(Ok(Ask::default())) };
    let with = match query.get::<Option<String>>("with")? {
        None => None,
        Some(with) => match names::with_jid(&with) {
            Some(jid) => Some(jid),
            None => return Ok(Err(Fail::Value)),
        },
    };
    let time =
        |name: &str| -> mlua::Result<Option<Option<i64>>> { Ok(query.get::<Option<f64>>(name)?.map(micros)) };
    let (start, end) = (time("start")?, time("end")?);
    if start == Some(None) || end == Some(None) {
        return Ok(Err(Fail::Value));
    }
    let ids: Option<Vec<String>> = query.get("ids")?;
    if ids.as_ref().is_some_and(|ids| ids.len() > IDS_MAX) {
        return Ok(Err(Fail::Value));
    }
    let limit: Option<f64> = query.get("limit")?;
    Ok(Ok(Ask {
        with,
        start: start.flatten(),
        end: end.flatten(),
        keys: query.get::<Option<String>>("key")?.map(|key| vec![key]),
        ids,
        after: query.get("after")?,
        before: query.get("before")?,
        reverse: truthy(&query.get("reverse")?),
        limit: limit.map(|limit| limit.max(0.0) as usize),
        total: truthy(&query.get("total")?),
    }))
}

//! From TOML text and environment to values that know where they stand, and the errors that say so. What a value
//! must be is asked by the closures that config.rs hands in; here is only how to find it and how to complain.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::keys::{self, Default, KEYS};

/// Where a value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the file, at this line (counted from 1).
    Line(String, usize),
    /// In the file as a whole.
    File(String),
    /// In this environment variable.
    Variable(String),
    /// In the defaults: only a mistake in the program leads here.
    BuiltIn,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(file, line) => write!(f, "{file}:{line}"),
            Place::File(file) => f.write_str(file),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::BuiltIn => f.write_str("built-in default"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, with the key, and what would be right.
    pub text: String,
}

/// Everything that is wrong with the configuration, in the order of the places.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let line_break = if n == 0 { "" } else { "\n" };
            write!(f, "{line_break}{}: {}", problem.place, problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value as written.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    List(Vec<Located>),
    /// Something that no key takes: a float, a date, a table.
    Other(&'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Boolean(truth) => write!(f, "{truth}"),
            Value::List(_) => f.write_str("a list"),
            Value::Other(what) => f.write_str(what),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Located {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

impl Located {
    /// What a key takes that takes a text.
    pub fn text(&self) -> Result<String, String> {
        match (&self.value, &self.place) {
            (Value::Text(text), _) => Ok(text.clone()),
            (Value::Integer(_) | Value::Boolean(_), Place::Variable(_)) => Ok(self.value.to_string()),
            _ => Err("is not a text".into()),
        }
    }

    /// What a key takes that takes a list. One text will do for a list of one; in the environment, commas part it.
    pub fn list(&self) -> Vec<Located> {
        let located =
            |text: &str| Located { value: Value::Text(text.trim().into()), place: self.place.clone() };
        match (&self.value, &self.place) {
            (Value::List(items), _) => items.clone(),
            (Value::Text(text), Place::Variable(_)) => text.split(',').map(located).collect(),
            _ => vec![self.clone()],
        }
    }
}

/// The values of one configuration, and what has turned out to be wrong with it.
pub struct Raw {
    file: String,
    found: BTreeMap<String, Located>,
    /// `[tls."domain"]`: where the section stands, and its keys.
    pub tls_of_domain: BTreeMap<String, (Place, BTreeMap<String, Located>)>,
    problems: Vec<Problem>,
}

impl Raw {
    /// Reads the file's text and the environment, of which only names that begin with `MAMMOTH_` count. The error is
    /// a file that is not TOML; all else that is wrong is kept for [`finish`](Self::finish).
    pub fn read(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Raw, Problems> {
        let mut raw = Raw {
            file: file.to_string(),
            found: BTreeMap::new(),
            tls_of_domain: BTreeMap::new(),
            problems: Vec::new(),
        };
        let lines = Lines { file, text };
        let table = DeTable::parse(text).map_err(|error| {
            let place = error.span().map_or_else(|| Place::File(file.into()), |span| lines.place(span.start));
            let text = format!("not TOML: {}{}", error.message(), lines.hint(&place));
            Problems(vec![Problem { place, text }])
        })?;
        raw.table("", table.get_ref(), &lines);
        for (name, value) in environment {
            raw.variable(name, value);
        }
        Ok(raw)
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>, lines: &Lines<'_>) {
        for (name, value) in table {
            let path = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            let place = lines.place(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if keys::is_section(&path) => self.table(&path, inner, lines),
                DeValue::Table(inner) if section == "tls" && keys::find(&path).is_none() => {
                    self.tls_section(name.get_ref(), place, inner, lines);
                }
                _ if keys::is_section(&path) => {
                    self.problem(place, format!("{path} is a section: write [{path}] on a line of its own"));
                }
                _ if keys::find(&path).is_some() => {
                    self.found.insert(path, lines.located(value.span().start, value.get_ref()));
                }
                _ => self.unknown(place, section, &path, KEYS.iter().map(|key| key.path)),
            }
        }
    }

    fn tls_section(&mut self, domain: &str, place: Place, table: &DeTable<'_>, lines: &Lines<'_>) {
        let mut found = BTreeMap::new();
        for (name, value) in table {
            match name.get_ref().as_ref() {
                "certificate" | "key" => {
                    let located = lines.located(value.span().start, value.get_ref());
                    found.insert(name.get_ref().to_string(), located);
                }
                other => {
                    let place = lines.place(name.span().start);
                    self.unknown(place, "tls", other, ["certificate", "key"].into_iter());
                }
            }
        }
        self.tls_of_domain.insert(domain.to_string(), (place, found));
    }

    /// A key that is not one of ours; says which one it may have been meant to be.
    fn unknown(
        &mut self,
        place: Place,
        section: &str,
        path: &str,
        known: impl Iterator<Item = &'static str>,
    ) {
        let known: Vec<&str> = known.collect();
        let last = path.rsplit('.').next().unwrap_or(path);
        // A misspelt [section] is told from its table; sections are names too.
        let sections = keys::SECTIONS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
        let names = known.iter().copied().chain(sections.filter(|_| section.is_empty()));
        let misplaced = known.iter().find(|key| key.rsplit('.').next() == Some(last));
        let advice = match (misplaced, nearest(path, names)) {
            (Some(key), _) if *key != path => match keys::section_and_name(key) {
                ("", _) => format!("{last} belongs at the top of the file, before the first [section]"),
                (section, _) => format!("{last} belongs under [{section}]"),
            },
            (_, Some(key)) => format!("did you mean {key}?"),
            _ => {
                let here = |key: &&&str| match keys::section_and_name(key) {
                    ("", _) => section.is_empty() || section == "tls",
                    (of, _) => of == section,
                };
                let names = known.iter().filter(here);
                format!("allowed here: {}", names.copied().collect::<Vec<_>>().join(", "))
            }
        };
        self.problem(place, format!("unknown key {path}; {advice}"));
    }

    /// A variable of ours replaces what the file says. One that looks like a slip is an error; others that happen to
    /// begin alike (a container platform's, for instance) are left alone.
    fn variable(&mut self, name: String, value: String) {
        if !name.starts_with("MAMMOTH_") || name == CONFIG_VARIABLE {
            return;
        }
        let place = Place::Variable(name.clone());
        match KEYS.iter().find(|key| keys::variable(key.path) == name) {
            Some(key) => {
                let parsed = DeValue::parse(&value).ok();
                let lines = Lines { file: "", text: "" };
                let value = match parsed.as_ref().map(|value| lines.located(0, value.get_ref()).value) {
                    Some(Value::Other(_)) | None => Value::Text(value.clone()),
                    Some(Value::List(items)) => Value::List(
                        items.into_iter().map(|item| Located { place: place.clone(), ..item }).collect(),
                    ),
                    Some(parsed) => parsed,
                };
                self.found.insert(key.path.to_string(), Located { value, place });
            }
            None => {
                let names: Vec<String> = KEYS.iter().map(|key| keys::variable(key.path)).collect();
                if let Some(meant) = nearest(&name, names.iter().map(String::as_str)) {
                    self.problem(place, format!("no such key; did you mean {meant}?"));
                }
            }
        }
    }

    /// Notes that something is wrong.
    pub fn problem(&mut self, place: Place, text: String) {
        self.problems.push(Problem { place, text });
    }

    /// Was the key written, in the file or in the environment?
    pub fn written(&self, path: &str) -> Option<&Located> {
        self.found.get(path)
    }

    /// Where the key stands, or the file if it is not written.
    pub fn place(&self, path: &str) -> Place {
        self.written(path).map_or_else(|| Place::File(self.file.clone()), |located| located.place.clone())
    }

    /// The key's value, or its default, as `read` makes it. What `read` says against the value becomes a problem, and
    /// the answer is `None`; so it is for an absent key without default, which becomes a problem if it is required.
    pub fn value<T>(&mut self, path: &str, read: impl Fn(&Located) -> Result<T, String>) -> Option<T> {
        let key = keys::find(path)?;
        let located = match (self.found.get(path), &key.default) {
            (Some(located), _) => located.clone(),
            (None, Default::Value(text)) => built_in(text),
            (None, Default::Nothing(_)) => return None,
            (None, Default::Required(example)) => {
                let place = Place::File(self.file.clone());
                self.problem(place, format!("{path} is missing: {}, such as {path} = {example}", key.form));
                return None;
            }
        };
        self.check(&located, path, key.form, &read)
    }

    /// The key's list, each member as `read` makes it.
    pub fn list<T>(&mut self, path: &str, read: impl Fn(&Located) -> Result<T, String>) -> Option<Vec<T>> {
        let key = keys::find(path)?;
        let items = self.value(path, |located| Ok(located.list()))?;
        items.iter().map(|item| self.check(item, path, key.form, &read)).collect()
    }

    /// One value, judged by `read`.
    pub fn check<T>(
        &mut self,
        located: &Located,
        path: &str,
        form: &str,
        read: &impl Fn(&Located) -> Result<T, String>,
    ) -> Option<T> {
        match read(located) {
            Ok(value) => Some(value),
            Err(what) => {
                let value =
                    if keys::is_secret(path) { "what is written".into() } else { located.value.to_string() };
                let text = format!("{path}: {value} {what}; allowed: {form}");
                self.problem(located.place.clone(), text);
                None
            }
        }
    }

    /// Everything that has been found wrong, in the order of the lines; `Ok` if nothing has.
    pub fn finish(mut self) -> Result<(), Problems> {
        self.problems.sort_by_key(|problem| match &problem.place {
            Place::Line(_, line) => *line,
            _ => usize::MAX,
        });
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }
}

/// The variable that names the configuration file; it overrides no key.
pub const CONFIG_VARIABLE: &str = "MAMMOTH_CONFIG";

fn built_in(text: &str) -> Located {
    let lines = Lines { file: "", text: "" };
    let value = match DeValue::parse(text) {
        Ok(value) => lines.located(0, value.get_ref()).value,
        Err(_) => Value::Other("not TOML"),
    };
    Located { value, place: Place::BuiltIn }
}

/// How far a name may be from what was meant, relative to its length: a third of its letters.
const SLIP_SHARE: usize = 3;

/// The known name nearest to `name`, if it is near enough to have been meant.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|key| (strsim::osa_distance(name, key), key))
        .filter(|(distance, key)| *distance * SLIP_SHARE <= key.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// The text of a file, to turn an offset into a line.
struct Lines<'t> {
    file: &'t str,
    text: &'t str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().iter().take(offset);
        Place::Line(self.file.to_string(), 1 + before.filter(|byte| **byte == b'\n').count())
    }

    fn located(&self, offset: usize, value: &DeValue<'_>) -> Located {
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number of this size"),
            },
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Array(items) => Value::List(
                items.iter().map(|item| self.located(item.span().start, item.get_ref())).collect(),
            ),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Table(_) => Value::Other("a table"),
        };
        Located { value, place: self.place(offset) }
    }

    /// What those who bring lines from a Prosody configuration trip over.
    fn hint(&self, place: &Place) -> &'static str {
        let Place::Line(_, number) = place else { return "" };
        let line = self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
        if line.contains("--") {
            " (a comment begins with #, not with --)"
        } else if line.trim_end().ends_with(';') {
            " (no semicolon at the end of a line)"
        } else if line.contains('*') {
            " (write the product: 3600 instead of 60 * 60)"
        } else if line.contains('{') || line.trim() == "}" {
            " (a list is written [\"like\", \"this\"])"
        } else {
            ""
        }
    }
}

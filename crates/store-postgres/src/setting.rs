//! Settings as text, readable with psql: prefs one JID per line behind the default, a period as seconds or `never`.
//! What they mean is left to `mammoth_archive`.

use jid::Jid;
use mammoth_archive::{ExpiresAfter, Prefs};

use crate::failure::Failure;

/// A period as it is kept.
pub fn write_period(period: ExpiresAfter) -> String {
    match period {
        ExpiresAfter::Never => "never".to_owned(),
        ExpiresAfter::Seconds(seconds) => seconds.to_string(),
    }
}

/// A period as it was kept.
pub fn read_period(text: &str) -> Result<ExpiresAfter, Failure> {
    text.parse().map_err(|error: mammoth_archive::retention::NotAPeriod| Failure::Corrupt(error.into()))
}

/// Prefs as they are kept. No JID holds a line break.
pub fn write_prefs(prefs: &Prefs) -> String {
    let mut text = prefs.default_policy().as_str().to_owned();
    for (sign, jid) in prefs.always().map(|jid| ('+', jid)).chain(prefs.never().map(|jid| ('-', jid))) {
        text.push('\n');
        text.push(sign);
        text.push_str(jid.as_str());
    }
    text
}

/// Prefs as they were kept.
pub fn read_prefs(text: &str) -> Result<Prefs, Failure> {
    let mut lines = text.split('\n');
    let default = lines.next().unwrap_or_default().parse();
    let default =
        default.map_err(|error: mammoth_archive::prefs::NotADefault| Failure::Corrupt(error.into()))?;
    let (mut always, mut never) = (Vec::new(), Vec::new());
    for line in lines {
        let (list, jid) = match (line.strip_prefix('+'), line.strip_prefix('-')) {
            (Some(jid), _) => (&mut always, jid),
            (_, Some(jid)) => (&mut never, jid),
            _ => return Err(Failure::corrupt("a line of prefs begins with neither + nor -")),
        };
        list.push(Jid::new(jid).map_err(|error| Failure::Corrupt(error.into()))?);
    }
    Ok(Prefs::new(default, always, never))
}

#[cfg(test)]
mod tests {
    use mammoth_archive::DefaultPolicy;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let jids = |texts: &[&str]| texts.iter().map(|text| Jid::new(text).unwrap()).collect::<Vec<_>>();
        let prefs = Prefs::new(DefaultPolicy::Roster, jids(&["a@x/+ -", "x"]), jids(&["ü@straße.example/-"]));
        assert_eq!(read_prefs(&write_prefs(&prefs)).unwrap(), prefs);
        assert_eq!(write_prefs(&Prefs::default()), "always");
        for period in [ExpiresAfter::Never, ExpiresAfter::Seconds(0), ExpiresAfter::Seconds(u64::MAX)] {
            assert_eq!(read_period(&write_period(period)).unwrap(), period);
        }
        for wrong in ["", "sometimes", "always\na@x", "never\n+@"] {
            assert!(matches!(read_prefs(wrong), Err(Failure::Corrupt(_))), "{wrong:?}");
        }
    }
}

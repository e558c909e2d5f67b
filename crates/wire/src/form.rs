//! Data forms (XEP-0004, XEP-0068), as little as archives need: reading a submitted one, writing one to be filled in.
//! What the fields mean is left to the reader's caller.

use minidom::Element;

use crate::escape::push_attr;
use crate::ns;
use crate::stanza_error::StanzaError;

/// A filled-in field: `var` and its values, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub var: String,
    /// What was filled in; nothing, if it was left blank.
    pub values: Vec<String>,
}

impl Field {
    /// The only value; `None` if the field was left blank.
    ///
    /// # Errors
    /// `bad-request` when there are several.
    pub fn single(self) -> Result<Option<String>, StanzaError> {
        if self.values.len() > 1 {
            return Err(bad("one value only for this field"));
        }
        Ok(self.values.into_iter().next())
    }
}

/// Reads a submitted form of this FORM_TYPE; its other fields, each `var` once.
///
/// # Errors
/// `bad-request` when the form is not submitted, its FORM_TYPE is missing or another, or a field has no `var` or stands
/// twice.
pub fn read_submit(x: &Element, form_type: &str) -> Result<Vec<Field>, StanzaError> {
    if x.attr("type") != Some("submit") {
        return Err(bad("the form must be submitted"));
    }
    let mut fields: Vec<Field> = Vec::new();
    let mut said = None;
    for field in x.children().filter(|child| child.is("field", ns::DATA_FORMS)) {
        let var =
            field.attr("var").filter(|var| !var.is_empty()).ok_or_else(|| bad("a field without a name"))?;
        let values = field.children().filter(|child| child.is("value", ns::DATA_FORMS));
        let field = Field { var: var.to_owned(), values: values.map(Element::text).collect() };
        if fields.iter().chain(&said).any(|seen| seen.var == field.var) {
            return Err(bad("a field stands twice"));
        }
        if field.var == "FORM_TYPE" {
            said = Some(field);
        } else {
            fields.push(field);
        }
    }
    match said.map(Field::single).transpose()?.flatten() {
        Some(said) if said == form_type => Ok(fields),
        _ => Err(bad("the form's FORM_TYPE is missing or another")),
    }
}

/// What may be filled into a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// One JID.
    JidSingle,
    /// One line of text.
    TextSingle,
    /// Yes or no.
    Boolean,
    /// Any number of values, which are not listed (XEP-0122, open validation).
    ListMultiOpen,
}

/// A form to be filled in; no field is required.
#[must_use]
pub fn write_form(form_type: &str, fields: &[(FieldType, &str)]) -> String {
    let mut out = String::from("<x");
    push_attr(&mut out, "xmlns", ns::DATA_FORMS);
    out.push_str(" type='form'><field type='hidden' var='FORM_TYPE'><value>");
    out.push_str(&crate::escape::escape_text(form_type));
    out.push_str("</value></field>");
    for (type_, var) in fields {
        let (name, inner) = match type_ {
            FieldType::JidSingle => ("jid-single", None),
            FieldType::TextSingle => ("text-single", None),
            FieldType::Boolean => ("boolean", None),
            FieldType::ListMultiOpen => ("list-multi", Some(ns::VALIDATE)),
        };
        out.push_str("<field");
        push_attr(&mut out, "type", name);
        push_attr(&mut out, "var", var);
        match inner {
            None => out.push_str("/>"),
            Some(ns) => {
                out.push_str("><validate");
                push_attr(&mut out, "xmlns", ns);
                out.push_str(" datatype='xs:string'><open/></validate></field>");
            }
        }
    }
    out.push_str("</x>");
    out
}

/// A boolean of a form (XEP-0004 §3.3).
///
/// # Errors
/// `bad-request` for anything but `true`, `false`, `1` and `0`.
pub fn boolean(text: &str) -> Result<bool, StanzaError> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad("neither true nor false")),
    }
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::bad_request().with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "<field var='FORM_TYPE' type='hidden'><value>urn:t</value></field>";

    fn form(inner: &str) -> Result<Vec<Field>, StanzaError> {
        let xml = format!("<x xmlns='jabber:x:data' type='submit'>{inner}</x>");
        read_submit(&crate::element::element(xml.as_bytes()).unwrap(), "urn:t")
    }

    #[test]
    fn filled_in() {
        let rest = "<field var='a'><value>1</value><value/></field><title xmlns='urn:x'/><field var='b'/>";
        let fields = vec![
            Field { var: "a".into(), values: vec!["1".into(), String::new()] },
            Field { var: "b".into(), values: vec![] },
        ];
        assert_eq!(form(&format!("{TYPE}{rest}")), Ok(fields.clone()));
        assert_eq!(form(&format!("{rest}{TYPE}")), Ok(fields), "FORM_TYPE may come last");
    }

    #[test]
    fn refused() {
        let cases = [
            String::new(),
            "<field var='a'><value>1</value></field>".to_owned(),
            "<field var='FORM_TYPE'><value>urn:other</value></field>".to_owned(),
            "<field var='FORM_TYPE'/>".to_owned(),
            "<field var='FORM_TYPE'><value>urn:t</value><value>urn:t</value></field>".to_owned(),
            format!("{TYPE}{TYPE}"),
            format!("{TYPE}<field><value>1</value></field>"),
            format!("{TYPE}<field var=''/>"),
            format!("{TYPE}<field var='a'/><field var='b'/><field var='a'/>"),
        ];
        for inner in cases {
            assert_eq!(form(&inner).unwrap_err().condition, "bad-request", "{inner}");
        }
        for type_ in ["", " type='form'", " type='cancel'"] {
            let xml = format!("<x xmlns='jabber:x:data'{type_}>{TYPE}</x>");
            let x = crate::element::element(xml.as_bytes()).unwrap();
            assert!(read_submit(&x, "urn:t").is_err(), "{type_}");
        }
    }

    #[test]
    fn to_be_filled_in() {
        let form = write_form("urn:t", &[(FieldType::JidSingle, "with"), (FieldType::ListMultiOpen, "ids")]);
        let x = crate::element::element(form.as_bytes()).unwrap();
        assert!(x.is("x", ns::DATA_FORMS));
        let fields: Vec<_> =
            x.children().map(|f| (f.attr("var").unwrap(), f.attr("type").unwrap())).collect();
        assert_eq!(fields, [("FORM_TYPE", "hidden"), ("with", "jid-single"), ("ids", "list-multi")]);
        let ids = x.children().last().unwrap();
        let validate = ids.get_child("validate", ns::VALIDATE).unwrap();
        assert!(validate.get_child("open", ns::VALIDATE).is_some());
        assert_eq!(ids.children().count(), 1, "no list of options");
    }
}

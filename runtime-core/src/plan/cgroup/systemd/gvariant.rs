//! Runs in: RUNTIME. Pure: reads a value in GVariant's text format, the form of values in annotations
//! (`uint64 5000000`, `'control-group'`, `['a.service', 'b.service']`). Dictionaries and `maybe` types, which
//! no property of a unit has, are not read.

use zbus::wire::{Array, Signature, Structure, Variant};

/// Deeper nesting than any property of systemd has; the text is not trusted.
const DEEPEST: u8 = 8;

/// Reads one value. A number without a type is an int32, or a double if it has a point or an exponent.
///
/// # Errors
/// What is wrong, and at which byte of the text.
pub(crate) fn parse(text: &str) -> Result<Variant<'static>, String> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let value = parser.value(None)?;
    parser.skip_spaces();
    match parser.rest().is_empty() {
        true => Ok(value),
        false => Err(parser.wrong("text after the value")),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: u8,
}

type Parsed<T> = Result<T, String>;

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn wrong(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: char) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn value(&mut self, wanted: Option<&Signature>) -> Parsed<Variant<'static>> {
        self.skip_spaces();
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("values nested too deep"));
        }
        let value = match self.rest().chars().next() {
            None => Err(self.wrong("a value is missing")),
            Some('[') => self.array(wanted),
            Some('(') => self.tuple(wanted),
            Some('<') => self.variant(),
            Some('@') => self.typed(),
            Some('{') => Err(self.wrong("a dictionary, which no property has,")),
            Some('\'' | '"') => self.string(wanted),
            Some('0'..='9' | '+' | '-' | '.') => self.number(wanted),
            Some(_) => self.word(wanted),
        }?;
        self.depth -= 1;
        match wanted {
            Some(wanted) if value.value_signature() != wanted => Err(self.wrong(&format!(
                "a value of type {} where {wanted} is wanted",
                value.value_signature()
            ))),
            _ => Ok(value),
        }
    }

    /// `@au [1, 2]`.
    fn typed(&mut self) -> Parsed<Variant<'static>> {
        let length = self.rest().find(char::is_whitespace).unwrap_or(self.rest().len());
        let name = &self.rest()[1..length];
        // A string of several types would be read as one structure.
        let signature = Signature::try_from(name)
            .ok()
            .filter(|read| read.to_string() == name);
        let signature = signature.ok_or_else(|| self.wrong("an unknown type"))?;
        self.at += length;
        self.value(Some(&signature))
    }

    fn array(&mut self, wanted: Option<&Signature>) -> Parsed<Variant<'static>> {
        let mut element = match wanted {
            Some(Signature::Array(element)) => Some(element.signature().clone()),
            Some(_) => return Err(self.wrong("an array where none is wanted,")),
            None => None,
        };
        self.take('[');
        let mut values = Vec::new();
        while !self.take(']') {
            if !values.is_empty() && !self.take(',') {
                return Err(self.wrong("no , or ] in an array"));
            }
            let value = self.value(element.as_ref())?;
            element.get_or_insert_with(|| value.value_signature().clone());
            values.push(value);
        }
        let Some(element) = element else {
            return Err(self.wrong("an empty array without a type, as in @as [],"));
        };
        let mut array = Array::new(&element);
        for value in values {
            array
                .append(value)
                .map_err(|error| self.wrong(&error.to_string()))?;
        }
        Ok(Variant::Array(array))
    }

    fn tuple(&mut self, wanted: Option<&Signature>) -> Parsed<Variant<'static>> {
        let fields: Option<Vec<Signature>> = match wanted {
            Some(Signature::Structure(fields)) => Some(fields.iter().cloned().collect()),
            Some(_) => return Err(self.wrong("a tuple where none is wanted,")),
            None => None,
        };
        self.take('(');
        let mut tuple = Structure::builder();
        let mut count = 0;
        while !self.take(')') {
            if count > 0 && !self.take(',') {
                return Err(self.wrong("no , or ) in a tuple"));
            }
            if count > 0 && self.take(')') {
                break; // `(1,)`, a tuple of one
            }
            let wanted = match &fields {
                Some(fields) => Some(
                    fields
                        .get(count)
                        .ok_or_else(|| self.wrong("a tuple that is too long"))?,
                ),
                None => None,
            };
            tuple.push_value(self.value(wanted)?);
            count += 1;
        }
        let tuple = tuple.build().map_err(|_| self.wrong("an empty tuple"))?;
        Ok(Variant::Structure(tuple))
    }

    fn variant(&mut self) -> Parsed<Variant<'static>> {
        self.take('<');
        let value = self.value(None)?;
        match self.take('>') {
            true => Ok(Variant::Variant(Box::new(value))),
            false => Err(self.wrong("no > after a variant")),
        }
    }

    fn string(&mut self, wanted: Option<&Signature>) -> Parsed<Variant<'static>> {
        let text = self.quoted()?;
        // systemd writes some texts as they are into the unit's file, and reads it again at the next reload:
        // with a line of its own a text could set any property.
        if text.contains(char::is_control) || text.ends_with('\\') {
            return Err(self.wrong("a control character, or a backslash at the end of a text,"));
        }
        self.text_value(text, wanted.unwrap_or(&Signature::Str))
    }

    fn text_value(&self, text: String, wanted: &Signature) -> Parsed<Variant<'static>> {
        match wanted {
            Signature::Str => Ok(Variant::Str(text.into())),
            Signature::ObjectPath => zbus::ObjectPath::try_from(text)
                .map(Variant::ObjectPath)
                .map_err(|_| self.wrong("not an object path")),
            Signature::Signature => Signature::try_from(text.as_str())
                .map(Variant::Signature)
                .map_err(|_| self.wrong("not a signature")),
            _ => Err(self.wrong("a string where none is wanted,")),
        }
    }

    fn quoted(&mut self) -> Parsed<String> {
        let mut letters = self.rest().char_indices();
        let Some((_, quote)) = letters.next() else {
            return Err(self.wrong("a string is missing"));
        };
        let mut text = String::new();
        while let Some((offset, letter)) = letters.next() {
            let letter = match letter {
                letter if letter == quote => {
                    self.at += offset + 1;
                    return Ok(text);
                }
                '\\' => escaped(&mut letters).ok_or_else(|| self.wrong("an unknown escape in the string"))?,
                letter => letter,
            };
            if letter == '\0' {
                return Err(self.wrong("a NUL in the string"));
            }
            text.push(letter);
        }
        Err(self.wrong("a string without an end"))
    }

    fn number(&mut self, wanted: Option<&Signature>) -> Parsed<Variant<'static>> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        let length = self
            .rest()
            .find(|letter| !is_part(letter))
            .unwrap_or(self.rest().len());
        let text = &self.rest()[..length];
        let is_hex = text.trim_start_matches(['+', '-']).starts_with("0x");
        let has_fraction = text.contains('.') || (!is_hex && text.contains(['e', 'E']));
        let usual = if has_fraction {
            Signature::F64
        } else {
            Signature::I32
        };
        let value = number_of(text, wanted.unwrap_or(&usual));
        let value = value.ok_or_else(|| {
            let kind = wanted.unwrap_or(&usual);
            self.wrong(&format!("{text:?}, which is no number of type {kind},"))
        })?;
        self.at += length;
        Ok(value)
    }

    /// `true`, `uint64 7`, `b'bytes'`, ….
    fn word(&mut self, wanted: Option<&Signature>) -> Parsed<Variant<'static>> {
        let length = self.rest().find(|letter: char| !letter.is_ascii_alphanumeric());
        let word = &self.rest()[..length.unwrap_or(self.rest().len())];
        let kind = match word {
            "true" | "false" => {
                self.at += word.len();
                return Ok(Variant::Bool(word == "true"));
            }
            "inf" | "nan" => return self.number(wanted.or(Some(&Signature::F64))),
            "b" if self.rest()[1..].starts_with(['\'', '"']) => return self.byte_string(),
            "boolean" => Signature::Bool,
            "byte" => Signature::U8,
            "int16" => Signature::I16,
            "uint16" => Signature::U16,
            "int32" => Signature::I32,
            "uint32" => Signature::U32,
            "int64" => Signature::I64,
            "uint64" => Signature::U64,
            "double" => Signature::F64,
            "string" => Signature::Str,
            "objectpath" => Signature::ObjectPath,
            "signature" => Signature::Signature,
            _ => return Err(self.wrong(&format!("{:?}, which is no value,", self.rest()))),
        };
        self.at += word.len();
        self.value(Some(&kind))
    }

    /// An array of bytes, with the NUL that GVariant ends it with.
    fn byte_string(&mut self) -> Parsed<Variant<'static>> {
        self.at += 1;
        let mut bytes = self.quoted()?.into_bytes();
        bytes.push(0);
        Ok(Variant::from(bytes))
    }
}

/// The character that a backslash and what follows it stand for.
fn escaped(letters: &mut std::str::CharIndices<'_>) -> Option<char> {
    let digits = match letters.next()?.1 {
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\x0b'),
        'u' => 4,
        'U' => 8,
        letter if letter.is_ascii_alphanumeric() => return None,
        letter => return Some(letter),
    };
    let mut code: u32 = 0;
    for _ in 0..digits {
        code = code.checked_mul(16)? + letters.next()?.1.to_digit(16)?;
    }
    char::from_u32(code)
}

fn number_of(text: &str, kind: &Signature) -> Option<Variant<'static>> {
    if *kind == Signature::F64 {
        return text.parse().ok().map(Variant::F64);
    }
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(hex), _) => unsigned(hex, 16)?,
        (None, Some(octal)) if !octal.is_empty() => unsigned(octal, 8)?,
        _ => unsigned(digits, 10)?,
    };
    let number = i128::from(magnitude) * if is_negative { -1 } else { 1 };
    match kind {
        Signature::U8 => number.try_into().ok().map(Variant::U8),
        Signature::I16 => number.try_into().ok().map(Variant::I16),
        Signature::U16 => number.try_into().ok().map(Variant::U16),
        Signature::I32 => number.try_into().ok().map(Variant::I32),
        Signature::U32 => number.try_into().ok().map(Variant::U32),
        Signature::I64 => number.try_into().ok().map(Variant::I64),
        Signature::U64 => number.try_into().ok().map(Variant::U64),
        _ => None,
    }
}

/// `parse` would take another sign.
fn unsigned(digits: &str, radix: u32) -> Option<u64> {
    let is_digits = digits.chars().all(|digit| digit.is_digit(radix));
    is_digits
        .then(|| u64::from_str_radix(digits, radix).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_values() {
        for (text, value) in [
            ("true", Variant::Bool(true)),
            (" false ", Variant::Bool(false)),
            ("7", Variant::I32(7)),
            ("-7", Variant::I32(-7)),
            ("0x10", Variant::I32(16)),
            ("010", Variant::I32(8)),
            ("uint64 5000000", Variant::U64(5_000_000)),
            ("@t 18446744073709551615", Variant::U64(u64::MAX)),
            ("int64 -9223372036854775808", Variant::I64(i64::MIN)),
            ("byte 0xff", Variant::U8(255)),
            ("1.5", Variant::F64(1.5)),
            ("2e3", Variant::F64(2000.0)),
            ("double 3", Variant::F64(3.0)),
            ("'control-group'", Variant::from("control-group")),
            (r#""it's""#, Variant::from("it's")),
            (r"'a\'\u20ac\\.'", Variant::from("a'€\\.")),
            ("string 'x'", Variant::from("x")),
            ("b'ab'", Variant::from(vec![b'a', b'b', 0])),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn a_text_is_a_part_of_one_line() {
        for text in [
            r"'x\nFailureAction=reboot'",
            "'x\nFailureAction=reboot'",
            r"['a', 'x\u000a[Unit]']",
            r"<'\r'>",
            r"'joins the next line\\'",
            r"'\u0085'",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn containers_take_their_type_from_the_first_element_or_from_outside() {
        assert_eq!(
            parse("['a.service', 'b.service']"),
            Ok(Variant::from(vec!["a.service", "b.service"]))
        );
        assert_eq!(parse("@au [1, 2,3]"), Ok(Variant::from(vec![1u32, 2, 3])));
        assert_eq!(parse("[uint32 1, 2]"), Ok(Variant::from(vec![1u32, 2])));
        assert_eq!(parse("@as []"), Ok(Variant::from(Vec::<&str>::new())));
        assert_eq!(
            parse("[('/dev/null', 'rw')]")
                .unwrap()
                .value_signature()
                .to_string(),
            "a(ss)"
        );
        assert_eq!(
            parse("@a(st) [('/dev/sda', 5)]")
                .unwrap()
                .value_signature()
                .to_string(),
            "a(st)"
        );
        assert_eq!(parse("<'x'>").unwrap().value_signature().to_string(), "v");
        assert_eq!(parse("(1,)").unwrap().value_signature().to_string(), "(i)");
    }

    #[test]
    fn nonsense_is_refused_without_a_panic() {
        let deep = "[".repeat(10_000);
        let tuples = format!("{}1{}", "(".repeat(100), ")".repeat(100));
        for bad in [
            "",
            " ",
            "infinite",
            "1 2",
            "'x",
            "'x\\",
            r"'\q'",
            r"'\u12'",
            r"'\u0000'",
            "'\0'",
            "[1,'a']",
            "[]",
            "()",
            "[1",
            "[1 2]",
            "{'a': 1}",
            "nothing",
            "@",
            "@t",
            "@t 'x'",
            "@zz 1",
            "@(st) ('a',)",
            "@(st) ('a',1,2)",
            "@st ('a',1)",
            "uint64 -1",
            "uint64 +-1",
            "uint64 0x",
            "byte 256",
            "2147483648",
            "uint64 1.5",
            "--1",
            "<1",
            "@a{sv} {}",
            "@as 1",
            "uint64",
            "b",
            "b'x",
            "@h 1",
            "handle 1",
            "objectpath 'x'",
            "signature '!'",
            "€",
            &deep,
            &tuples,
        ] {
            assert!(parse(bad).is_err(), "{bad:.40?}");
        }
        assert_eq!(
            parse("uint64 x").unwrap_err(),
            "\"x\", which is no value, at byte 7"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([\\[\\](),<>@'\"\\\\{}b uasxtvy0-9.+-]|true|uint64|\\PC){0,24}") {
            // What is read can be sent.
            if let Ok(value) = parse(&text) {
                let context = zbus::wire::serialized::Context::new(zbus::wire::LE, 0);
                proptest::prop_assert!(zbus::wire::to_bytes(context, &value).is_ok(), "{}", text);
            }
        }
    }
}

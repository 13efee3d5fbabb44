//! Runs in: RUNTIME. Pure: D-Bus messages as far as this driver speaks it: method calls out; answers, errors
//! and systemd's `JobRemoved` in. The bytes of arguments are made by the crate zbus; sending them is
//! `bus.rs`.

use serde::Serialize;
use zbus::wire::serialized::Context;
use zbus::wire::{LE, Signature, Type, to_bytes};

/// What every message begins with, up to and including the length of the header's fields.
pub(crate) const FIXED_PART: usize = 16;

/// The longest message that is read. The specification's limit is 128 MiB; what systemd tells us has a few
/// hundred bytes.
const LONGEST: usize = 4 << 20;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

// The codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'static str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'static str,
}

/// Why bytes are no message.
pub(crate) type Malformed = String;

/// The bytes of a method call. The header is written here, since its field for the types of the arguments is
/// a signature without the brackets that zbus puts around several types.
pub(crate) fn call<Body: Serialize + Type>(
    target: Target<'_>,
    member: &str,
    serial: u32,
    body: &Body,
) -> Result<Vec<u8>, Malformed> {
    let body_bytes = to_bytes(Context::new(LE, 0), body).map_err(text)?;
    let body_length = u32::try_from(body_bytes.len()).map_err(text)?;
    let mut bytes = vec![b'l', METHOD_CALL, 0, 1];
    bytes.extend(body_length.to_le_bytes());
    bytes.extend(serial.to_le_bytes());
    bytes.extend([0; 4]); // the length of the fields, below
    header_field(&mut bytes, PATH, b'o', target.path);
    header_field(&mut bytes, DESTINATION, b's', target.name);
    header_field(&mut bytes, INTERFACE, b's', target.interface);
    header_field(&mut bytes, MEMBER, b's', member);
    if *Body::SIGNATURE != Signature::Unit {
        header_field(
            &mut bytes,
            SIGNATURE,
            b'g',
            &Body::SIGNATURE.to_string_no_parens(),
        );
    }
    let fields_length = u32::try_from(bytes.len() - FIXED_PART).map_err(text)?;
    bytes[FIXED_PART - 4..FIXED_PART].copy_from_slice(&fields_length.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body_bytes);
    Ok(bytes)
}

/// A structure of the code and a variant; the names of ours are shorter than 256 bytes.
fn header_field(bytes: &mut Vec<u8>, code: u8, kind: u8, value: &str) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend([code, 1, kind, 0]);
    match kind {
        b'g' => bytes.push(value.len() as u8),
        _ => bytes.extend((value.len() as u32).to_le_bytes()),
    }
    bytes.extend(value.bytes().chain([0]));
}

fn text(error: impl std::fmt::Display) -> Malformed {
    error.to_string()
}

/// A message that came in.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    /// The answer to the call with this serial number.
    Return(u32, Body),
    /// The refusal of the call with this serial number: the error's name and its text.
    Error(u32, String, String),
    /// A job of systemd has ended: its path, and its result.
    JobRemoved(String, String),
    /// Anything else; nobody here waits for it.
    Other,
}

/// The values of an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    is_little: bool,
}

impl Body {
    /// The single object path of the answer.
    pub(crate) fn object_path(&self) -> Result<String, Malformed> {
        self.reader().string()
    }

    /// The string in the variant that the answer is.
    pub(crate) fn string_in_variant(&self) -> Result<String, Malformed> {
        let mut reader = self.reader();
        match reader.signature()?.as_str() {
            "s" => reader.string(),
            other => Err(format!("a value of type {other} where a string is expected")),
        }
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            bytes: &self.bytes,
            at: 0,
            is_little: self.is_little,
        }
    }
}

/// Reads values in D-Bus's wire format. By hand: zbus' general reader would be in the memory of every
/// command, for the four types that are read here.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    is_little: bool,
}

impl Reader<'_> {
    fn align(&mut self, boundary: usize) {
        self.at = self.at.next_multiple_of(boundary);
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Malformed> {
        let part = self
            .at
            .checked_add(length)
            .and_then(|end| self.bytes.get(self.at..end));
        self.at = self.at.saturating_add(length);
        part.ok_or_else(|| "it ends in the middle of a value".to_owned())
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|byte| byte[0])
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4);
        let is_little = self.is_little;
        let part = self.take(4)?;
        let bytes = [part[0], part[1], part[2], part[3]];
        Ok(match is_little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    }

    /// A string or an object path: its length, itself, and a NUL.
    fn string(&mut self) -> Result<String, Malformed> {
        let length = self.number()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?.into();
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(text)?;
        self.take(1)?;
        Ok(text)
    }
}

/// What is of interest in a message's header.
#[derive(Default)]
struct Header {
    interface: String,
    member: String,
    error_name: String,
    reply_serial: u32,
    signature: String,
}

impl Header {
    /// The reader is at the length of the header's fields, and afterwards at the body.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut header = Self::default();
        let length = reader.number()? as usize;
        let end = reader.at.saturating_add(length);
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (INTERFACE, "s") => header.interface = reader.string()?,
                (MEMBER, "s") => header.member = reader.string()?,
                (ERROR_NAME, "s") => header.error_name = reader.string()?,
                (REPLY_SERIAL, "u") => header.reply_serial = reader.number()?,
                (SIGNATURE, "g") => header.signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.string()?),
                (_, "u") => drop(reader.number()?),
                (_, "g") => drop(reader.signature()?),
                (code, other) => return Err(format!("header field {code} has the type {other}")),
            }
        }
        if reader.at > end {
            return Err("a header field is longer than the header".to_owned());
        }
        reader.align(8);
        Ok(header)
    }
}

/// The length of the whole message that begins with these bytes.
pub(crate) fn length(start: &[u8; FIXED_PART]) -> Result<usize, Malformed> {
    let number = |at: usize| {
        let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
        let number = match start[0] {
            b'l' => u32::from_le_bytes(bytes),
            _ => u32::from_be_bytes(bytes),
        };
        number as usize
    };
    if !matches!(start[0], b'l' | b'B') || start[3] != 1 {
        return Err("not a message of D-Bus version 1".to_owned());
    }
    let (body, fields) = (number(4), number(12));
    match body <= LONGEST && fields <= LONGEST {
        true => Ok((FIXED_PART + fields).next_multiple_of(8) + body),
        false => Err(format!("a message of {} bytes", body.saturating_add(fields))),
    }
}

/// Reads a whole message.
pub(crate) fn read(bytes: &[u8]) -> Result<Incoming, Malformed> {
    let mut reader = Reader {
        bytes,
        at: 0,
        is_little: bytes.first() == Some(&b'l'),
    };
    let [_, kind, _, _] = [reader.byte()?, reader.byte()?, reader.byte()?, reader.byte()?];
    let body_length = reader.number()? as usize;
    let _serial = reader.number()?;
    let header = Header::read(&mut reader)?;
    let body = Body {
        bytes: reader.take(body_length)?.to_vec(),
        is_little: reader.is_little,
    };
    match kind {
        METHOD_RETURN => Ok(Incoming::Return(header.reply_serial, body)),
        ERROR => {
            let has_text = header.signature.starts_with('s');
            let message = if has_text {
                body.reader().string()?
            } else {
                String::new()
            };
            Ok(Incoming::Error(header.reply_serial, header.error_name, message))
        }
        SIGNAL if header.member == "JobRemoved" && header.interface == "org.freedesktop.systemd1.Manager" => {
            let mut values = body.reader();
            let _id = values.number()?;
            let job = values.string()?;
            let _unit = values.string()?;
            Ok(Incoming::JobRemoved(job, values.string()?))
        }
        _ => Ok(Incoming::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'static> = Target {
        name: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
    };

    /// Fields are a code, a type and a value.
    fn message(kind: u8, fields: &[(u8, u8, &str)], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![b'l', kind, 1, 1];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(9u32.to_le_bytes());
        bytes.extend([0; 4]);
        for (code, kind, value) in fields {
            match kind {
                b'u' => {
                    bytes.resize(bytes.len().next_multiple_of(8), 0);
                    bytes.extend([*code, 1, b'u', 0]);
                    bytes.extend(value.parse::<u32>().unwrap().to_le_bytes());
                }
                kind => header_field(&mut bytes, *code, *kind, value),
            }
        }
        let length = (bytes.len() - FIXED_PART) as u32;
        bytes[FIXED_PART - 4..FIXED_PART].copy_from_slice(&length.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(body);
        bytes
    }

    /// The bytes are those of the specification, and were compared with what busctl sends.
    #[test]
    fn a_call_has_the_signature_of_its_arguments_without_brackets() {
        let bytes = call(TARGET, "StopUnit", 7, &("a.scope", "replace")).unwrap();
        assert_eq!(&bytes[..4], [b'l', METHOD_CALL, 0, 1]);
        assert_eq!(
            length(bytes[..FIXED_PART].try_into().unwrap()).unwrap(),
            bytes.len()
        );
        let signature = b"\x08\x01g\x00\x02ss\x00";
        assert!(
            bytes.windows(signature.len()).any(|part| part == signature),
            "{bytes:x?}"
        );
        let body = b"\x07\0\0\0a.scope\0\x07\0\0\0replace\0";
        assert!(bytes.ends_with(body), "{bytes:x?}");
    }

    #[test]
    fn a_call_without_arguments_has_no_signature() {
        let bytes = call(TARGET, "Hello", 1, &()).unwrap();
        assert_eq!(
            length(bytes[..FIXED_PART].try_into().unwrap()).unwrap(),
            bytes.len()
        );
        assert!(!bytes.windows(3).any(|part| part == b"\x01g\0"));
    }

    #[test]
    fn answers_errors_and_ended_jobs_are_told_apart() {
        let path = zbus::ObjectPath::try_from("/job/5").unwrap();
        let body = to_bytes(Context::new(LE, 0), &path).unwrap();
        let fields = [
            (REPLY_SERIAL, b'u', "3"),
            (7, b's', ":1.2"),
            (SIGNATURE, b'g', "o"),
        ];
        match read(&message(METHOD_RETURN, &fields, &body)).unwrap() {
            Incoming::Return(3, body) => assert_eq!(body.object_path().unwrap(), "/job/5"),
            other => panic!("{other:?}"),
        }
        let body = to_bytes(Context::new(LE, 0), &zbus::Variant::from("/x.slice")).unwrap();
        match read(&message(METHOD_RETURN, &[(SIGNATURE, b'g', "v")], &body)).unwrap() {
            Incoming::Return(0, body) => assert_eq!(body.string_in_variant().unwrap(), "/x.slice"),
            other => panic!("{other:?}"),
        }
        let body = to_bytes(Context::new(LE, 0), &"Unit x exists").unwrap();
        let name = "org.freedesktop.systemd1.UnitExists";
        let fields = [
            (REPLY_SERIAL, b'u', "4"),
            (ERROR_NAME, b's', name),
            (SIGNATURE, b'g', "s"),
        ];
        assert_eq!(
            read(&message(ERROR, &fields, &body)).unwrap(),
            Incoming::Error(4, name.into(), "Unit x exists".into())
        );
        let body = to_bytes(Context::new(LE, 0), &(5u32, path, "x.scope", "done")).unwrap();
        let signal = |member: &str| {
            let interface = "org.freedesktop.systemd1.Manager";
            let fields = [
                (INTERFACE, b's', interface),
                (MEMBER, b's', member),
                (SIGNATURE, b'g', "uoss"),
            ];
            read(&message(SIGNAL, &fields, &body)).unwrap()
        };
        assert_eq!(
            signal("JobRemoved"),
            Incoming::JobRemoved("/job/5".into(), "done".into())
        );
        assert_eq!(signal("JobNew"), Incoming::Other);
    }

    #[test]
    fn damaged_messages_are_errors() {
        let whole = message(METHOD_RETURN, &[(REPLY_SERIAL, b'u', "1")], &[1, 2, 3]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        // A header that ends in the middle of a field: what follows is body, and is not read as both.
        let mut short = message(METHOD_RETURN, &[(7, b's', ":1.2")], &[0; 8]);
        for end in 1..13 {
            short[FIXED_PART - 4] = end;
            assert!(read(&short).is_err(), "{end}");
        }
        assert!(length(b"HTTP/1.1 200 OK\r").is_err());
        assert!(length(b"l\x01\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0").is_err());
        assert!(length(b"l\x01\0\x02\0\0\0\0\0\0\0\0\0\0\0\0").is_err());
    }
}

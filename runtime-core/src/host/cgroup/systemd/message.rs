//! Runs in: RUNTIME. Pure: D-Bus messages as far as this driver speaks it: method calls out; answers, errors and systemd's
//! `JobRemoved` in. The bytes of values are made and read by the crate zbus; sending them is `bus.rs`.

use serde::Serialize;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, LE, Signature, Type, Variant, to_bytes};

/// What every message begins with, up to and including the length of the header's fields.
pub(super) const FIXED_PART: usize = 16;

/// The longest message that is read. The specification's limit is 128 MiB; what systemd tells us has a few hundred bytes.
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

type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

/// Why bytes are no message.
pub(super) type Malformed = String;

/// The bytes of a method call. The header is written here, since its field for the types of the arguments is a signature
/// without the brackets that zbus puts around several types.
pub(super) fn call<Body: Serialize + Type>(
    target: Target,
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
pub(super) enum Incoming {
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
pub(super) struct Body {
    bytes: Vec<u8>,
    endian: Endian,
}

impl Body {
    /// The single object path of the answer.
    pub(super) fn object_path(&self) -> Result<String, Malformed> {
        self.read::<zbus::OwnedObjectPath>().map(|path| path.to_string())
    }

    /// The string in the variant that the answer is.
    pub(super) fn string_in_variant(&self) -> Result<String, Malformed> {
        match self.read::<zbus::OwnedVariant>()?.into() {
            Variant::Str(text) => Ok(text.to_string()),
            other => Err(format!("{other} where a string is expected")),
        }
    }

    fn read<T: serde::de::DeserializeOwned + Type>(&self) -> Result<T, Malformed> {
        let data = Data::new(self.bytes.as_slice(), Context::new(self.endian, 0));
        data.deserialize::<T>().map(|(value, _)| value).map_err(text)
    }
}

/// The length of the whole message that begins with these bytes.
pub(super) fn length(start: &[u8; FIXED_PART]) -> Result<usize, Malformed> {
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
pub(super) fn read(bytes: &[u8]) -> Result<Incoming, Malformed> {
    let endian = match bytes.first() {
        Some(b'l') => Endian::Little,
        _ => Endian::Big,
    };
    let data = Data::new(bytes, Context::new(endian, 0));
    let (header, end) = data.deserialize::<Header<'_>>().map_err(text)?;
    let (_, kind, _, _, body_length, _, fields) = header;
    let body = bytes
        .get(end.next_multiple_of(8)..)
        .filter(|body| body.len() == body_length as usize);
    let body = Body {
        bytes: body.ok_or("the length is not that of the header")?.to_vec(),
        endian,
    };
    let field = |code: u8| {
        fields
            .iter()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value)
    };
    let string = |code: u8| match field(code) {
        Some(Variant::Str(text)) => text.as_str(),
        _ => "",
    };
    let serial = match field(REPLY_SERIAL) {
        Some(Variant::U32(serial)) => *serial,
        _ => 0,
    };
    let is_text =
        matches!(field(SIGNATURE), Some(Variant::Signature(signature)) if first_is_string(signature));
    match kind {
        METHOD_RETURN => Ok(Incoming::Return(serial, body)),
        ERROR => {
            let name = string(ERROR_NAME).to_owned();
            let message = if is_text {
                body.read::<String>()?
            } else {
                String::new()
            };
            Ok(Incoming::Error(serial, name, message))
        }
        SIGNAL
            if string(MEMBER) == "JobRemoved" && string(INTERFACE) == "org.freedesktop.systemd1.Manager" =>
        {
            let (_, job, _, result) = body.read::<(u32, zbus::OwnedObjectPath, String, String)>()?;
            Ok(Incoming::JobRemoved(job.to_string(), result))
        }
        _ => Ok(Incoming::Other),
    }
}

fn first_is_string(signature: &Signature) -> bool {
    match signature {
        Signature::Structure(fields) => fields.iter().next() == Some(&Signature::Str),
        signature => *signature == Signature::Str,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        name: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
    };

    fn message(kind: u8, fields: Vec<(u8, Variant<'_>)>, body: &[u8]) -> Vec<u8> {
        let header: Header<'_> = (b'l', kind, 1, 1, body.len() as u32, 9, fields);
        let mut bytes = to_bytes(Context::new(LE, 0), &header).unwrap().to_vec();
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
        let reply = |serial: u32| (REPLY_SERIAL, Variant::U32(serial));
        let signature = |text: &str| (SIGNATURE, Variant::Signature(Signature::try_from(text).unwrap()));
        let path = zbus::ObjectPath::try_from("/job/5").unwrap();
        let body = to_bytes(Context::new(LE, 0), &path).unwrap();
        match read(&message(METHOD_RETURN, vec![reply(3), signature("o")], &body)).unwrap() {
            Incoming::Return(3, body) => assert_eq!(body.object_path().unwrap(), "/job/5"),
            other => panic!("{other:?}"),
        }
        let body = to_bytes(Context::new(LE, 0), &"Unit x exists").unwrap();
        let name = (ERROR_NAME, Variant::from("org.freedesktop.systemd1.UnitExists"));
        assert_eq!(
            read(&message(ERROR, vec![reply(4), name, signature("s")], &body)).unwrap(),
            Incoming::Error(
                4,
                "org.freedesktop.systemd1.UnitExists".into(),
                "Unit x exists".into()
            )
        );
        let body = to_bytes(Context::new(LE, 0), &(5u32, path, "x.scope", "done")).unwrap();
        let signal = |member: &'static str| {
            let fields = vec![
                (INTERFACE, Variant::from("org.freedesktop.systemd1.Manager")),
                (MEMBER, Variant::from(member)),
                signature("uoss"),
            ];
            read(&message(SIGNAL, fields, &body)).unwrap()
        };
        assert_eq!(
            signal("JobRemoved"),
            Incoming::JobRemoved("/job/5".into(), "done".into())
        );
        assert_eq!(signal("JobNew"), Incoming::Other);
    }

    #[test]
    fn damaged_messages_are_errors() {
        let whole = message(METHOD_RETURN, vec![(REPLY_SERIAL, Variant::U32(1))], &[1, 2, 3]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        assert!(length(b"HTTP/1.1 200 OK\r").is_err());
        assert!(length(b"l\x01\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0").is_err());
        assert!(length(b"l\x01\0\x02\0\0\0\0\0\0\0\0\0\0\0\0").is_err());
    }
}

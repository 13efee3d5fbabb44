//! Whole documents: those of the runtime-spec's own test suite, and hostile ones.

use std::path::{Path, PathBuf};

use runtime_core::Cancel;
use runtime_core::unstable::spec::{example, load_file, parse, validate};
use serde_json::Value;

fn fixtures(verdict: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/config")
        .join(verdict);
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn good_documents_are_read() {
    let good = fixtures("good");
    assert_eq!(good.len(), 5);
    for path in good {
        let config = load_file(&path, &Cancel::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(config.json, std::fs::read(&path).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        let verdict = validate(&config).map_err(|error| error.to_string());
        let expected = match name {
            "minimal-for-start.json" => Ok(()),
            // Its ociVersion is 0.5.0-dev.
            "spec-example.json" => Err("ociVersion: \"0.5.0-dev\": not a version 1.x.y".to_owned()),
            _ => Err("process: process property must not be empty".to_owned()),
        };
        assert_eq!(verdict, expected, "{name}");
    }
}

#[test]
fn the_specification_s_example_is_valid_but_for_its_age() {
    let path = fixtures("good")
        .into_iter()
        .find(|path| path.ends_with("spec-example.json"))
        .unwrap();
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace("0.5.0-dev", "1.3.0");
    validate(&parse(text.into_bytes()).unwrap()).unwrap();
}

#[test]
fn what_other_tools_write_is_valid() {
    let written = fixtures("tools");
    assert_eq!(written.len(), 3);
    for path in written {
        let verdict = load_file(&path, &Cancel::default()).and_then(|config| validate(&config));
        verdict.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn bad_documents_are_refused() {
    let bad = fixtures("bad");
    assert_eq!(bad.len(), 4);
    for path in bad {
        // They have no process, so give them one: it must be the other fault that is found.
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replacen('{', r#"{"process":{"args":["sh"],"cwd":"/"},"#, 1);
        let refusal = parse(text.into_bytes())
            .and_then(|config| validate(&config))
            .unwrap_err()
            .to_string();
        let field = match path.file_name().unwrap().to_str().unwrap() {
            "invalid-json.json" => "config.json: not JSON",
            "linux-hugepage.json" => "linux.resources.hugepageLimits[0].pageSize: \"64kB\"",
            "linux-netdevice.json" => "linux.netDevices[\"eth0\"].name: expected a string, found a number",
            "linux-rdma.json" => {
                "linux.resources.rdma[\"mlx5_1\"].hcaHandles: expected a number, found a string"
            }
            other => panic!("{other}"),
        };
        assert!(refusal.starts_with(field), "{refusal}");
    }
}

#[test]
fn a_missing_file_has_the_text_that_is_known() {
    let text = load_file(Path::new("/nonexistent/config.json"), &Cancel::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "/nonexistent/config.json: JSON specification file config.json not found (the bundle is the directory that holds it; onggi spec writes an example)"
    );
    let text = load_file(Path::new("/dev/zero"), &Cancel::default())
        .unwrap_err()
        .to_string();
    assert_eq!(text, "/dev/zero: larger than 64 MiB");
}

/// Numbers that never repeat soon: xorshift, so that a failure comes back with its seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let words: &[&[u8]] = &[
        b"null",
        b"-1",
        b"1e400",
        b"18446744073709551616",
        b"\"\"",
        b"{}",
        b"[]",
        b"true",
        b"\"\\u0000\"",
        b"[[[[[[",
        b"\"\\ud800\"",
        b"\xff",
        b"..",
        b"/",
        b",",
        b"\"type\":",
        b"4294967295",
    ];
    let mut seeds = vec![example(None).into_bytes(), example(Some((1, 2))).into_bytes()];
    seeds.extend(fixtures("good").iter().map(|path| std::fs::read(path).unwrap()));
    let mut valid = 0;
    for round in 1..4000_u64 {
        let mut numbers = Numbers(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut bytes = seeds[numbers.next(seeds.len())].clone();
        for _ in 0..=numbers.next(3) {
            let at = numbers.next(bytes.len());
            let until = (at + numbers.next(8)).min(bytes.len());
            match numbers.next(3) {
                0 => bytes[at] = numbers.next(256) as u8,
                1 => {
                    let word = words[numbers.next(words.len())];
                    bytes.splice(at..until, word.iter().copied());
                }
                _ => {
                    bytes.drain(at..until);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        // A change inside of a word or number often leaves a document that is valid: both ways must be taken.
        valid += usize::from(parse(bytes).is_ok_and(|config| validate(&config).is_ok()));
    }
    assert!(valid > 10, "{valid}");
    assert!(valid < 3900, "{valid}");
}

#[test]
fn nested_and_large_documents_end_in_an_error_or_a_result() {
    let deep = "[".repeat(1 << 20);
    assert!(
        parse(deep.into_bytes())
            .unwrap_err()
            .to_string()
            .starts_with("config.json: not JSON: recursion limit")
    );
    let deep = format!(
        r#"{{"annotations":{}1{}}}"#,
        r#"{"a":"#.repeat(100),
        "}".repeat(100)
    );
    let text = parse(deep.into_bytes()).unwrap_err().to_string();
    assert_eq!(text, "annotations[\"a\"]: expected a string, found an object");

    let mut document: Value = serde_json::from_str(&example(None)).unwrap();
    document["process"]["env"] = (0..200_000)
        .map(|n| Value::from(format!("NAME_{n}={}", "x".repeat(40))))
        .collect();
    let text = document.to_string();
    assert!(text.len() > 10 << 20);
    validate(&parse(text.into_bytes()).unwrap()).unwrap();
}

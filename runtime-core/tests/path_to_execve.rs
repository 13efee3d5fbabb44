//! The table "From main to execve" of docs/design.md is the way that the code goes.

use std::path::{Path, PathBuf};

/// The most functions, and the most files, from `main` to `execve`: whoever audits a runtime reads all of
/// them.
const FUNCTIONS: usize = 9;
const FILES: usize = 7;

/// One row: a function, where it is, and the text by which it calls that of the next row.
struct Hop {
    function: String,
    file: String,
    call: String,
}

#[test]
fn each_function_calls_the_next() {
    let hops = hops();
    assert!(
        !hops.is_empty() && hops.len() <= FUNCTIONS,
        "{} functions",
        hops.len()
    );
    let mut files: Vec<&str> = hops.iter().map(|hop| hop.file.as_str()).collect();
    files.dedup();
    assert!(files.len() <= FILES, "{files:?}");
    for hop in &hops {
        let source = read(&hop.file);
        let bodies = bodies(&source, &hop.function);
        assert!(
            bodies.iter().any(|body| body.contains(&hop.call)),
            "no `{}` in {} calls `{}`",
            hop.function,
            hop.file,
            hop.call
        );
    }
    assert_eq!(hops.last().map(|hop| hop.call.as_str()), Some("process::execve("));
}

#[test]
fn a_body_ends_with_its_function() {
    let source = "fn a() {\n    b();\n}\n\nimpl C {\n    fn d() {\n        e();\n    }\n\n    fn f() {}\n}\n";
    assert_eq!(bodies(source, "a"), ["fn a() {\n    b();"]);
    assert_eq!(bodies(source, "d"), ["fn d() {\n        e();"]);
    assert!(bodies(source, "g").is_empty());
}

fn hops() -> Vec<Hop> {
    let design = read("docs/design.md");
    let section = design
        .split("\n## ")
        .find(|part| part.starts_with("From main to execve\n"));
    let rows = section.expect("the section is there").lines();
    rows.filter_map(|row| {
        let mut quoted = row.split('`').skip(1).step_by(2).map(str::to_owned);
        let is_numbered = row
            .strip_prefix("| ")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        is_numbered.then(|| Hop {
            function: quoted.next().unwrap_or_default(),
            file: quoted.next().unwrap_or_default(),
            call: quoted.next().unwrap_or_default(),
        })
    })
    .collect()
}

/// All functions of that name, from `fn` to their last line.
fn bodies<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("fn {name}");
    let starts = source.match_indices(&head).filter_map(|(start, found)| {
        let after = source[start + found.len()..].chars().next();
        matches!(after, Some('(' | '<')).then_some(start)
    });
    starts
        .map(|start| {
            let line = source[..start].rfind('\n').map_or(0, |end| end + 1);
            let indent = source[line..].len() - source[line..].trim_start().len();
            let end = format!("\n{}}}", &source[line..line + indent]);
            let length = source[start..].find(&end).unwrap_or(source.len() - start);
            &source[start..start + length]
        })
        .collect()
}

fn read(file: &str) -> String {
    let path = root().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.unwrap_or(Path::new("/")).to_owned()
}

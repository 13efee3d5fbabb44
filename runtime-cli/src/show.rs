//! Runs in: RUNTIME. The commands that only print or write a text: state, list, ps, features, spec, version. Engines
//! parse what they print, so spacing and newlines are runc's.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

use runtime_core::{ContainerId, Error, ErrorKind, Result, Runtime, State};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::report;

/// How `list` and `ps` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// For people.
    Table,
    /// For engines.
    Json,
    /// Only ids.
    Quiet,
}

impl Listing {
    /// Reads the value of `--format`.
    pub(crate) fn new(format: &str, quiet: bool) -> Result<Self> {
        match (format, quiet) {
            (_, true) => Ok(Self::Quiet),
            ("table", false) => Ok(Self::Table),
            ("json", false) => Ok(Self::Json),
            _ => Err(Error::new(ErrorKind::Invalid, "invalid format option")),
        }
    }
}

/// Prints the state: two spaces deep, and no newline at the end.
pub(crate) fn state(state: &State) -> Result<()> {
    print(&serde_json::to_string_pretty(state).map_err(unprintable)?)
}

/// Prints the features: four spaces deep.
pub(crate) fn features() -> Result<()> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    runtime_core::features()
        .serialize(&mut serializer)
        .map_err(unprintable)?;
    text.push(b'\n');
    print_bytes(&text)
}

/// Prints the three lines that engines read from `--version`.
pub(crate) fn version(program: &str) -> Result<()> {
    let commit = option_env!("ONGGI_COMMIT").unwrap_or("unknown");
    print(&format!(
        "{program} version {}\ncommit: {commit}\nspec: 1.3.0\n",
        env!("CARGO_PKG_VERSION")
    ))
}

/// Prints a text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

fn print_bytes(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|e| Error::io("write", &e).doing("print to standard output"))
}

/// Prints all containers below `root`. One that cannot be read is named on standard error and skipped.
pub(crate) fn list(runtime: &Runtime, root: &Path, listing: Listing) -> Result<()> {
    let mut users = None;
    let mut states = Vec::new();
    for (id, state) in runtime.list()? {
        match state {
            Ok(mut state) => {
                state.owner = owner(root, &id, users.get_or_insert_with(user_names))?;
                states.push(state);
            }
            Err(error) => report::skipped(&format!("load container {id}: {error}")),
        }
    }
    let text = match listing {
        Listing::Quiet => states
            .iter()
            .fold(String::new(), |text, state| text + &state.id + "\n"),
        Listing::Table => {
            let rows: Vec<[String; 6]> = states.iter().map(row).collect();
            table(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], &rows)
        }
        // Go prints a list that nothing was added to as null, and engines know it so.
        Listing::Json if states.is_empty() => "null\n".to_owned(),
        Listing::Json => serde_json::to_string(&states).map_err(unprintable)? + "\n",
    };
    print(&text)
}

fn row(state: &State) -> [String; 6] {
    [
        state.id.to_string(),
        state.pid.to_string(),
        state.status.to_string(),
        state.bundle.display().to_string(),
        state.created.clone(),
        state.owner.clone(),
    ]
}

/// Columns as Go's tabwriter sets them with minimal width 12 and padding 3; the last column has no padding.
fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let cells = |column: usize| rows.iter().map(move |row| row[column].chars().count());
    let widths: [usize; N] = std::array::from_fn(|column| {
        let widest = cells(column).max().unwrap_or(0).max(head[column].chars().count());
        (widest + 3).max(12)
    });
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 == N { 0 } else { widths[column] };
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    text
}

/// The name of the user who owns the container's directory, or `#uid`.
fn owner(root: &Path, id: &ContainerId, users: &[(u32, String)]) -> Result<String> {
    let directory = root.join(id.to_string());
    let uid = match fs::metadata(&directory) {
        Ok(metadata) => metadata.uid(),
        // Deleted since the list was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(Error::io("stat", &error).path(&directory)),
    };
    let name = users
        .iter()
        .find(|(known, _)| *known == uid)
        .map(|(_, name)| name.clone());
    Ok(name.unwrap_or_else(|| format!("#{uid}")))
}

/// The users of /etc/passwd. A static program cannot ask getpwuid, which would load the C library's plug-ins.
fn user_names() -> Vec<(u32, String)> {
    // Without that file users have only numbers.
    let text = fs::read("/etc/passwd").unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        })
        .collect()
}

/// Prints the processes of a container: their ids as JSON, or the lines of ps(1) that are about them.
pub(crate) fn ps(pids: &[i32], listing: Listing, ps_arguments: &[OsString]) -> Result<()> {
    if listing == Listing::Json {
        return print(&(serde_json::to_string(pids).map_err(unprintable)? + "\n"));
    }
    let default = [OsString::from("-ef")];
    let arguments = if ps_arguments.is_empty() {
        &default[..]
    } else {
        ps_arguments
    };
    let output = Command::new("ps").args(arguments).output().map_err(|e| {
        Error::io("execve", &e)
            .path("ps")
            .doing("list processes")
            .hint("the table needs the program ps; --format json does not")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(
            ErrorKind::Os,
            format!("ps: {}: {}", output.status, said.trim()),
        ));
    }
    print(&lines_about(&String::from_utf8_lossy(&output.stdout), pids)?)
}

fn lines_about(table: &str, pids: &[i32]) -> Result<String> {
    let pids: HashSet<i32> = pids.iter().copied().collect();
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::new(ErrorKind::Invalid, "couldn't find PID field in ps output"))?;
    let mut text = format!("{head}\n");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// Writes an example config.json into the bundle, which must have none.
pub(crate) fn spec(bundle: Option<&Path>, rootless: bool) -> Result<()> {
    let path = bundle.unwrap_or(Path::new("")).join("config.json");
    let mut file = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&path)
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "File config.json exists. Remove it first",
            ));
        }
        other => other.map_err(|e| Error::io("open", &e).path(&path))?,
    };
    file.write_all(runtime_core::spec::example(rootless.then(own_ids)).as_bytes())
        .map_err(|e| Error::io("write", &e).path(&path))
}

fn unprintable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, error.to_string()).doing("print as JSON")
}

/// The caller's effective ids, which a rootless container maps to its root.
fn own_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_runcs() {
        assert_eq!(
            table(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], &[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }

    #[test]
    fn a_wide_cell_widens_its_column_by_three() {
        let rows = [
            ["a-rather-long-id".to_owned(), "7".to_owned()],
            ["b".to_owned(), "8".to_owned()],
        ];
        assert_eq!(
            table(["ID", "PID"], &rows),
            "ID                 PID\na-rather-long-id   7\nb                  8\n"
        );
    }

    #[test]
    fn ps_lines_are_chosen_by_the_pid_column() {
        let table = "UID        PID  PPID CMD\nroot         1     0 init\nroot        12     1 sh 1\nroot       112     1 x\n";
        assert_eq!(
            lines_about(table, &[12]).unwrap(),
            "UID        PID  PPID CMD\nroot        12     1 sh 1\n"
        );
        assert!(lines_about("USER TIME\n", &[12]).is_err());
    }

    #[test]
    fn formats_other_than_the_two_are_refused() {
        assert_eq!(Listing::new("json", false).unwrap(), Listing::Json);
        assert_eq!(Listing::new("json", true).unwrap(), Listing::Quiet);
        assert_eq!(
            Listing::new("xml", false).unwrap_err().to_string(),
            "invalid format option"
        );
    }
}

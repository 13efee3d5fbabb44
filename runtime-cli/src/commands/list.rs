//! Runs in: RUNTIME. `list`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use runtime_core::{ContainerId, Error, Result, State};

use super::common_flags::FormatFlag;
use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::output::{self, Listing};
use crate::report;

flags! {
    pub(crate) struct List {
        ..format: FormatFlag,
        /// print only the ids
        quiet: bool { short('q') },
    }
}

impl Command for List {
    const DEFINITION: Definition = Definition {
        usage: &[""],
        words: (0, 0),
        ..Definition::new::<Self>("list", "list the containers")
    };

    /// One that cannot be read is named on standard error and skipped.
    fn run(self, call: &Invocation) -> Result<u8> {
        let root = call.root()?;
        root.must_exist_if_named()?;
        let listing = self.format.listing(self.quiet)?;
        let mut users = None;
        let mut states = Vec::new();
        for (id, state) in call.runtime()?.list()? {
            match state {
                Ok(mut state) => {
                    state.owner = owner(&root.path, &id, users.get_or_insert_with(user_names))?;
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
            Listing::Json => {
                let json = serde_json::to_string(&states).map_err(output::unprintable)?;
                output::without_controls(json) + "\n"
            }
        };
        output::print(&text)?;
        Ok(0)
    }
}

fn row(state: &State) -> [String; 6] {
    [
        state.id.to_string(),
        state.pid.to_string(),
        state.status.to_string(),
        shown(&state.bundle.to_string_lossy()),
        shown(&state.created),
        state.owner.clone(),
    ]
}

/// What another user may have written must not speak to the terminal.
fn shown(text: &str) -> String {
    text.replace(char::is_control, "?")
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
        Err(error) => return Err(Error::os("stat", error).with_path(&directory)),
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
    fn a_cell_has_no_control_characters() {
        assert_eq!(shown("/a b\u{1b}[2J\n\u{9b}é"), "/a b?[2J??é");
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
}

//! Runs in: RUNTIME. `ps`: the processes of a container, as their ids in JSON, or as the lines of ps(1) about
//! them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::process;

use runtime_core::{Error, ErrorKind, Result};

use super::common_flags::FormatFlag;
use super::{Command, Definition, Invocation};
use crate::flags::flags;
use crate::go_flags::FlagsEnd;
use crate::output::{self, Listing};

flags! {
    pub(crate) struct Ps {
        ..format: FormatFlag,
    }
}

impl Command for Ps {
    const DEFINITION: Definition = Definition {
        usage: &["<container-id> [ps options]"],
        words: (1, usize::MAX),
        flags_end: FlagsEnd::AtFirstPositional,
        ..Definition::new::<Self>("ps", "list the processes of a container")
    };

    fn run(self, call: &Invocation) -> Result<u8> {
        let pids = call.runtime()?.pids(&call.id()?)?;
        let listing = self.format.listing(false)?;
        output::print(&match listing {
            Listing::Json => serde_json::to_string(&pids).map_err(output::unprintable)? + "\n",
            Listing::Table | Listing::Quiet => table(&pids, call.words.get(1..).unwrap_or_default())?,
        })?;
        Ok(0)
    }
}

fn table(pids: &[i32], ps_arguments: &[OsString]) -> Result<String> {
    let default = [OsString::from("-ef")];
    let arguments = if ps_arguments.is_empty() {
        &default[..]
    } else {
        ps_arguments
    };
    let output = process::Command::new("ps")
        .args(arguments)
        .output()
        .map_err(|e| {
            Error::os("execve", e)
                .with_path("ps")
                .doing("list processes")
                .with_hint("the table needs the program ps; --format json does not")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(
            ErrorKind::Os,
            format!("ps: {}: {}", output.status, said.trim()),
        ));
    }
    lines_about(&String::from_utf8_lossy(&output.stdout), pids)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps_lines_are_chosen_by_the_pid_column() {
        let table = "UID        PID  PPID CMD\nroot         1     0 init\nroot        12     1 sh 1\nroot       112     1 x\n";
        assert_eq!(
            lines_about(table, &[12]).unwrap(),
            "UID        PID  PPID CMD\nroot        12     1 sh 1\n"
        );
        assert!(lines_about("USER TIME\n", &[12]).is_err());
    }
}

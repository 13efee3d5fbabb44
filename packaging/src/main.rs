//! Runs in: the build of a package. Writes manual pages and shell completions, from the definitions that
//! `onggi` reads its command line by. They are not in the binary: `make install` and the Debian package bring
//! them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The section of programs for administrators.
const SECTION: &str = "8";

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: packaging DIRECTORY: writes man8/ and completions/ into it");
        return ExitCode::from(2);
    };
    match write_all(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("packaging: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    let (pages, completions) = (directory.join("man8"), directory.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let command = runtime_cli::definitions();
    fs::write(pages.join("onggi.8"), overview(&command)?)?;
    for subcommand in command.get_subcommands() {
        let name = format!("onggi-{}.{SECTION}", subcommand.get_name());
        fs::write(pages.join(name), page_of(subcommand)?)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut runtime_cli::definitions(), "onggi", &completions)?;
    }
    Ok(())
}

fn overview(command: &Command) -> io::Result<Vec<u8>> {
    let man = page(command.clone(), "onggi");
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    synopsis(command, &mut roff)?;
    section(
        "DESCRIPTION",
        "onggi makes and runs containers as the OCI runtime specification has them: from a bundle, which is a root file \
         system and a config.json. Engines such as containerd, Docker, CRI-O and Podman call it; its commands, flags, \
         outputs and exit codes are those of runc.",
        &mut roff,
    )?;
    man.render_options_section(&mut roff)?;
    writeln!(roff, ".SH COMMANDS")?;
    for subcommand in command.get_subcommands() {
        let about = subcommand
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        writeln!(
            roff,
            ".TP\n\\fBonggi\\-{}\\fR({SECTION})\n{}",
            subcommand.get_name(),
            escaped(&about)
        )?;
    }
    writeln!(
        roff,
        ".SH EXIT STATUS\n\
         0, or that of the container's program where \\fBrun\\fR, \\fBexec\\fR or \\fBrestore\\fR waits for it: its own, or \
         128 and the number of the signal that ended it. 1 after an error; 255 after an error of \\fBexec\\fR; 3 for a \
         command that does not exist. An error is one line on standard error.\n\
         .SH FILES\n\
         .TP\n/run/onggi\nstate of the containers; for other users $XDG_RUNTIME_DIR/onggi; called by a link named runc, /run/runc\n\
         .TP\nconfig.json\nin the bundle: what the container is to be; \\fBonggi spec\\fR writes an example\n\
         .SH SEE ALSO\n\
         .BR runc (8),\n.BR crun (1),\n.BR cgroups (7),\n.BR namespaces (7)"
    )?;
    Ok(roff)
}

fn page_of(subcommand: &Command) -> io::Result<Vec<u8>> {
    let name = format!("onggi-{}", subcommand.get_name());
    let man = page(subcommand.clone().display_name(&name), &name);
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    synopsis(subcommand, &mut roff)?;
    man.render_options_section(&mut roff)?;
    writeln!(roff, ".SH SEE ALSO\n.BR onggi ({SECTION})")?;
    Ok(roff)
}

fn page(command: Command, title: &str) -> Man {
    Man::new(command)
        .title(title.to_uppercase())
        .section(SECTION)
        .source(concat!("onggi ", env!("CARGO_PKG_VERSION")))
        .date("")
        .manual("onggi")
}

/// clap_mangen would make it from the flags, and knows nothing of the words behind them.
fn synopsis(command: &Command, roff: &mut Vec<u8>) -> io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    writeln!(roff, ".SH SYNOPSIS")?;
    for line in usage.lines() {
        let line = line.trim().trim_start_matches("Usage: ");
        writeln!(roff, "{}\n.br", escaped(line))?;
    }
    Ok(())
}

fn section(title: &str, text: &str, roff: &mut Vec<u8>) -> io::Result<()> {
    writeln!(roff, ".SH {title}\n{}", escaped(text))
}

/// A line of text in roff: backslash and hyphen have a meaning there, and so have a dot and a quote in front.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_its_flags() {
        for subcommand in runtime_cli::definitions().get_subcommands() {
            let page = String::from_utf8(page_of(subcommand).unwrap()).unwrap();
            for flag in subcommand.get_arguments().filter(|flag| !flag.is_hide_set()) {
                let long = flag.get_long().expect("a flag").replace('-', "\\-");
                assert!(page.contains(&long), "{} {long}", subcommand.get_name());
            }
            assert!(page.contains(".SH SYNOPSIS\nonggi "), "{page}");
        }
    }

    #[test]
    fn what_roff_would_take_for_a_request_is_text() {
        assert_eq!(escaped(".a-b\\"), "\\&.a\\-b\\e");
    }
}

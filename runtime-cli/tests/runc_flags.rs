//! Every command and flag of runc is here or left out on purpose, and docs/peers.md says of each how it is.

use std::collections::{BTreeMap, BTreeSet};

/// runc's, of 1.1.5 (from its help) and 1.5.1 (from its source). `--help` and `--version` are clap's own.
const RUNC: [(&str, &[&str]); 19] = [
    (
        "",
        &[
            "debug",
            "log",
            "log-format",
            "root",
            "criu",
            "systemd-cgroup",
            "rootless",
        ],
    ),
    (
        "checkpoint",
        &[
            "image-path",
            "work-path",
            "parent-path",
            "leave-running",
            "tcp-established",
            "tcp-skip-in-flight",
            "link-remap",
            "ext-unix-sk",
            "shell-job",
            "lazy-pages",
            "status-fd",
            "page-server",
            "file-locks",
            "pre-dump",
            "manage-cgroups-mode",
            "empty-ns",
            "auto-dedup",
        ],
    ),
    (
        "create",
        &[
            "bundle",
            "console-socket",
            "pidfd-socket",
            "pid-file",
            "no-pivot",
            "no-new-keyring",
            "preserve-fds",
        ],
    ),
    ("delete", &["force"]),
    ("events", &["interval", "stats"]),
    (
        "exec",
        &[
            "console-socket",
            "pidfd-socket",
            "cwd",
            "env",
            "tty",
            "user",
            "additional-gids",
            "process",
            "detach",
            "pid-file",
            "process-label",
            "apparmor",
            "no-new-privs",
            "cap",
            "preserve-fds",
            "cgroup",
            "ignore-paused",
        ],
    ),
    ("features", &[]),
    ("kill", &["all"]),
    ("list", &["format", "quiet"]),
    ("pause", &[]),
    ("ps", &["format"]),
    (
        "restore",
        &[
            "console-socket",
            "image-path",
            "work-path",
            "tcp-established",
            "ext-unix-sk",
            "shell-job",
            "file-locks",
            "manage-cgroups-mode",
            "bundle",
            "detach",
            "pid-file",
            "no-subreaper",
            "no-pivot",
            "empty-ns",
            "auto-dedup",
            "lazy-pages",
            "lsm-profile",
            "lsm-mount-context",
        ],
    ),
    ("resume", &[]),
    (
        "run",
        &[
            "bundle",
            "console-socket",
            "pidfd-socket",
            "detach",
            "keep",
            "pid-file",
            "no-subreaper",
            "no-pivot",
            "no-new-keyring",
            "preserve-fds",
        ],
    ),
    ("spec", &["bundle", "rootless"]),
    ("start", &[]),
    ("state", &[]),
    (
        "update",
        &[
            "resources",
            "blkio-weight",
            "cpu-period",
            "cpu-quota",
            "cpu-burst",
            "cpu-share",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cpu-idle",
            "cpuset-cpus",
            "cpuset-mems",
            "kernel-memory",
            "kernel-memory-tcp",
            "memory",
            "memory-reservation",
            "memory-swap",
            "pids-limit",
            "l3-cache-schema",
            "mem-bw-schema",
        ],
    ),
    ("help", &[]),
];

/// Not here: the program is criu of PATH, as in runc since 1.4.
const LEFT_OUT: [(&str, &str); 1] = [("", "criu")];

/// The flags of each command here; those of the program itself under "".
fn ours() -> BTreeMap<String, BTreeSet<String>> {
    let all = runtime_cli::definitions();
    let flags = |command: &clap::Command| {
        let names = command.get_arguments().filter_map(|argument| argument.get_long());
        names.map(str::to_owned).collect()
    };
    let commands = all
        .get_subcommands()
        .map(|command| (command.get_name().to_owned(), flags(command)));
    commands.chain([(String::new(), flags(&all))]).collect()
}

/// The words with two dashes that docs/peers.md has for each command; a row without a command goes on with
/// the one before, and one for two commands counts for both.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../docs/peers.md");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut section, mut commands) = ("", Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            (section, commands) = (title, vec![String::new()]);
        }
        let cells: Vec<&str> = line.split('|').collect();
        let named: Vec<String> = match (section, cells.get(1)) {
            ("Commands", Some(cell)) => cell.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
            ("Global flags", Some(_)) => Vec::new(),
            _ => continue,
        };
        if !named.is_empty() {
            commands = named;
        }
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        let flags: Vec<_> = line
            .split(|letter| !is_part(letter))
            .filter_map(|word| word.strip_prefix("--"))
            .map(str::to_owned)
            .collect();
        for command in &commands {
            found
                .entry(command.clone())
                .or_default()
                .extend(flags.iter().cloned());
        }
    }
    found
}

#[test]
fn every_flag_of_runc_is_here_or_left_out_on_purpose() {
    let ours = ours();
    for (command, flags) in RUNC.iter().filter(|(command, _)| *command != "help") {
        let here = ours
            .get(*command)
            .unwrap_or_else(|| panic!("no command {command}"));
        for flag in *flags {
            let is_left_out = LEFT_OUT.contains(&(command, flag));
            assert_ne!(here.contains(*flag), is_left_out, "{command} --{flag}");
        }
    }
}

#[test]
fn the_table_of_commands_names_every_flag() {
    let documented = documented();
    let runc = RUNC
        .iter()
        .flat_map(|(command, flags)| flags.iter().map(move |flag| (*command, *flag)));
    let ours = ours();
    let ours = ours
        .iter()
        .flat_map(|(command, flags)| flags.iter().map(move |flag| (command.as_str(), flag.as_str())));
    for (command, flag) in runc.chain(ours) {
        let row = documented
            .get(command)
            .unwrap_or_else(|| panic!("{command} has no row"));
        let is_everywhere = flag == "help";
        assert!(
            is_everywhere || row.contains(flag),
            "{command} --{flag} is not in the table"
        );
    }
    for (command, _) in RUNC {
        assert!(documented.contains_key(command), "{command} has no row");
    }
}

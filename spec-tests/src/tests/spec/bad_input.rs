//! Wrong input: one clear line on stderr, the right exit code, the text that engines match, and nothing left
//! behind.

use crate::{
    case::Case,
    config::{Mount, Rlimit},
    outcome::{Check, contains, ensure, same},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

tests! {
    bad_input/config_missing,
    bad_input/config_not_json,
    bad_input/config_empty,
    bad_input/config_truncated,
    bad_input/config_wrong_types,
    bad_input/config_of_10_megabytes,
    bad_input/config_nested_deeply,
    bad_input/unknown_fields_are_ignored,
    bad_input/bundle_missing,
    bad_input/root_missing,
    bad_input/root_folder_missing,
    bad_input/process_missing_at_start,
    bad_input/args_empty,
    bad_input/cwd_relative,
    bad_input/namespace_unknown,
    bad_input/namespace_twice,
    bad_input/namespace_path_missing,
    bad_input/namespace_path_of_other_kind,
    bad_input/namespace_path_is_a_regular_file,
    bad_input/mount_source_missing,
    bad_input/mount_folder_on_a_file,
    bad_input/mount_type_unknown,
    bad_input/mount_option_wrong,
    bad_input/mount_destination_missing,
    bad_input/proc_is_a_symlink,
    bad_input/sys_is_a_symlink,
    bad_input/hostname_without_uts_namespace,
    bad_input/rlimit_unknown,
    bad_input/net_device_that_is_missing,
    bad_input/rlimit_twice,
    bad_input/rlimit_soft_above_hard,
    bad_input/seccomp_action_unknown,
    bad_input/apparmor_profile_that_is_not_loaded,
    bad_input/id_with_slash,
    bad_input/id_dot_dot,
    bad_input/id_empty,
    bad_input/id_with_bad_characters,
    bad_input/id_exists,
    bad_input/start_twice,
    bad_input/start_of_stopped,
    bad_input/start_of_nothing,
    bad_input/state_of_nothing,
    bad_input/kill_of_nothing,
    bad_input/kill_of_stopped,
    bad_input/kill_with_unknown_signal,
    bad_input/delete_of_nothing,
    bad_input/delete_of_running,
    bad_input/binary_missing_absolute,
    bad_input/binary_missing_in_path,
    bad_input/binary_is_a_folder,
    bad_input/binary_not_executable,
    bad_input/script_with_missing_interpreter,
    bad_input/script_in_the_foreground,
    bad_input/script_in_the_background,
    bad_input/dynamic_binary_without_loader,
    bad_input/binary_of_wrong_architecture,
    bad_input/binary_is_an_empty_file,
    bad_input/unknown_command,
    bad_input/unknown_flag,
    bad_input/flag_without_value,
    bad_input/missing_id,
    bad_input/log_format_unknown,
    bad_input/pid_file_in_missing_folder,
    bad_input/terminal_and_detach_without_console_socket,
    bad_input/console_socket_missing,
}

tests! {
    bad_input/intel_rdt_without_hardware: &[NoPath("/sys/fs/resctrl/schemata")],
}

/// create must be refused with this text and leave nothing.
fn create_refused(c: &Case, part: &str) -> Check {
    let run = c.create()?;
    same("exit code", 1, run.code())?;
    run.refused_with(part)?;
    c.nothing_left()
}

/// config.json is exactly this text.
fn raw_config_refused(c: &Case, text: &[u8]) -> Check {
    fs::write(c.bundle.join("config.json"), text)?;
    let run = c.rt(&["create", "--bundle", "bundle", &c.id])?;
    same("exit code", 1, run.code())?;
    run.refused()?;
    c.nothing_left()
}

fn config_missing(c: &mut Case) -> Check {
    c.rt(&["create", "--bundle", "bundle", &c.id])?
        .wants(1)?
        .refused_with("JSON specification file config.json not found")?;
    c.nothing_left()
}

fn config_not_json(c: &mut Case) -> Check {
    raw_config_refused(c, b"this is not JSON")
}

fn config_empty(c: &mut Case) -> Check {
    raw_config_refused(c, b"")
}

fn config_truncated(c: &mut Case) -> Check {
    let text = c.config.to_string();
    raw_config_refused(c, &text.as_bytes()[..text.len() / 2])
}

fn config_wrong_types(c: &mut Case) -> Check {
    let wrong: [(&str, Value); 8] = [
        ("/process/args", json!("sh")),
        ("/process/cwd", json!(5)),
        ("/process/user/uid", json!("root")),
        ("/process/env", json!({"A": "B"})),
        ("/mounts", json!({})),
        ("/root", json!("rootfs")),
        ("/linux/namespaces", json!("pid")),
        ("/hostname", json!(["a"])),
    ];
    for (pointer, value) in wrong {
        let mut config = c.config.clone();
        match config.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => return crate::outcome::fail(format!("no {pointer} in the default config")),
        }
        fs::write(c.bundle.join("config.json"), config.to_string())?;
        let run = c.rt(&["create", "--bundle", "bundle", &c.id])?;
        ensure!(
            run.code() == 1,
            "{pointer}: wish exit code 1, reality {}",
            run.report()
        );
        run.refused()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn config_of_10_megabytes(c: &mut Case) -> Check {
    c.document().annotations(json!({"big": "x".repeat(10 << 20)}));
    same(
        "a valid config of 10 MB works",
        "fine",
        c.sh("echo fine")?.as_str(),
    )?;
    let rubbish = format!("{{\"a\": {}", "[1],".repeat(2 << 20));
    raw_config_refused(c, rubbish.as_bytes())
}

fn config_nested_deeply(c: &mut Case) -> Check {
    raw_config_refused(c, format!("{{\"process\": {}", "[".repeat(200_000)).as_bytes())
}

fn unknown_fields_are_ignored(c: &mut Case) -> Check {
    c.config["futureField"] = json!({"a": [1, 2]});
    c.config["process"]["futureField"] = json!(true);
    c.config["linux"]["futureField"] = json!(null);
    same("the container runs", "fine", c.sh("echo fine")?.as_str())
}

fn bundle_missing(c: &mut Case) -> Check {
    c.rt(&["create", "--bundle", "/does/not/exist", &c.id])?
        .wants(1)?
        .refused_with("/does/not/exist")?;
    c.nothing_left()
}

fn root_missing(c: &mut Case) -> Check {
    if let Some(config) = c.config.as_object_mut() {
        config.remove("root");
    }
    create_refused(c, "root")
}

fn root_folder_missing(c: &mut Case) -> Check {
    c.document().root().path("no-such-rootfs");
    create_refused(c, "no-such-rootfs")
}

fn process_missing_at_start(c: &mut Case) -> Check {
    if let Some(config) = c.config.as_object_mut() {
        config.remove("process");
    }
    // config.md: process is needed when start is called; a runtime may refuse at create.
    let create = c.create()?;
    if create.code() == 0 {
        c.rt(&["start", &c.id])?.refused()?;
        return c.delete();
    }
    create.refused()?;
    c.nothing_left()
}

fn args_empty(c: &mut Case) -> Check {
    c.process().args(json!([]));
    create_refused(c, "args")
}

fn cwd_relative(c: &mut Case) -> Check {
    c.process().cwd("tmp");
    let run = c.create()?.wants(1)?.refused()?;
    contains("stderr in lower case", &run.stderr.to_lowercase(), "cwd")?;
    c.nothing_left()
}

fn namespace_unknown(c: &mut Case) -> Check {
    c.join_namespace("bogus", None);
    create_refused(c, "bogus")
}

fn namespace_twice(c: &mut Case) -> Check {
    if let Some(list) = c.config["linux"]["namespaces"].as_array_mut() {
        list.push(json!({"type": "pid"}));
    }
    create_refused(c, "pid")
}

fn namespace_path_missing(c: &mut Case) -> Check {
    c.join_namespace("network", Some("/does/not/exist"));
    create_refused(c, "/does/not/exist")
}

fn namespace_path_of_other_kind(c: &mut Case) -> Check {
    c.join_namespace("network", Some("/proc/self/ns/ipc"));
    create_refused(c, "ns/ipc")
}

fn namespace_path_is_a_regular_file(c: &mut Case) -> Check {
    c.join_namespace("ipc", Some("/etc/hostname"));
    create_refused(c, "/etc/hostname")
}

fn mount_source_missing(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/mnt")
            .source("/no/such/source")
            .options(["bind"]),
    );
    create_refused(c, "/no/such/source")
}

fn mount_folder_on_a_file(c: &mut Case) -> Check {
    fs::create_dir(c.dir.join("folder"))?;
    let source = c.dir.join("folder");
    c.mount(
        Mount::new()
            .destination("/etc/passwd")
            .source(source.to_string_lossy())
            .options(["bind"]),
    );
    // moby turns this text into its hint about folders and files.
    let run = c.create()?.wants(1)?.refused()?;
    let text = run.stderr.to_lowercase();
    ensure!(
        text.contains("not a directory"),
        "wish: `not a directory`, reality: {text}"
    );
    c.nothing_left()
}

fn mount_type_unknown(c: &mut Case) -> Check {
    c.mount(Mount::new().destination("/mnt").kind("nosuchfs").source("x"));
    create_refused(c, "mnt")
}

fn mount_option_wrong(c: &mut Case) -> Check {
    c.mount(
        Mount::new()
            .destination("/mnt")
            .kind("tmpfs")
            .source("t")
            .options(["size=64quarks"]),
    );
    create_refused(c, "mnt")
}

fn mount_destination_missing(c: &mut Case) -> Check {
    c.mount(Mount::new().kind("tmpfs").source("t"));
    create_refused(c, "destination")
}

fn mountpoint_is_a_symlink(c: &mut Case, path: &str) -> Check {
    let folder = c.rootfs(path);
    fs::remove_dir(&folder)?;
    symlink("/tmp", &folder)?;
    create_refused(c, path)
}

fn proc_is_a_symlink(c: &mut Case) -> Check {
    mountpoint_is_a_symlink(c, "/proc")
}

fn sys_is_a_symlink(c: &mut Case) -> Check {
    mountpoint_is_a_symlink(c, "/sys")
}

fn hostname_without_uts_namespace(c: &mut Case) -> Check {
    c.drop_namespace("uts");
    let before = nix::unistd::gethostname()?;
    let result = create_refused(c, "hostname");
    let after = nix::unistd::gethostname()?;
    if before != after {
        nix::unistd::sethostname(&before)?;
    }
    same("the host's name", before, after)?;
    result
}

fn rlimit_unknown(c: &mut Case) -> Check {
    c.process()
        .rlimits([Rlimit::new().kind("RLIMIT_BOGUS").soft(1).hard(1)]);
    create_refused(c, "RLIMIT_BOGUS")
}

fn net_device_that_is_missing(c: &mut Case) -> Check {
    c.linux().net_devices(json!({"missing0": {"name": "inside0"}}));
    create_refused(c, "")
}

fn intel_rdt_without_hardware(c: &mut Case) -> Check {
    c.linux()
        .intel_rdt(json!({"closID": "guaranteed", "schemata": ["L3:0=f"]}));
    create_refused(c, "")
}

fn rlimit_twice(c: &mut Case) -> Check {
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64});
    c.process().rlimits(json!([limit, limit]));
    create_refused(c, "RLIMIT_NOFILE")
}

fn rlimit_soft_above_hard(c: &mut Case) -> Check {
    c.process()
        .rlimits([Rlimit::new().kind("RLIMIT_NOFILE").soft(100).hard(50)]);
    create_refused(c, "")
}

fn seccomp_action_unknown(c: &mut Case) -> Check {
    c.linux().seccomp().clear().default_action("SCMP_ACT_BOGUS");
    create_refused(c, "SCMP_ACT_BOGUS")
}

fn apparmor_profile_that_is_not_loaded(c: &mut Case) -> Check {
    c.process().apparmor_profile("no-such-profile");
    create_refused(c, "apparmor")
}

fn bad_id(c: &Case, id: &str) -> Check {
    let text = match id {
        "" => "container id cannot be empty",
        _ => "invalid container ID format",
    };
    let run = c.rt(&c.bundle_args("create", &[], id)?)?;
    same("exit code", 1, run.code())?;
    run.refused_with(text)?;
    c.nothing_left()?;
    c.rt(&["state", id])?.wants(1)?.refused_with(text)?;
    Ok(())
}

fn id_with_slash(c: &mut Case) -> Check {
    bad_id(c, "a/b")?;
    bad_id(c, "../escape")?;
    ensure!(
        !c.dir.join("escape").exists(),
        "state was written outside of --root"
    );
    Ok(())
}

fn id_dot_dot(c: &mut Case) -> Check {
    bad_id(c, "..")?;
    bad_id(c, ".")
}

fn id_empty(c: &mut Case) -> Check {
    bad_id(c, "")
}

fn id_with_bad_characters(c: &mut Case) -> Check {
    for id in ["a b", "a\nb", "a$b", "ä", "a:b"] {
        bad_id(c, id)?;
    }
    Ok(())
}

fn id_exists(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let before = c.state()?;
    c.create()?
        .wants(1)?
        .refused_with("container with given ID already exists")?;
    same("the existing container is untouched", before, c.state()?)
}

fn start_twice(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["start", &c.id])?
        .wants(1)?
        .refused_with("cannot start an already running container")?;
    same("status", "running", c.status()?.as_str())?;
    c.rt(&["pause", &c.id])?.ok()?;
    c.rt(&["start", &c.id])?
        .wants(1)?
        .refused_with("cannot start a container in the paused state")?;
    same("status", "paused", c.status()?.as_str())
}

fn start_of_stopped(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["start", &c.id])?
        .wants(1)?
        .refused_with("cannot start a container that has stopped")?;
    Ok(())
}

fn start_of_nothing(c: &mut Case) -> Check {
    c.rt(&["start", "nobody"])?
        .wants(1)?
        .refused_with("container does not exist")?;
    Ok(())
}

fn state_of_nothing(c: &mut Case) -> Check {
    c.rt(&["state", "nobody"])?
        .wants(1)?
        .refused_with("container does not exist")?;
    Ok(())
}

fn kill_of_nothing(c: &mut Case) -> Check {
    c.rt(&["kill", "nobody", "KILL"])?
        .wants(1)?
        .refused_with("container does not exist")?;
    Ok(())
}

fn kill_of_stopped(c: &mut Case) -> Check {
    c.start_sleeper()?;
    c.rt(&["kill", &c.id, "KILL"])?.ok()?;
    c.wait_status("stopped")?;
    c.rt(&["kill", &c.id, "KILL"])?
        .wants(1)?
        .refused_with("container not running")?;
    Ok(())
}

fn kill_with_unknown_signal(c: &mut Case) -> Check {
    c.start_sleeper()?;
    for signal in ["BOGUS", "0x9", "999"] {
        let run = c.rt(&["kill", &c.id, signal])?;
        ensure!(
            run.code() == 1,
            "signal {signal:?}: wish exit code 1, reality {}",
            run.report()
        );
    }
    same("status", "running", c.status()?.as_str())
}

fn delete_of_nothing(c: &mut Case) -> Check {
    c.rt(&["delete", "nobody"])?
        .wants(1)?
        .refused_with("container does not exist")?;
    Ok(())
}

fn delete_of_running(c: &mut Case) -> Check {
    c.start_sleeper()?;
    let text = |status| format!("cannot delete container {} that is not stopped: {status}", c.id);
    c.rt(&["delete", &c.id])?
        .wants(1)?
        .refused_with(&text("running"))?;
    same("status", "running", c.status()?.as_str())?;
    c.rt(&["pause", &c.id])?.ok()?;
    c.rt(&["delete", &c.id])?
        .wants(1)?
        .refused_with(&text("paused"))?;
    same("status", "paused", c.status()?.as_str())
}

/// create (or, where a runtime looks later, start) fails with all of these texts (`|` between spellings), and
/// nothing stays.
fn program_refused(c: &mut Case, args: &[&str], texts: &[&str]) -> Check {
    c.args(args);
    let create = c.create()?;
    let run = if create.code() == 0 {
        c.rt(&["start", &c.id])?
    } else {
        create
    };
    same("exit code", 1, run.code())?;
    let run = run.refused()?;
    for text in texts {
        let found = text.split('|').any(|t| run.stderr.to_lowercase().contains(t));
        ensure!(
            found,
            "wish:    stderr contains {text:?} (any case)\n    reality: {}",
            run.stderr
        );
    }
    c.delete()?;
    c.nothing_left()?;
    // `run` in the foreground as well, where execve's failure is that of the container's own process.
    let run = c.run()?.refused()?;
    let code = if run.stderr.starts_with("exec ") { 255 } else { 1 };
    same("exit code", code, run.code())?;
    c.nothing_left()
}

fn binary_missing_absolute(c: &mut Case) -> Check {
    // moby: command name and `no such file or directory` make exit code 127.
    program_refused(
        c,
        &["/bin/no-such-program"],
        &["no-such-program", "no such file or directory"],
    )
}

fn binary_missing_in_path(c: &mut Case) -> Check {
    // moby and Podman look for this text, or for `no such file or directory`.
    program_refused(
        c,
        &["no-such-program"],
        &[
            "no-such-program",
            "executable file not found in|no such file or directory",
        ],
    )
}

fn binary_is_a_folder(c: &mut Case) -> Check {
    // EACCES of execve(2) says less than what is there, and is as true.
    program_refused(c, &["/etc"], &["/etc", "is a directory"])
        .or_else(|_| program_refused(c, &["/etc"], &["/etc", "permission denied"]))
}

fn binary_not_executable(c: &mut Case) -> Check {
    // moby and Podman: `permission denied` makes exit code 126.
    program_refused(c, &["/etc/passwd"], &["/etc/passwd", "permission denied"])
}

fn script_with_missing_interpreter(c: &mut Case) -> Check {
    write_program(c, "/bin/script", b"#!/no/such/interpreter\necho hi\n")?;
    program_refused(c, &["/bin/script"], &["/bin/script", "no such file or directory"])
}

/// In the foreground runc's words, and nothing else: its process says them, which then ends.
fn script_in_the_foreground(c: &mut Case) -> Check {
    let wish = "exec /bin/script: no such file or directory\n";
    write_program(c, "/bin/script", b"#!/no/such/interpreter\necho hi\n")?;
    c.args(&["/bin/script"]);
    let run = c.run()?.wants(255)?;
    same("run", wish, run.stderr.as_str())?;
    c.nothing_left()?;
    c.start_sleeper()?;
    let exec = c.rt(&["exec", &c.id, "/bin/script"])?.wants(255)?;
    same("exec", wish, exec.stderr.as_str())?;
    fs::write(c.rootfs("/bin/script"), "neither script nor program")?;
    let exec = c.rt(&["exec", &c.id, "/bin/script"])?.wants(255)?;
    same(
        "exec",
        "exec /bin/script: exec format error\n",
        exec.stderr.as_str(),
    )
}

/// Where somebody has to be told who did not see it: with the cause.
fn script_in_the_background(c: &mut Case) -> Check {
    write_program(c, "/bin/script", b"#!/no/such/interpreter\necho hi\n")?;
    let cause = "the interpreter of the script, /no/such/interpreter, is missing";
    c.args(&["/bin/script"]);
    c.run_with(&["--detach"])?.refused_with(cause)?;
    c.nothing_left()?;
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.refused_with(cause)?;
    c.delete()?;
    c.nothing_left()
}

fn dynamic_binary_without_loader(c: &mut Case) -> Check {
    write_program(c, "/bin/dynamic", &fs::read("/usr/bin/env")?)?;
    program_refused(
        c,
        &["/bin/dynamic"],
        &["/bin/dynamic", "no such file or directory"],
    )
}

fn binary_of_wrong_architecture(c: &mut Case) -> Check {
    let mut elf = fs::read(c.host.base.join("probe"))?;
    // e_machine = EM_S390 in the ELF header's byte 18: no interpreter and no CPU for it here.
    if let Some(machine) = elf.get_mut(18..20) {
        machine.copy_from_slice(&[22, 0]);
    }
    write_program(c, "/bin/foreign", &elf)?;
    program_refused(c, &["/bin/foreign"], &["/bin/foreign", "exec format error"])
}

fn binary_is_an_empty_file(c: &mut Case) -> Check {
    write_program(c, "/bin/rubbish", b"")?;
    program_refused(c, &["/bin/rubbish"], &["/bin/rubbish", "exec format error"])
}

fn write_program(c: &Case, path: &str, bytes: &[u8]) -> Check {
    fs::write(c.rootfs(path), bytes)?;
    fs::set_permissions(c.rootfs(path), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn unknown_command(c: &mut Case) -> Check {
    let run = c.rt(&["no-such-command"])?;
    ensure!(run.code() != 0, "wish: an error, reality: {}", run.report());
    Ok(())
}

fn unknown_flag(c: &mut Case) -> Check {
    let run = c.rt(&["create", "--no-such-flag", &c.id])?;
    ensure!(run.code() != 0, "wish: an error, reality: {}", run.report());
    let text = format!("{}{}", run.stdout, run.stderr);
    ensure!(text.contains("no-such-flag"), "the flag is not named: {text}");
    c.nothing_left()
}

fn flag_without_value(c: &mut Case) -> Check {
    // Podman and CRI-O recognise by this text that a command has a flag.
    let run = c.rt(&["create", "--console-socket"])?;
    ensure!(run.code() != 0, "wish: an error, reality: {}", run.report());
    let text = format!("{}{}", run.stdout, run.stderr);
    contains("output", &text, "flag needs an argument")
}

fn missing_id(c: &mut Case) -> Check {
    for command in [
        "create", "start", "state", "kill", "delete", "exec", "pause", "resume",
    ] {
        let run = c.rt(&[command])?;
        ensure!(
            run.code() != 0,
            "{command} without an id: wish an error, reality {}",
            run.report()
        );
    }
    c.nothing_left()
}

fn log_format_unknown(c: &mut Case) -> Check {
    c.write_config()?;
    let run = c.rt(&["--log-format", "xml", "run", "--bundle", "bundle", &c.id])?;
    same("exit code", 1, run.code())?;
    run.refused_with("xml")?;
    c.nothing_left()
}

fn pid_file_in_missing_folder(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "1000"]);
    c.create_with(&["--pid-file", "/no/such/folder/pid"])?
        .wants(1)?
        .refused_with("/no/such/folder")?;
    c.nothing_left()
}

fn terminal_and_detach_without_console_socket(c: &mut Case) -> Check {
    c.process().terminal(true);
    create_refused(c, "console")
}

fn console_socket_missing(c: &mut Case) -> Check {
    c.process().terminal(true);
    c.create_with(&["--console-socket", "/no/such/socket"])?
        .wants(1)?
        .refused_with("/no/such/socket")?;
    c.nothing_left()
}

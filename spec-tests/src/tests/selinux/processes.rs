//! Runs in: SUITE. SELinux, enforced: the label of processes, their keyring, and what a container may then
//! do. The labels are those of distributions; `machine/selinux.cil` is the policy of the suite's own machine.

use super::{FILES, IMAGE, PROCESS, UNKNOWN, confine};
use crate::{
    case::Case,
    config::{Hook, Mount},
    label::{label_of, label_of_process, relabel, text},
    outcome::{Check, contains, ensure, same},
    seen::Report,
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

tests! {
    selinux/label_of_the_process: &[SELinux],
    selinux/without_a_label: &[SELinux],
    selinux/label_with_and_without_new_privileges: &[SELinux],
    selinux/label_of_exec: &[SELinux],
    selinux/label_of_an_exec_file: &[SELinux],
    selinux/label_of_hooks: &[SELinux],
    selinux/label_of_the_session_keyring: &[SELinux],
    selinux/label_of_an_execs_keyring: &[SELinux],
    selinux/start_container_hook_is_confined: &[SELinux],
    selinux/label_without_proc: &[SELinux],
    selinux/terminal_of_exec: &[SELinux],
    selinux/of_an_ordinary_user: &[SELinux],
    selinux/unknown_process_label_is_refused: &[SELinux],
    selinux/unknown_exec_label_is_refused: &[SELinux],
    selinux/program_that_the_label_may_not_start: &[SELinux],
    selinux/secrets_stay_secret: &[SELinux],
    selinux/containers_are_kept_apart: &[SELinux],
    selinux/terminal: &[SELinux],
    selinux/in_a_user_namespace: &[SELinux],
}

/// Another one's.
const OTHER_PROCESS: &str = "system_u:system_r:container_t:s0:c3,c4";
const OTHER_FILES: &str = "system_u:object_r:container_file_t:s0:c3,c4";
/// No container may.
const SECRET: &str = "system_u:object_r:shadow_t:s0";
/// What the probe has seen of itself.
fn seen(report: &Report) -> String {
    text(report.label.as_bytes())
}

fn label_of_the_process(c: &mut Case) -> Check {
    confine(c)?;
    same("from inside", PROCESS, seen(&c.probe(&[])?).as_str())?;
    c.start_sleeper()?;
    same(
        "from outside",
        PROCESS,
        label_of_process(&c.pid()?.to_string())?.as_str(),
    )
}

fn without_a_label(c: &mut Case) -> Check {
    same("label", label_of_process("self")?, seen(&c.probe(&[])?))?;
    c.start_sleeper()?;
    same(
        "label of exec",
        label_of_process("self")?,
        seen(&c.exec_probe(&[], &[])?),
    )
}

fn label_with_and_without_new_privileges(c: &mut Case) -> Check {
    confine(c)?;
    for flag in [false, true] {
        c.process().no_new_privileges(flag);
        let label = seen(&c.probe(&[])?);
        same(&format!("noNewPrivileges: {flag}"), PROCESS, label.as_str())?;
    }
    Ok(())
}

fn label_of_exec(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    same(
        "the container's",
        PROCESS,
        seen(&c.exec_probe(&[], &[])?).as_str(),
    )?;
    let wide = "system_u:system_r:container_t:s0:c1,c2,c5";
    let options = ["--process-label", wide];
    same("its own", wide, seen(&c.exec_probe(&options, &[])?).as_str())
}

fn label_of_an_exec_file(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    let mut process =
        json!({"args": ["/bin/probe"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]});
    let file = c.dir.join("process.json");
    let wide = "system_u:system_r:container_t:s0:c1,c2,c5";
    // A process file is not config.json; without a label in it the container's holds, or it would run
    // unconfined.
    for (label, wish) in [(None, PROCESS), (Some(wide), wide)] {
        if let Some(label) = label {
            process["selinuxLabel"] = json!(label);
        }
        fs::write(&file, process.to_string())?;
        let run = c.rt(&["exec", "--process", &file.to_string_lossy(), &c.id])?;
        same("label", wish, seen(&run.ok()?.seen()?).as_str())?;
    }
    Ok(())
}

/// Hooks of the host are the runtime's: they could not do their work in the container's label.
fn label_of_hooks(c: &mut Case) -> Check {
    const KINDS: [&str; 5] = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    confine(c)?;
    let script = c.dir.join("hook.sh");
    let log = c.dir.join("labels");
    fs::create_dir(&log)?;
    let line = format!("#!/bin/sh\ncat /proc/self/attr/current > {}/$1\n", log.display());
    fs::write(&script, line)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    for kind in KINDS {
        let path = script.to_string_lossy();
        c.config["hooks"][kind] =
            json!([{"path": path, "args": [path, kind], "env": ["PATH=/usr/bin:/bin"]}]);
    }
    c.start_sleeper()?;
    c.delete()?;
    let own = label_of_process("self")?;
    for kind in KINDS {
        same(kind, own.as_str(), text(&fs::read(log.join(kind))?).as_str())?;
    }
    Ok(())
}

/// It is a program of the image, so that it must not run with the label of the host.
fn start_container_hook_is_confined(c: &mut Case) -> Check {
    confine(c)?;
    let line = "cat /proc/self/attr/current > /label";
    c.hooks().start_container([Hook::new()
        .path("/bin/sh")
        .args(json!(["sh", "-c", line]))
        .env(["PATH=/bin"])]);
    c.run()?.ok()?;
    same("label", PROCESS, text(&fs::read(c.rootfs("/label"))?).as_str())
}

/// A label is written to a file of /proc, which the container does not need to have.
fn label_without_proc(c: &mut Case) -> Check {
    confine(c)?;
    if let Some(mounts) = c.config["mounts"].as_array_mut() {
        mounts.retain(|m| m["destination"] != "/proc");
    }
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.retain(|key, _| key != "maskedPaths" && key != "readonlyPaths");
    }
    c.start_sleeper()?;
    same("init", PROCESS, label_of_process(&c.pid()?.to_string())?.as_str())?;
    let pid_file = c.dir.join("exec.pid");
    let options = [
        "exec",
        "--detach",
        "--pid-file",
        &pid_file.to_string_lossy(),
        &c.id,
    ];
    c.rt(&[&options[..], &["/bin/sleep", "1000"]].concat())?.ok()?;
    let label = label_of_process(fs::read_to_string(pid_file)?.trim())?;
    same("exec", PROCESS, label.as_str())
}

/// KEYCTL_CLEAR of the session keyring: writing to it.
fn clear() -> String {
    format!("{}:7:-3", libc::SYS_keyctl)
}

/// The process with this report sees its keyring, which has this label, and may write to it.
fn has_keyring(c: &Case, report: &Report, label: &str) -> Check {
    let name = report.keyring.as_str();
    contains("the keyring that the container sees", name, &c.id)?;
    same("writing to it", Some(0), report.syscall[clear()])?;
    // From inside: others may not look at it.
    same("its label", label, report.keyring_label.as_str())
}

fn label_of_the_session_keyring(c: &mut Case) -> Check {
    confine(c)?;
    let clear = clear();
    c.shell(&format!(
        "/bin/probe --syscall {clear} > /report && mv /report /whole && exec sleep 1000"
    ));
    c.create()?.ok()?;
    c.rt(&["start", &c.id])?.ok()?;
    let file = c.rootfs("/whole");
    c.wait_until("the report", || Ok(file.exists()))?;
    has_keyring(c, &serde_json::from_slice(&fs::read(file)?)?, PROCESS)?;
    // What the caller makes is labelled as ever.
    let own = fs::read("/proc/self/attr/keycreate")?;
    same("the label of keys that the caller makes", "", text(&own).as_str())
}

fn label_of_an_execs_keyring(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    let report = c.exec_probe(&[], &["--syscall", &clear()])?;
    has_keyring(c, &report, PROCESS)
}

fn unknown_process_label_is_refused(c: &mut Case) -> Check {
    confine(c)?;
    c.process().selinux_label(UNKNOWN);
    c.create()?.wants(1)?.refused_with("selinuxLabel")?;
    c.nothing_left()
}

fn unknown_exec_label_is_refused(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    c.rt(&["exec", "--process-label", UNKNOWN, &c.id, "/bin/true"])?
        .wants(255)?
        .refused_with("label")?;
    same("the container", "running", c.status()?.as_str())
}

/// The policy refuses the change to the label: the program must not run with another one instead.
fn program_that_the_label_may_not_start(c: &mut Case) -> Check {
    confine(c)?;
    let program = c.rootfs("/bin/secret");
    fs::copy(c.rootfs("/bin/probe"), &program)?;
    relabel(&program, SECRET)?;
    c.args(&["/bin/secret"]);
    let run = c.run()?;
    same("its output", "", run.stdout.as_str())?;
    run.refused_with("/bin/secret")?;
    c.nothing_left()?;
    c.start_sleeper()?;
    let run = c.rt(&["exec", &c.id, "/bin/secret"])?;
    same("the output of exec", "", run.stdout.as_str())?;
    run.refused().map(drop)
}

/// A file with this label in a folder that is mounted at /mnt.
fn file(c: &Case, name: &str, label: &str) -> Check<PathBuf> {
    let folder = c.dir.join("mounted");
    if !folder.exists() {
        fs::create_dir(&folder)?;
        relabel(&folder, IMAGE)?;
    }
    let path = folder.join(name);
    fs::write(&path, format!("{name}\n"))?;
    relabel(&path, label)?;
    Ok(folder)
}

fn mount_files(c: &mut Case, folder: &Path) {
    c.mount(Mount::bind("/mnt", folder).options(["bind"]));
}

fn secrets_stay_secret(c: &mut Case) -> Check {
    confine(c)?;
    file(c, "open", FILES)?;
    let folder = file(c, "secret", SECRET)?;
    mount_files(c, &folder);
    let line = "cat /mnt/open; cat /mnt/secret; echo x > /mnt/secret; true";
    c.shell(line);
    let run = c.run()?.ok()?;
    same("what it may read", "open\n", run.stdout.as_str())?;
    same("refusals", 2, run.stderr.matches("Permission denied").count())?;
    same(
        "the secret",
        "secret\n",
        fs::read_to_string(folder.join("secret"))?.as_str(),
    )?;
    // Nothing but the label stood in the way.
    if let Some(process) = c.config["process"].as_object_mut() {
        process.remove("selinuxLabel");
    }
    same("without a label", "open\nsecret", c.sh("cat /mnt/*")?.as_str())
}

fn containers_are_kept_apart(c: &mut Case) -> Check {
    confine(c)?;
    file(c, "of-all", IMAGE)?;
    file(c, "one", FILES)?;
    let folder = file(c, "other", OTHER_FILES)?;
    mount_files(c, &folder);
    let line =
        "cat /mnt/* 2>/dev/null; for f in one other; do (echo more >> /mnt/$f) 2>/dev/null; done; true";
    same("one", "of-all\none", c.sh(line)?.as_str())?;
    c.process().selinux_label(OTHER_PROCESS);
    c.linux().mount_label(OTHER_FILES);
    same("the other", "of-all\nother", c.sh(line)?.as_str())?;
    for name in ["one", "other"] {
        let text = fs::read_to_string(folder.join(name))?;
        same(name, format!("{name}\nmore\n"), text)?;
    }
    Ok(())
}

/// A terminal lies in the container's devpts, which the label of its mounts is for.
fn terminal(c: &mut Case) -> Check {
    confine(c)?;
    c.process().terminal(true);
    c.shell("tty && echo by-stdout && echo by-tty > /dev/tty && echo by-console > /dev/console && read line && echo got $line");
    let mut master = crate::tests::process::create_with_socket(c)?;
    let node = Path::new("/proc").join(c.pid()?.to_string()).join("root/dev");
    same(
        "label of the terminal",
        FILES,
        label_of(&node.join("pts/0"))?.as_str(),
    )?;
    same(
        "label of the console",
        FILES,
        label_of(&node.join("console"))?.as_str(),
    )?;
    c.rt(&["start", &c.id])?.ok()?;
    for text in ["by-stdout", "by-tty", "by-console"] {
        master.expect(text)?;
    }
    master.write("back\n")?;
    master.expect("got back").map(drop)
}

fn terminal_of_exec(c: &mut Case) -> Check {
    confine(c)?;
    c.start_sleeper()?;
    let line = "echo by-stdout && echo by-tty > /dev/tty && read line && echo got $line";
    let words = ["exec", "-t", &c.id, "/bin/sh", "-c", line].map(std::ffi::OsString::from);
    let (live, mut master) = crate::tests::process::on_own_pty(c, &words, 22, 66)?;
    for text in ["by-stdout", "by-tty"] {
        master.expect(text)?;
    }
    master.write("back\r")?;
    master.expect("got back")?;
    live.finish()?.wants(0).map(drop)
}

fn of_an_ordinary_user(c: &mut Case) -> Check {
    crate::tests::rootless::ordinary_user(c)?;
    confine(c)?;
    same("label", PROCESS, seen(&c.probe(&[])?).as_str())?;
    c.start_sleeper()?;
    for path in ["dev", "dev/pts", "dev/shm", "dev/mqueue"] {
        let path = Path::new("/proc")
            .join(c.pid()?.to_string())
            .join("root")
            .join(path);
        same(&path.to_string_lossy(), FILES, label_of(&path)?.as_str())?;
    }
    same("label of exec", PROCESS, seen(&c.exec_probe(&[], &[])?).as_str())
}

fn in_a_user_namespace(c: &mut Case) -> Check {
    confine(c)?;
    c.map_ids(100_000)?;
    let report = c.probe(&[])?;
    same("label", PROCESS, seen(&report).as_str())?;
    let keyring = report.keyring.as_str();
    ensure!(
        keyring.contains(&c.id),
        "wish a keyring of {}, reality {keyring:?}",
        c.id
    );
    c.start_sleeper()?;
    same("label of exec", PROCESS, seen(&c.exec_probe(&[], &[])?).as_str())
}

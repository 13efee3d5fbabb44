//! crun's annotations, `run.oci.*` (crun(1)), beside those of hooks (`hooks/output_files_of_annotations`), of
//! mounts and of systemd.

use crate::{
    case::Case,
    outcome::{Check, contains, ensure, fail, same},
    pty::FdSocket,
    tests::seccomp::filter,
};
use serde_json::json;

tests! {
    annotations/pidfd_receiver,
    annotations/seccomp_receiver,
    annotations/seccomp_fail_unknown_syscall,
    annotations/what_would_be_another_filter_is_refused,
    annotations/what_has_no_effect_is_a_warning,
}

/// As `--pidfd-socket`; both at once, too.
fn pidfd_receiver(c: &mut Case) -> Check {
    let (first, second) = (
        FdSocket::new(c.dir.join("a.sock"))?,
        FdSocket::new(c.dir.join("b.sock"))?,
    );
    c.document()
        .annotations(json!({"run.oci.pidfd_receiver": first.path}));
    c.args(&["/bin/sleep", "1000"]);
    let path = second.path_text();
    for (options, sockets) in [
        (vec![], vec![&first]),
        (vec!["--pidfd-socket", path.as_str()], vec![&first, &second]),
    ] {
        let live = c.spawn(&c.bundle_args("create", &options, &c.id)?)?;
        let received: Vec<_> = sockets.iter().map(|socket| socket.receive()).collect();
        live.finish()?.ok()?;
        let pid = c.pid()?;
        for received in received {
            let Some(pidfd) = received?.fds.pop() else {
                return fail("no descriptor came");
            };
            let number = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
            contains("fdinfo", &info, &format!("Pid:\t{pid}\n"))?;
        }
        c.delete()?;
        c.nothing_left()?;
    }
    Ok(())
}

fn seccomp_receiver(c: &mut Case) -> Check {
    let socket = FdSocket::new(c.dir.join("agent.sock"))?;
    filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]),
    );
    c.process().no_new_privileges(false);
    c.document()
        .annotations(json!({"run.oci.seccomp.receiver": socket.path}));
    c.args(&["/bin/sleep", "1000"]);
    let live = c.spawn(&c.bundle_args("create", &[], &c.id)?)?;
    let received = socket.receive();
    live.finish()?.ok()?;
    same("descriptors", 1, received?.fds.len())?;
    c.delete()?;
    c.document()
        .annotations(json!({"run.oci.seccomp.receiver": "agent.sock"}));
    c.create()?.refused_with("not an absolute path")?;
    c.nothing_left()
}

fn seccomp_fail_unknown_syscall(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpriority", "from_the_future"], "action": "SCMP_ACT_ERRNO"}]),
    );
    c.args(&["/bin/true"]);
    for (value, is_refused) in [("1", true), ("0", false)] {
        c.document()
            .annotations(json!({"run.oci.seccomp_fail_unknown_syscall": value}));
        match is_refused {
            true => c.run()?.refused_with("from_the_future")?,
            false => c.run()?.ok()?,
        };
        c.nothing_left()?;
    }
    Ok(())
}

fn what_would_be_another_filter_is_refused(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    for name in ["run.oci.seccomp_bpf_data", "run.oci.seccomp.plugins"] {
        c.document().annotations(json!({name: "AAAA"}));
        c.run()?.refused_with(name)?;
        c.nothing_left()?;
    }
    Ok(())
}

fn what_has_no_effect_is_a_warning(c: &mut Case) -> Check {
    c.args(&["/bin/true"]);
    for name in [
        "run.oci.handler",
        "run.oci.systemd.force_cgroup_v1",
        "run.oci.timens_offset",
    ] {
        c.document().annotations(json!({name: "x"}));
        let run = c.run()?.ok()?;
        contains("warning", &run.stderr, name)?;
        ensure!(
            run.stderr.lines().count() == 1,
            "more than one line: {}",
            run.stderr
        );
    }
    Ok(())
}

//! Runs in: RUNTIME. Tests of the operations on real cgroups. They need root and a cgroup2 tree, and fail
//! without.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde_json::{Value, json};

use super::*;
use crate::plan::CallerOptions;
use crate::plan::cgroup::{Controllers, compile_devices};
use crate::spec;

const PATIENCE: Duration = Duration::from_secs(5);

/// A place of its own for a test, removed with all in it at the end, also if the test fails.
struct Place {
    below_root: PathBuf,
    absolute: PathBuf,
}

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "onggi-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let absolute = CgroupRoot::find().unwrap().path().join(&name);
        Self {
            below_root: Path::new("/").join(name),
            absolute,
        }
    }

    fn plan(&self, below: &str, resources: Value) -> CgroupPlan {
        let path = self.below_root.join(below);
        plan_of(CgroupDriver::Fs, Some(path.to_str().unwrap()), resources).unwrap()
    }

    fn try_create(&self, below: &str, resources: Value) -> Result<CgroupManager> {
        let plan = self.plan(below, resources);
        let location = CgroupLocation::find(&plan, &Cancel::default()).unwrap().unwrap();
        assert_eq!(location.path(), self.absolute.join(below));
        let manager = CgroupManager::create(&plan, Some(location), below, |_| Ok(()))?;
        manager.filter_devices(&plan).map(|()| manager)
    }

    fn create(&self, below: &str) -> Cgroup {
        match self.try_create(below, json!({})).unwrap() {
            CgroupManager::Fs(cgroup) => cgroup,
            other => panic!("{other:?}"),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.absolute.join(below)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(cgroup) = Cgroup::open(&self.absolute).unwrap() {
            cgroup.kill().unwrap();
            cgroup.remove(PATIENCE).unwrap();
        }
        assert!(!self.absolute.exists());
    }
}

/// A shell that runs `script` once it is told to, so that it can be moved into a cgroup before.
struct Shell(Child);

impl Shell {
    fn new(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read go\n{script}")]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn go(mut self) -> Output {
        self.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.0.wait_with_output().unwrap()
    }

    /// After a kill: reaps it.
    fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

fn state_of(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap()
}

#[test]
fn a_mark_is_found_by_id_and_place_and_only_below_with_processes() {
    let place = Place::new();
    let plan = place.plan("upper/lower", json!({}));
    let location = CgroupLocation::find(&plan, &Cancel::default()).unwrap();
    let id = place.below_root.file_name().unwrap().to_str().unwrap();
    let mark = format!("{id}, created now, in 7:11");
    CgroupManager::create(&plan, location, &mark, |_| Ok(())).unwrap();
    let found = |id: &str, at: &str| -> Vec<PathBuf> {
        let found = Cgroup::find_marked(id, at).unwrap();
        found.iter().map(|cgroup| cgroup.path().to_owned()).collect()
    };
    let lower = place.path("upper/lower");
    assert_eq!(found(id, "7:11"), std::slice::from_ref(&lower));
    assert!(found(id, "7:1").is_empty() && found(id, "17:11").is_empty() && found("i", "7:11").is_empty());
    let as_in_the_record = Identity::Marked(format!("{id}, created now"));
    let cgroup = Cgroup::open_own(&lower, &as_in_the_record).unwrap().unwrap();
    assert!(cgroup.is_marked_for(id).unwrap() && !cgroup.is_marked_for("i").unwrap());
    let upper = Cgroup::open(&place.path("upper")).unwrap().unwrap();
    assert!(upper.containers_below().unwrap().is_empty());
    let shell = Shell::new("true");
    cgroup.add_process(shell.pid()).unwrap();
    let marked = upper.containers_below().unwrap();
    let [only] = &marked[..] else { panic!("{marked:?}") };
    assert_eq!((&only.path, &only.mark.text), (&lower, &mark));
    assert_eq!(only.inode, cgroup.inode().unwrap());
    cgroup.kill().unwrap();
    shell.wait();
}

#[test]
fn a_spared_cgroup_outlives_all_around_it() {
    let place = Place::new();
    // By hand: the runtime hands controllers down, and then those above may have no processes.
    let [top, beside, spared] = ["top", "top/a/beside", "top/a/spared"].map(|below| {
        std::fs::create_dir_all(place.path(below)).unwrap();
        Cgroup::open(&place.path(below)).unwrap().unwrap()
    });
    let [above, dies, lives] = [&top, &beside, &spared].map(|cgroup| {
        let shell = Shell::new("exit 7");
        cgroup.add_process(shell.pid()).unwrap();
        shell
    });
    let left = top.kill_around(&[spared.path().to_owned()]).unwrap();
    let paths: Vec<&Path> = left.iter().map(Cgroup::path).collect();
    assert_eq!(paths, [place.path("top"), place.path("top/a")]);
    assert_eq!(left[0].own_processes().unwrap(), [above.pid()]);
    dies.wait();
    assert!(!beside.is_populated().unwrap());
    assert_eq!(lives.go().status.code(), Some(7));
    assert_eq!(above.go().status.code(), Some(7));
}

#[test]
fn only_the_cgroup_that_the_state_means_is_opened() {
    let place = Place::new();
    let cgroup = place.create("box");
    let path = place.path("box");
    let inode = Identity::Inode(cgroup.inode().unwrap());
    let is_open = |identity: &Identity| Cgroup::open_own(&path, identity).unwrap().is_some();
    // The helper marks it with its name.
    let [ours, theirs] = ["box", "other"].map(|mark| Identity::Marked(mark.into()));
    assert!(is_open(&inode) && is_open(&ours) && is_open(&Identity::PathOnly));
    assert!(!is_open(&theirs));
    std::fs::remove_dir(&path).unwrap();
    assert!(!is_open(&inode) && !is_open(&Identity::PathOnly));
    // Made by somebody else, or just not marked yet: without processes it may be removed, with them never
    // killed.
    std::fs::create_dir(&path).unwrap();
    assert!(!is_open(&inode));
    assert!(is_open(&ours) && is_open(&theirs) && is_open(&Identity::PathOnly));
    let shell = Shell::new("true");
    Cgroup::open(&path)
        .unwrap()
        .unwrap()
        .add_process(shell.pid())
        .unwrap();
    assert!(!is_open(&ours));
    shell.go();
}

#[test]
fn a_cgroup_left_by_a_container_gives_way_and_a_prepared_one_does_not() {
    let place = Place::new();
    let left = place.create("left").inode().unwrap();
    assert_ne!(place.create("left").inode().unwrap(), left);
    let path = place.path("prepared");
    std::fs::create_dir(&path).unwrap();
    let prepared = Cgroup::open(&path).unwrap().unwrap().inode().unwrap();
    assert_eq!(place.create("prepared").inode().unwrap(), prepared);
    assert_ne!(place.create("prepared").inode().unwrap(), prepared);
}

#[test]
fn a_cgroup_is_made_with_its_parents_and_removed_alone() {
    let place = Place::new();
    let cgroup = place.create("pod/box");
    assert_eq!(cgroup.path(), place.path("pod/box"));
    assert!(!cgroup.is_populated().unwrap());
    let again = Cgroup::open(cgroup.path()).unwrap().unwrap();
    again.remove(PATIENCE).unwrap();
    assert!(!place.path("pod/box").exists());
    assert!(
        place.path("pod").exists(),
        "as with runc, only the container's own cgroup goes"
    );
    again.remove(PATIENCE).unwrap();
    again.kill().unwrap();
    assert_eq!(again.processes().unwrap(), []);
    assert!(!again.is_populated().unwrap());
    assert!(Cgroup::open(&place.path("pod/box")).unwrap().is_none());
}

#[test]
fn a_process_is_placed_found_killed_and_waited_for() {
    let place = Place::new();
    let cgroup = place.create("box");
    let shell = Shell::new("");
    cgroup.add_process(shell.pid()).unwrap();
    assert!(state_of(shell.pid()).contains("/box\n"));
    assert_eq!(cgroup.processes().unwrap(), [shell.pid()]);
    assert!(cgroup.is_populated().unwrap());
    assert_eq!(Cgroup::of_process(shell.pid()).unwrap().path(), cgroup.path());

    let busy = cgroup.remove(Duration::from_millis(30)).unwrap_err();
    assert_eq!(busy.errno(), Some(rustix::io::Errno::BUSY));
    assert!(
        busy.to_string().ends_with("(1 process(es) are still in it)"),
        "{busy}"
    );

    cgroup.kill().unwrap();
    cgroup.remove(PATIENCE).unwrap(); // not reaped yet: a dead process does not hold a cgroup
    shell.wait();
    assert!(!cgroup.path().exists());
}

#[test]
fn a_cgroup_in_use_is_refused() {
    let place = Place::new();
    place.create("box");
    let cgroup = place.create("box"); // empty: taken over
    let sub = place.create("box/sub");
    let shell = Shell::new("");
    sub.add_process(shell.pid()).unwrap();
    let error = place.try_create("box", json!({})).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("container's cgroup is not empty: 1 process(es) found"),
        "{error}"
    );
    cgroup.kill().unwrap();
    shell.wait();

    cgroup.freeze().unwrap();
    for below in ["box", "box/below"] {
        let error = place.try_create(below, json!({})).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("container's cgroup unexpectedly frozen"),
            "{error}"
        );
    }
    assert!(!place.path("box/below").exists(), "made for nothing, so removed");
}

#[test]
fn frozen_processes_stand_still_and_can_be_killed() {
    let place = Place::new();
    let cgroup = place.create("box");
    let shell = Shell::new("echo ran");
    cgroup.add_process(shell.pid()).unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap() && cgroup.is_effectively_frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    assert_eq!(shell.go().stdout, b"ran\n");

    let shell = Shell::new("");
    cgroup.add_process(shell.pid()).unwrap();
    cgroup.freeze().unwrap();
    cgroup.kill().unwrap();
    shell.wait();
    cgroup.remove(PATIENCE).unwrap();
}

#[test]
fn what_the_container_made_is_listed_and_removed() {
    let place = Place::new();
    let cgroup = place.create("box");
    let odd = place.path("box").join("-rf $(x) \u{fffd}");
    let mut deep = odd.clone();
    for _ in 0..60 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir_all(odd.join("e/f")).unwrap();
    let (first, second) = (Shell::new(""), Shell::new(""));
    Cgroup::open(&deep)
        .unwrap()
        .unwrap()
        .add_process(first.pid())
        .unwrap();
    cgroup.add_process(second.pid()).unwrap();
    assert_eq!(cgroup.processes().unwrap().len(), 2);
    assert!(cgroup.remove(Duration::ZERO).is_err());
    assert!(
        deep.exists() && !odd.join("e").exists(),
        "empty ones go, the others stay"
    );

    let sub = cgroup.sub(Path::new("/d/../-rf $(x) \u{fffd}/./")).unwrap();
    assert_eq!(sub.path(), odd);
    assert!(cgroup.sub(Path::new("absent")).is_err());
    assert!(cgroup.sub(Path::new("/")).unwrap().processes().unwrap().len() == 2);
    let error = cgroup.sub(Path::new("../box")).unwrap_err();
    assert!(
        error.to_string().contains("leads out of the container's cgroup"),
        "{error}"
    );

    cgroup.kill().unwrap();
    cgroup.remove(PATIENCE).unwrap();
    first.wait();
    second.wait();
    assert!(!cgroup.path().exists());
}

#[test]
fn threaded_sub_cgroups_are_no_obstacle() {
    let place = Place::new();
    let cgroup = place.create("box");
    let shell = Shell::new("");
    cgroup.add_process(shell.pid()).unwrap();
    let threaded = place.path("box/threads");
    std::fs::create_dir(&threaded).unwrap();
    std::fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    let thread = shell.pid().as_raw_nonzero().to_string();
    std::fs::write(threaded.join("cgroup.threads"), thread).unwrap();
    assert!(std::fs::read(threaded.join("cgroup.procs")).is_err());
    assert_eq!(cgroup.processes().unwrap(), [shell.pid()]);
    assert_eq!(
        Cgroup::open(&threaded).unwrap().unwrap().processes().unwrap(),
        [shell.pid()]
    );
    cgroup.kill().unwrap();
    shell.wait();
    cgroup.remove(PATIENCE).unwrap();
}

#[test]
fn removal_waits_for_processes_that_die_later() {
    let place = Place::new();
    let cgroup = place.create("box");
    let shell = Shell::new("");
    cgroup.add_process(shell.pid()).unwrap();
    let pid = shell.pid();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(120));
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    let begin = Instant::now();
    cgroup.remove(PATIENCE).unwrap();
    let took = begin.elapsed();
    killer.join().unwrap();
    shell.wait();
    assert!(
        took >= Duration::from_millis(100) && took < Duration::from_secs(2),
        "{took:?}"
    );
}

/// Runs a script in a cgroup with these device rules.
fn with_devices(rules: Value, script: &str) -> Output {
    let place = Place::new();
    let CgroupManager::Fs(cgroup) = place.try_create("box", json!({"devices": rules})).unwrap() else {
        panic!("no cgroup");
    };
    assert_eq!(bpf::count_attached(cgroup.dir()), 1);
    let shell = Shell::new(script);
    cgroup.add_process(shell.pid()).unwrap();
    shell.go()
}

#[test]
fn the_device_filter_denies_what_is_not_allowed() {
    let node = std::env::temp_dir().join(format!("onggi-test-node-{}", std::process::id()));
    let node = node.display();
    // 1:11 is /dev/kmsg, which any kernel has.
    let script = format!(
        "set -e; : </dev/null; : >/dev/zero; rm -f {node}; mknod {node} c 1 11; trap 'rm -f {node}' EXIT; : <{node}"
    );
    let everything_denied = json!({"allow": false, "access": "rwm"});
    let output = with_devices(json!([everything_denied]), &script);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("Operation not permitted"),
        "{text}"
    );

    let allowed = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"});
    let output = with_devices(
        json!([everything_denied, allowed]),
        &format!("{script}; : >{node} || exit 7"),
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("Operation not permitted"), "{text}");
    assert_ne!(output.status.code(), Some(0));
    let output = with_devices(json!([everything_denied, allowed]), &script);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_new_filter_takes_the_place_of_all_old_ones() {
    let place = Place::new();
    let cgroup = place.create("box");
    let strict = compile_devices(&[]).unwrap();
    // As another program would leave it: two filters, both of which must allow.
    bpf::DeviceProgram::load(&strict)
        .unwrap()
        .attach(cgroup.dir())
        .unwrap();
    assert_eq!(bpf::count_attached(cgroup.dir()), 2);
    let everything: LinuxDeviceCgroup =
        serde_json::from_value(json!({"allow": true, "access": "rwm"})).unwrap();
    let reopened = Cgroup::open(cgroup.path()).unwrap().unwrap();
    reopened
        .set_device_filter(&compile_devices(&[everything]).unwrap())
        .unwrap();
    assert_eq!(bpf::count_attached(cgroup.dir()), 1);
    let shell = Shell::new(": </dev/kmsg");
    cgroup.add_process(shell.pid()).unwrap();
    assert!(shell.go().status.success());
    reopened.set_device_filter(&strict).unwrap();
    assert_eq!(bpf::count_attached(cgroup.dir()), 1);
    let shell = Shell::new(": </dev/kmsg");
    cgroup.add_process(shell.pid()).unwrap();
    assert!(!shell.go().status.success());
}

#[test]
fn the_verifier_takes_long_lists_and_its_refusal_is_shown() {
    let mut rules = Vec::new();
    for number in 0..1000_i64 {
        let (allow, access) = [(true, "r"), (false, "w"), (true, "wm"), (false, "rm")][number as usize % 4];
        let major = [Value::Null, json!(number / 3)][number as usize % 2].clone();
        rules.push(
            json!({"allow": allow, "type": "b", "major": major, "minor": number % 7, "access": access}),
        );
    }
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(Value::Array(rules)).unwrap();
    bpf::DeviceProgram::load(&compile_devices(&rules).unwrap()).unwrap();

    let mut endless = compile_devices(&[]).unwrap();
    endless.truncate(20);
    let text = bpf::DeviceProgram::load(&endless).unwrap_err().to_string();
    assert!(
        text.starts_with("load the device filter: linux.resources.devices: bpf(BPF_PROG_LOAD): "),
        "{text}"
    );
    assert!(text.contains("verifier: "), "{text}");
}

#[test]
fn limits_are_written_and_missing_controllers_are_named() {
    let place = Place::new();
    let root = CgroupRoot::find().unwrap();
    let controllers = String::from_utf8(files::read_file(root.dir(), "cgroup.controllers").unwrap()).unwrap();
    let has = |name| {
        controllers
            .split_whitespace()
            .any(|controller| controller == name)
    };
    // Every cgroup has this file, so it can be written on any host.
    let CgroupManager::Fs(cgroup) = place
        .try_create("core", json!({"unified": {"cgroup.max.depth": "7"}}))
        .unwrap()
    else {
        panic!("no cgroup");
    };
    assert_eq!(
        std::fs::read_to_string(place.path("core/cgroup.max.depth")).unwrap(),
        "7\n"
    );
    assert_eq!(
        String::from_utf8(files::read_file(cgroup.dir(), "cgroup.controllers").unwrap()).unwrap(),
        controllers,
        "engines read the statistics of all"
    );

    for (name, limit, field) in [
        (
            "memory",
            json!({"memory": {"limit": 1 << 30}}),
            "linux.resources.memory.limit",
        ),
        (
            "pids",
            json!({"pids": {"limit": 100}}),
            "linux.resources.pids.limit",
        ),
        (
            "hugetlb",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
            "linux.resources.hugepageLimits[0]",
        ),
    ] {
        let below = format!("a/{name}/b");
        match place.try_create(&below, limit) {
            Ok(_) => {
                assert!(has(name), "{name}");
                let enabled = std::fs::read_to_string(place.path(&below).join("cgroup.controllers")).unwrap();
                assert_eq!(enabled.trim(), name, "this one and no other");
            }
            Err(error) => {
                assert!(!has(name), "{error}");
                assert_eq!(
                    (error.kind(), error.field()),
                    (ErrorKind::Unsupported, Some(field))
                );
                assert!(
                    error
                        .to_string()
                        .contains(&format!("controller \"{name}\" not available")),
                    "{error}"
                );
                assert!(!place.path(&below).exists());
            }
        }
    }
    let error = place
        .try_create("x", json!({"unified": {"cgroup.nonsense": "1"}}))
        .unwrap_err();
    assert!(
        error.to_string().contains("this kernel has no cgroup.nonsense"),
        "{error}"
    );
    let error = place
        .try_create("x", json!({"unified": {"cgroup.max.depth": "many"}}))
        .unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::INVAL));
    assert!(error.to_string().ends_with("(the value was \"many\")"), "{error}");
    assert!(!place.path("x").exists());
}

#[test]
fn a_parent_with_processes_cannot_hand_controllers_down() {
    let place = Place::new();
    let parent = place.create("");
    let shell = Shell::new("");
    parent.add_process(shell.pid()).unwrap();
    let limit = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    let error = place.try_create("box", limit).unwrap_err();
    assert_eq!(
        (error.errno(), error.field()),
        (Some(rustix::io::Errno::BUSY), Some("linux.cgroupsPath"))
    );
    assert!(error.to_string().contains("has processes of its own"), "{error}");
    assert!(!place.path("box").exists());

    let mut plan = place.plan("box", json!({}));
    plan.controllers = Controllers::Every; // wanted, not needed
    let manager = CgroupManager::create(
        &plan,
        CgroupLocation::find(&plan, &Cancel::default()).unwrap(),
        "mark",
        |_| Ok(()),
    )
    .unwrap();
    manager.remove(PATIENCE).unwrap();
    parent.kill().unwrap();
    shell.wait();
}

#[test]
fn only_what_is_needed_can_be_asked_for() {
    let place = Place::new();
    let mut plan = place.plan("a/box", json!({}));
    plan.controllers = Controllers::Needed;
    CgroupManager::create(
        &plan,
        CgroupLocation::find(&plan, &Cancel::default()).unwrap(),
        "mark",
        |_| Ok(()),
    )
    .unwrap();
    assert_eq!(
        std::fs::read(place.path("a/box/cgroup.controllers")).unwrap(),
        b""
    );
}

#[test]
fn in_a_threaded_subtree_the_cgroup_is_threaded_too() {
    let place = Place::new();
    let parent = place.create("");
    let threads = place.path("threads");
    std::fs::create_dir(&threads).unwrap();
    std::fs::write(threads.join("cgroup.type"), "threaded").unwrap();
    assert_eq!(
        std::fs::read(place.path("cgroup.type")).unwrap(),
        b"domain threaded\n"
    );

    let shell = Shell::new("");
    place.create("box").add_process(shell.pid()).unwrap();
    assert_eq!(
        std::fs::read(place.path("box/cgroup.type")).unwrap(),
        b"threaded\n"
    );
    parent.kill().unwrap();
    shell.wait();

    let limit = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    let error = place.try_create("other", limit).unwrap_err();
    assert_eq!(error.field(), Some("linux.cgroupsPath"), "{error}");
    assert!(!place.path("other").exists());
}

#[test]
fn a_delegated_cgroup_belongs_to_the_user() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let cgroup = place.create("box");
    cgroup.delegate(rustix::fs::Uid::from_raw(1234)).unwrap();
    let owner = |file: &str| std::fs::metadata(cgroup.path().join(file)).unwrap().uid();
    assert_eq!(
        [owner("."), owner("cgroup.procs"), owner("cgroup.subtree_control")],
        [1234; 3]
    );
    assert_eq!(owner("cgroup.freeze"), 0);
}

#[test]
fn drivers_are_kept_by_name_and_systemd_wants_units() {
    for (driver, text) in [
        (CgroupDriver::Fs, "\"cgroupfs\""),
        (CgroupDriver::Systemd, "\"systemd\""),
        (CgroupDriver::Disabled, "\"disabled\""),
    ] {
        assert_eq!(serde_json::to_string(&driver).unwrap(), text);
        assert_eq!(serde_json::from_str::<CgroupDriver>(text).unwrap(), driver);
    }
    let plan = plan_of(CgroupDriver::Systemd, None, json!({})).unwrap();
    assert!(matches!(plan.path, CgroupPath::Unit(_)));
    let error = plan_of(CgroupDriver::Systemd, Some("/not/a/unit"), json!({})).unwrap_err();
    assert_eq!(error.field(), Some("linux.cgroupsPath"));
    assert!(CgroupManager::open(CgroupDriver::Systemd, Some(Path::new("/x")), &Identity::PathOnly).is_err());
}

#[test]
fn without_a_driver_there_is_nothing_to_do_and_nothing_to_limit() {
    let plan = plan_of(CgroupDriver::Disabled, None, json!({})).unwrap();
    let location = CgroupLocation::find(&plan, &Cancel::default()).unwrap();
    assert!(location.is_none());
    let manager = CgroupManager::create(&plan, location, "mark", |_| Ok(())).unwrap();
    assert!(manager.cgroup().is_none() && manager.driver() == CgroupDriver::Disabled);
    manager.remove(Duration::ZERO).unwrap();
    let limit = json!({"memory": {"limit": 5}});
    let error = plan_of(CgroupDriver::Disabled, None, limit.clone()).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (ErrorKind::Unsupported, Some("linux.resources.memory.limit"))
    );
    assert!(manager.update(&resource_plan(limit), || Ok(())).is_err());
}

/// A directory with some of the files of a cgroup whose controllers this host may not have.
struct Imitation(Cgroup);

impl Imitation {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("onggi-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        let dir = std::fs::File::open(&path).unwrap();
        Self(Cgroup::new(path, dir.into(), false))
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.path().join(file)).unwrap()
    }
}

impl Drop for Imitation {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.path()).unwrap();
    }
}

fn plan_of(driver: CgroupDriver, path: Option<&str>, resources: Value) -> Result<CgroupPlan> {
    let mut linux = json!({"resources": resources});
    if let Some(path) = path {
        linux["cgroupsPath"] = path.into();
    }
    let config = spec::parse(
        json!({"ociVersion": "1.0.0", "linux": linux})
            .to_string()
            .into_bytes(),
    )?;
    let caller = CallerOptions {
        cgroup_driver: driver,
        ..CallerOptions::default()
    };
    CgroupPlan::new(&config, "id", caller)
}

fn resource_plan(resources: Value) -> ResourcePlan {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    ResourcePlan::new(&resources, None).unwrap()
}

#[test]
fn files_that_may_be_missing_are_passed_over_or_replaced() {
    let plan = resource_plan(json!({
        "memory": {"limit": 5, "swap": 5},
        "blockIO": {"weight": 1000},
        "unified": {"memory.max": "9", "memory.high": ""},
    }));
    let cgroup = Imitation::new(
        "replaced",
        &[
            ("memory.max", ""),
            ("io.weight", ""),
            ("cgroup.controllers", "io"),
        ],
    );
    apply::apply(&cgroup.0, &plan.writes).unwrap();
    assert_eq!(
        (
            cgroup.read("memory.max").as_str(),
            cgroup.read("io.weight").as_str()
        ),
        ("9", "10000")
    );

    let error = apply::apply(&cgroup.0, &resource_plan(json!({"cpu": {"shares": 5}})).writes).unwrap_err();
    assert_eq!(error.field(), Some("linux.resources.cpu.shares"));
    assert!(
        error.to_string().contains("controller \"cpu\" not available"),
        "{error}"
    );
    let latency = resource_plan(json!({"unified": {"io.latency": "8:0 target=1"}}));
    let error = apply::apply(&cgroup.0, &latency.writes).unwrap_err();
    assert!(
        error.to_string().contains("this kernel has no io.latency"),
        "{error}"
    );
}

#[test]
fn an_update_below_the_usage_is_refused_if_asked() {
    let files = [
        ("memory.current", "1000\n"),
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
    ];
    let cgroup = Imitation::new("usage", &files);
    for (limit, refused) in [(999, true), (1000, true), (1001, false)] {
        let plan = resource_plan(json!({"memory": {"limit": limit, "checkBeforeUpdate": true}}));
        let result = apply::check_usage(&cgroup.0, &plan.above_usage);
        assert_eq!(result.is_err(), refused, "{limit}");
    }
    let plan = resource_plan(json!({"memory": {"limit": 5}}));
    apply::check_usage(&cgroup.0, &plan.above_usage).unwrap();
    let plan = resource_plan(json!({"memory": {"limit": 500, "swap": 900, "checkBeforeUpdate": true}}));
    let error = apply::check_usage(&cgroup.0, &plan.above_usage).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linux.resources.memory.swap: rejecting memory+swap limit 900 <= usage 1000"
    );
}

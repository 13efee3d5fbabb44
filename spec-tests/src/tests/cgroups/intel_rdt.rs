//! Runs in: SUITE. config-linux.md intelRdt. There is hardly a machine with such a CPU, so the runtime is
//! shown a made-up tree: a line of mountinfo says that resctrl is mounted on a plain directory. The files in
//! it are not the kernel's: each write takes the place of the one before, nothing is there unless it is
//! written, and a group with files in it cannot be removed before the test has emptied it.

use crate::{
    case::Case,
    need::Need,
    outcome::{Check, ensure, same},
    runner::{self, Run},
};
use serde_json::json;
use std::{fs, path::PathBuf, process::Command};

/// The kernel's own, if it has one, would be found first.
const NO_OTHER: &[Need] = &[Need::NoPath("/sys/fs/resctrl/schemata")];

tests! {
    spec/intel_rdt_group_of_its_own: NO_OTHER,
    spec/intel_rdt_class_that_is_there: NO_OTHER,
    spec/intel_rdt_default_class: NO_OTHER,
    spec/intel_rdt_wrong_class_is_refused: NO_OTHER,
    spec/intel_rdt_untouched_without_a_wish: NO_OTHER,
}

/// The made-up tree.
struct Tree(PathBuf);

impl Tree {
    /// With one class, `gold`, as the kernel would show it.
    fn new(c: &Case) -> Check<Self> {
        let tree = Self(c.dir.join("resctrl"));
        for directory in [
            "info/L3",
            "info/MB",
            "info/L3_MON",
            "mon_groups",
            "gold/mon_groups",
        ] {
            fs::create_dir_all(tree.0.join(directory))?;
        }
        for (file, text) in [
            ("schemata", "L3:0=fff\nMB:0=100\n"),
            ("tasks", ""),
            ("gold/schemata", "L3:0=ff\nMB:0=50\n"),
            ("gold/tasks", ""),
            ("info/last_cmd_status", "ok\n"),
            ("info/L3/cbm_mask", "fff\n"),
        ] {
            fs::write(tree.0.join(file), text)?;
        }
        Ok(tree)
    }

    fn file(&self, path: &str) -> Check<String> {
        Ok(fs::read_to_string(self.0.join(path))?.trim().to_owned())
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    /// What the kernel does for rmdir(2) of a group.
    fn empty(&self, path: &str) -> Check {
        for file in ["tasks", "schemata"] {
            let file = self.0.join(path).join(file);
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// Runs the runtime where resctrl seems to be mounted on the tree. What it reads of its mounts otherwise
    /// is true.
    fn run(&self, c: &Case, words: &[std::ffi::OsString]) -> Check<Run> {
        const SCRIPT: &str = "{ cat /proc/self/mountinfo; \
             echo \"999999 1 0:999 / $0 rw,relatime - resctrl resctrl rw\"; } > \"$1\" && \
             mount --bind \"$1\" /proc/$$/task/$$/mountinfo && mount --bind \"$1\" /proc/$$/mountinfo && \
             shift && exec \"$@\"";
        let mut command = Command::new("/usr/bin/unshare");
        command
            .args(["-m", "--propagation", "private", "/bin/sh", "-c", SCRIPT])
            .arg(&self.0)
            .arg(c.dir.join("mountinfo"))
            .args(c.host.runtime_words())
            .arg("--root")
            .arg(&c.state_root)
            .args(words)
            .current_dir(&c.dir)
            .stdin(std::process::Stdio::null());
        runner::start(&mut command, &c.dir)?.finish()
    }

    fn create(&self, c: &Case) -> Check<Run> {
        self.run(c, &c.bundle_args("create", &[], &c.id)?)
    }
}

/// The pid of a process that exec has started in the container, and that goes on.
fn exec_detached(c: &Case) -> Check<String> {
    let file = c.dir.join("exec.pid");
    let file_text = file.to_string_lossy();
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        &file_text,
        &c.id,
        "/bin/sleep",
        "1000",
    ];
    c.rt(&words)?.ok()?;
    Ok(fs::read_to_string(file)?)
}

fn intel_rdt_group_of_its_own(c: &mut Case) -> Check {
    let tree = Tree::new(c)?;
    c.linux().intel_rdt(json!({"schemata": ["L3:0=f"]}));
    c.args(&["/bin/sleep", "1000"]);
    tree.create(c)?.ok()?;
    let group = c.id.clone();
    same(
        "schemata",
        "L3:0=f",
        tree.file(&format!("{group}/schemata"))?.as_str(),
    )?;
    let tasks = format!("{group}/tasks");
    same("tasks after create", c.pid()?.to_string(), tree.file(&tasks)?)?;
    c.rt(&["start", &c.id])?.ok()?;
    same("tasks after exec", exec_detached(c)?, tree.file(&tasks)?)?;
    tree.empty(&group)?;
    c.delete()?;
    ensure!(!tree.has(&group), "the group of the container is left");
    c.nothing_left()
}

fn intel_rdt_class_that_is_there(c: &mut Case) -> Check {
    let tree = Tree::new(c)?;
    let id = c.id.clone();
    c.linux().intel_rdt(json!({"closID": "gold", "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=50", "enableMonitoring": true}));
    c.args(&["/bin/sleep", "1000"]);
    tree.create(c)?.ok()?;
    let pid = c.pid()?.to_string();
    let monitoring = format!("gold/mon_groups/{id}");
    for group in ["gold", &monitoring] {
        let tasks = tree.file(&format!("{group}/tasks"))?;
        same(&format!("tasks of {group} after create"), &pid, &tasks)?;
    }
    c.rt(&["start", &id])?.ok()?;
    let pid = exec_detached(c)?;
    for group in ["gold", &monitoring] {
        let tasks = tree.file(&format!("{group}/tasks"))?;
        same(&format!("tasks of {group} after exec"), &pid, &tasks)?;
    }
    tree.empty(&monitoring)?;
    c.delete()?;
    ensure!(!tree.has(&monitoring), "the monitoring group is left");
    same(
        "the class",
        "L3:0=ff\nMB:0=50",
        tree.file("gold/schemata")?.as_str(),
    )
}

fn intel_rdt_default_class(c: &mut Case) -> Check {
    let tree = Tree::new(c)?;
    c.linux().intel_rdt(json!({"closID": "/"}));
    c.args(&["/bin/sleep", "1000"]);
    tree.create(c)?.ok()?;
    same("tasks", c.pid()?.to_string(), tree.file("tasks")?)?;
    c.delete()?;
    ensure!(tree.has("gold") && tree.has("schemata"), "the tree has gone");
    Ok(())
}

fn intel_rdt_wrong_class_is_refused(c: &mut Case) -> Check {
    let tree = Tree::new(c)?;
    for wish in [
        json!({"closID": "silver"}),
        json!({"closID": "gold", "l3CacheSchema": "L3:0=1"}),
        json!({"closID": "gold", "schemata": ["MB:0=10"]}),
        json!({"closID": "gold", "schemata": ["L3:0=ff\nMB:0=10"]}),
    ] {
        c.linux().intel_rdt(wish);
        tree.create(c)?.refused_with("intelRdt")?;
        c.nothing_left()?;
        ensure!(!tree.has("silver"), "a class was made");
        same("gold", "L3:0=ff\nMB:0=50", tree.file("gold/schemata")?.as_str())?;
        same("its tasks", "", tree.file("gold/tasks")?.as_str())?;
    }
    // One that cannot be made: it is asked for in a class that the kernel has given no place for them.
    fs::remove_dir(tree.0.join("gold/mon_groups"))?;
    c.linux()
        .intel_rdt(json!({"closID": "gold", "enableMonitoring": true}));
    tree.create(c)?.refused_with("mon_groups")?;
    c.nothing_left()
}

fn intel_rdt_untouched_without_a_wish(c: &mut Case) -> Check {
    let tree = Tree::new(c)?;
    let look = || -> Check<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(&tree.0)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Check<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = look()?;
    c.args(&["/bin/true"]);
    tree.run(c, &c.bundle_args("run", &[], &c.id)?)?.ok()?;
    same("the tree", before, look()?)?;
    for file in ["tasks", "gold/tasks"] {
        same(file, "", tree.file(file)?.as_str())?;
    }
    Ok(())
}

//! Runs in: RUNTIME. On a made-up tree: no machine with the real file system was there. What the kernel does
//! by itself (a new directory has `schemata` and `tasks` in it, and takes them along when it is removed) is
//! done here by hand.

use std::fs;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::*;
use crate::plan::intel_rdt;

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mon_groups")).unwrap();
        fs::create_dir(dir.path().join("info")).unwrap();
        fs::write(
            dir.path().join("schemata"),
            "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n",
        )
        .unwrap();
        Self { dir }
    }

    fn with_group(self, name: &str, schemata: &str) -> Self {
        let group = self.dir.path().join(name);
        fs::create_dir_all(group.join("mon_groups")).unwrap();
        fs::write(group.join("schemata"), schemata).unwrap();
        self
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn text(&self, below: &str) -> Option<String> {
        fs::read_to_string(self.path(below)).ok()
    }

    fn group(&self, rdt: Value) -> Result<(Group, IntelRdtPlan)> {
        let plan = plan(rdt).unwrap();
        let group = Resctrl::at(self.dir.path().to_owned()).group(&plan, "ctr")?;
        Ok((group, plan))
    }

    fn make(&self, rdt: Value) -> Group {
        let (mut group, plan) = self.group(rdt).unwrap();
        group.make(&plan).unwrap();
        group
    }

    /// The kernel's files go with their directory.
    fn forget_files(&self, group: &str) {
        for file in ["schemata", "tasks"] {
            fs::remove_file(self.path(group).join(file)).unwrap();
        }
    }

    fn refusal(&self, rdt: Value) -> String {
        let text = self.group(rdt).unwrap_err().to_string();
        text.replace(&self.dir.path().to_string_lossy().into_owned(), "RESCTRL")
    }
}

fn spec(linux: Value) -> Spec {
    let json = json!({"ociVersion": "1.3.0", "root": {"path": "r"}, "linux": linux});
    crate::spec::parse(json.to_string().into_bytes()).unwrap().spec
}

fn plan(rdt: Value) -> Option<IntelRdtPlan> {
    intel_rdt::plan(&spec(json!({"intelRdt": rdt})), "ctr")
}

#[test]
fn without_a_wish_nothing_is_looked_for() {
    assert_eq!(intel_rdt::plan(&spec(json!({})), "ctr"), None);
}

#[test]
fn the_process_is_in_tasks_of_its_group() {
    let tree = Tree::new();
    let mut group = tree.make(json!({"closID": "guaranteed", "l3CacheSchema": "L3:0=f"}));
    group.add(1234).unwrap();
    group.keep();
    drop(group);
    assert_eq!(tree.text("guaranteed/tasks").unwrap(), "1234");
    assert_eq!(tree.text("guaranteed/schemata").unwrap(), "L3:0=f\n");
    assert!(tree.text("tasks").is_none(), "the root group is left alone");
}

#[test]
fn schemata_are_written_in_order() {
    let plan = plan(json!({
        "schemata": ["L2:0=3", "L3:0=1"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f;1=f"
    }));
    assert_eq!(
        plan.unwrap().writes,
        ["L3:0=f;1=f\nMB:0=20\n", "L2:0=3\nL3:0=1\n"]
    );
    let tree = Tree::new();
    let _group = tree.make(json!({"memBwSchema": "MB:0=20", "schemata": ["MB:0=30"]}));
    assert_eq!(
        tree.text("ctr/schemata").unwrap(),
        "MB:0=30\n",
        "the list has the last word"
    );
}

#[test]
fn lines_of_memory_bandwidth_in_l3_give_way() {
    let plan = plan(json!({"l3CacheSchema": "L3:0=f\nMB:0=90\n", "memBwSchema": "MB:0=20"}));
    assert_eq!(plan.unwrap().writes, ["L3:0=f\nMB:0=20\n"]);
}

#[test]
fn the_id_is_the_group_without_a_clos() {
    let tree = Tree::new();
    let group = tree.make(json!({}));
    assert_eq!((group.path.clone(), group.is_new), (tree.path("ctr"), true));
    drop(group);
    assert!(!tree.path("ctr").exists(), "dropped without having been kept");
    let tree = tree.with_group("ctr", "");
    assert_eq!(
        tree.refusal(json!({})),
        "linux.intelRdt.closID (RESCTRL/ctr): there is a group of the container's name already"
    );
}

#[test]
fn the_root_group_is_joined_and_never_removed() {
    let tree = Tree::new();
    let group = tree.make(json!({"closID": "/"}));
    group.add(7).unwrap();
    assert_eq!(tree.text("tasks").unwrap(), "7");
    assert!(!group.is_new);
    drop(group);
    assert!(tree.path("schemata").exists());
}

#[test]
fn an_existing_group_is_only_joined() {
    let tree = Tree::new().with_group("shared", "L3:0=7ff");
    let group = tree.make(json!({"closID": "shared"}));
    group.add(7).unwrap();
    assert!(!group.is_new);
    assert_eq!(tree.text("shared/schemata").unwrap(), "L3:0=7ff");
    drop(group);
    assert_eq!(tree.text("shared/tasks").unwrap(), "7");
}

#[test]
fn a_group_with_other_schemata_is_refused() {
    let tree = Tree::new().with_group("shared", "    MB:0=100\n    L3:0=07F0;1=1f\n");
    tree.make(json!({"closID": "shared", "l3CacheSchema": "L3:0=7f0", "memBwSchema": "MB:0=100"}));
    assert_eq!(
        tree.refusal(json!({"closID": "shared", "schemata": ["L3:0=7f0;1=f"]})),
        "linux.intelRdt (RESCTRL/shared/schemata): the group exists, and has not L3:1=f"
    );
    assert_eq!(
        tree.refusal(json!({"closID": "shared", "schemata": ["L2:0=1"]})),
        "linux.intelRdt (RESCTRL/shared/schemata): the group exists, and has not L2:0=1"
    );
}

#[test]
fn a_group_that_is_missing_is_refused() {
    assert_eq!(
        Tree::new().refusal(json!({"closID": "nobody"})),
        "linux.intelRdt.closID (RESCTRL/nobody): there is no such group, and no schemata to make one with"
    );
}

#[test]
fn monitoring_has_a_group_of_its_own() {
    let tree = Tree::new().with_group("shared", "");
    let mut group = tree.make(json!({"closID": "shared", "enableMonitoring": true}));
    group.add(7).unwrap();
    group.keep();
    assert_eq!(tree.text("shared/mon_groups/ctr/tasks").unwrap(), "7");
    let monitoring = group.monitoring.clone().unwrap();
    fs::remove_file(monitoring.join("tasks")).unwrap();
    remove(None, Some(&monitoring)).unwrap();
    assert!(!monitoring.exists() && tree.path("shared").exists());
    remove(None, Some(&monitoring)).unwrap();
}

#[test]
fn a_monitoring_group_that_cannot_be_made_is_an_error() {
    let tree = Tree::new().with_group("shared", "");
    // As when there are no more monitoring ids: mkdir fails.
    fs::remove_dir(tree.path("shared/mon_groups")).unwrap();
    let (mut group, plan) = tree
        .group(json!({"closID": "shared", "enableMonitoring": true}))
        .unwrap();
    let error = group.make(&plan).unwrap_err();
    assert_eq!(error.field(), Some("linux.intelRdt"));
}

#[test]
fn an_update_writes_what_it_names() {
    let tree = Tree::new().with_group("shared", "L3:0=f\nMB:0=10\n");
    let text = intel_rdt::update(Some("L3:0=3\nMB:0=5\n"), Some("MB:0=20")).unwrap();
    assert_eq!(text, "L3:0=3\nMB:0=20\n");
    write_schemata(&tree.path("shared"), &text).unwrap();
    assert_eq!(tree.text("shared/schemata").unwrap(), text);
    assert!(write_schemata(&tree.path("missing"), &text).is_err());
    for wrong in ["L3:0=1", "MB:0=1\nL3:0=1", ""] {
        let error = intel_rdt::update(None, Some(wrong)).unwrap_err();
        assert_eq!(error.field(), Some("linux.intelRdt.memBwSchema"), "{wrong:?}");
    }
}

#[test]
fn a_group_that_was_made_is_removed_with_the_container() {
    let tree = Tree::new();
    let mut group = tree.make(json!({"schemata": ["L3:0=f"]}));
    group.add(7).unwrap();
    group.keep();
    let path = group.path.clone();
    drop(group);
    assert!(path.exists());
    tree.forget_files("ctr");
    remove(Some(&path), None).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_host_without_resctrl_is_told_so() {
    if let Err(error) = Resctrl::find() {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(
            text.starts_with("linux.intelRdt: no resctrl file system is mounted ("),
            "{text}"
        );
    }
}

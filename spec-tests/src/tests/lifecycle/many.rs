//! Many containers alive at once: all of them are known, none of the runtime's processes stays with them, and
//! there is room for one more. How long it takes is measured by `benches`, not here.

use crate::{
    case::Case,
    outcome::{Check, ensure, same},
};
use std::{collections::BTreeSet, fs};

tests! {
    "many/500_containers_alive" => alive,
}

const NUMBER: usize = 500;

fn id(c: &Case, number: usize) -> String {
    format!("{}-{number}", c.id)
}

fn start(c: &mut Case, number: usize) -> Check {
    c.set_cgroup_leaf(&number.to_string());
    let id = id(c, number);
    c.rt(&c.bundle_args("run", &["--detach"], &id)?)?.ok()?;
    Ok(())
}

fn alive(c: &mut Case) -> Check {
    c.args(&["/bin/sleep", "10000"]);
    // The kernel takes network namespaces away one after the other, which is no matter of the runtime's.
    c.drop_namespace("network");
    for number in 0..NUMBER {
        start(c, number)?;
    }
    let wish: BTreeSet<String> = (0..NUMBER).map(|number| id(c, number)).collect();
    let list = c.rt(&["list", "--format", "json"])?.ok()?.json()?;
    let running = list.as_array().into_iter().flatten();
    let running: BTreeSet<String> = running
        .filter(|entry| entry["status"] == "running")
        .filter_map(|entry| entry["id"].as_str().map(str::to_owned))
        .collect();
    ensure!(
        running == wish,
        "list: {} of {NUMBER} running, others: {:?}",
        running.len(),
        running.symmetric_difference(&wish).take(5).collect::<Vec<_>>()
    );
    same(
        "processes of the runtime",
        Vec::<String>::new(),
        processes_of_the_runtime(c),
    )?;
    for number in [0, NUMBER / 2, NUMBER - 1] {
        let id = id(c, number);
        let pids = c.rt(&["ps", "--format", "json", &id])?.ok()?.json()?;
        same("ps", serde_json::json!([c.state_of(&id)?["pid"]]), pids)?;
    }
    start(c, NUMBER)?;
    c.rt(&["exec", &id(c, NUMBER), "/bin/true"])?.ok()?;
    for number in 0..=NUMBER {
        c.rt(&["delete", "--force", &id(c, number)])?.ok()?;
    }
    let list = c.rt(&["list", "--quiet"])?.ok()?;
    same("list", "", list.stdout.trim())?;
    c.nothing_left()
}

/// Those that have this test's state root on their command line: a monitor, a shim, a forgotten child.
fn processes_of_the_runtime(c: &Case) -> Vec<String> {
    let root = c.state_root.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let commands = processes.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    commands
        .map(|command| String::from_utf8_lossy(&command).replace('\0', " "))
        .filter(|command| command.contains(&root))
        .collect()
}

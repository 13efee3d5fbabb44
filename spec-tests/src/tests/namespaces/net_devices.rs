//! Runs in: SUITE. `linux.netDevices`: devices of the host that move into the container. Each test has a
//! network namespace of its own with a pair of veth devices in it; those of the host are never touched.

use super::{Network, in_own_network, ip};
use crate::{
    case::Case,
    config::Hook,
    outcome::{Check, contains, ensure, same},
};
use serde_json::{Value, json};

tests! {
    net_devices/moved_and_up => |c| in_own_network(c, moved),
    net_devices/renamed => |c| in_own_network(c, renamed),
    net_devices/template_of_a_name => |c| in_own_network(c, template),
    net_devices/several => |c| in_own_network(c, several),
    net_devices/addresses_go_along => |c| in_own_network(c, addresses),
    net_devices/attributes_go_along => |c| { in_own_network(c, attributes) },
    net_devices/other_addresses_stay => |c| { in_own_network(c, other_addresses) },
    net_devices/into_a_joined_namespace => |c| { in_own_network(c, joined) },
    net_devices/not_moved_back => |c| { in_own_network(c, not_moved_back) },
    net_devices/with_a_user_namespace => |c| { in_own_network(c, user_namespace) },
    net_devices/there_for_hooks => |c| in_own_network(c, hooks),
    net_devices/number_that_is_taken => |c| { in_own_network(c, number_taken) },
    net_devices/name_that_is_taken => |c| { in_own_network(c, name_taken) },
    net_devices/loopback_stays => |c| in_own_network(c, loopback),
    net_devices/host_network_refused => |c| { in_own_network(c, host_network) },
    net_devices/own_network_by_path_refused => |c| { in_own_network(c, own_network_by_path) },
    net_devices/hostile_names_refused => |c| { in_own_network(c, hostile_names) },
    net_devices/missing_one_moves_none => |c| { in_own_network(c, missing) },
}

/// The devices in the network namespace of this thread.
fn devices_here() -> Check<Vec<String>> {
    Ok(names(&std::fs::read_to_string("/proc/thread-self/net/dev")?))
}

fn names(net_dev: &str) -> Vec<String> {
    let mut names: Vec<String> = net_dev
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    names.sort_unstable();
    names
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn wish(c: &mut Case, devices: Value) {
    c.linux().net_devices(devices);
}

/// What `ip` says in the container.
fn ip_inside(c: &mut Case, words: &str) -> Check<String> {
    c.sh(&format!("/bin/busybox ip {words}"))
}

fn devices_inside(c: &mut Case) -> Check<Vec<String>> {
    Ok(names(&c.sh("cat /proc/net/dev")?))
}

fn moved(c: &mut Case) -> Check {
    wish(c, json!({"veth0": {}}));
    let text = ip_inside(c, "-o link show veth0")?;
    contains("flags of veth0 in the container", &text, ",UP")
}

fn renamed(c: &mut Case) -> Check {
    wish(c, json!({"veth0": {"name": "inside0"}}));
    same(
        "devices in the container",
        list(&["inside0", "lo"]),
        devices_inside(c)?,
    )
}

fn template(c: &mut Case) -> Check {
    wish(c, json!({"veth0": {"name": "net%d"}, "veth1": {"name": "net%d"}}));
    same(
        "devices in the container",
        list(&["lo", "net0", "net1"]),
        devices_inside(c)?,
    )
}

fn several(c: &mut Case) -> Check {
    // Each gets the name of the other.
    wish(c, json!({"veth0": {"name": "veth1"}, "veth1": {"name": "veth0"}}));
    ip(c, "link set veth0 address 02:00:00:00:00:10")?;
    c.shell("/bin/busybox ip -o link; cat /proc/net/dev");
    let text = c.run()?.ok()?.stdout;
    let line = text
        .lines()
        .find(|line| line.contains("02:00:00:00:00:10"))
        .unwrap_or_default();
    contains("the line of what was veth0", line, "veth1")?;
    same(
        "state of the devices",
        2,
        text.matches(",UP").count().saturating_sub(1),
    )
}

fn addresses(c: &mut Case) -> Check {
    ip(c, "addr add 192.0.2.7/24 brd 192.0.2.255 dev veth0")?;
    ip(c, "addr add 198.51.100.1/32 dev veth0")?;
    ip(c, "-6 addr add 2001:db8::7/64 dev veth0")?;
    ip(c, "link set veth0 up")?;
    wish(c, json!({"veth0": {"name": "eth0"}}));
    let text = ip_inside(c, "-o addr show eth0")?;
    contains(
        "addresses",
        &text,
        "192.0.2.7/24 brd 192.0.2.255 scope global eth0",
    )?;
    contains("addresses", &text, "198.51.100.1/32 scope global eth0")?;
    contains("addresses", &text, "2001:db8::7/64 scope global")
}

fn attributes(c: &mut Case) -> Check {
    ip(c, "link set veth0 address 02:00:00:00:00:11")?;
    ip(c, "link set veth0 mtu 1400")?;
    wish(c, json!({"veth0": {"name": "eth0"}}));
    let text = ip_inside(c, "-o link show eth0")?;
    for part in ["02:00:00:00:00:11", "mtu 1400"] {
        contains("attributes", &text, part)?;
    }
    Ok(())
}

fn other_addresses(c: &mut Case) -> Check {
    ip(c, "addr add 203.0.113.8/24 scope link dev veth0")?;
    ip(c, "addr add 192.0.2.9/24 dev veth0")?;
    wish(c, json!({"veth0": {}}));
    let text = ip_inside(c, "-o addr show veth0")?;
    contains("addresses", &text, "192.0.2.9/24")?;
    ensure!(
        !text.contains("203.0.113.8"),
        "an address of link scope went along:\n{text}"
    );
    Ok(())
}

fn joined(c: &mut Case) -> Check {
    let other = Network::new()?;
    c.join_namespace("network", Some(&other.path()));
    wish(c, json!({"veth0": {"name": "eth0"}}));
    same(
        "devices in the container",
        list(&["eth0", "lo"]),
        devices_inside(c)?,
    )?;
    same("devices left here", list(&["lo", "veth1"]), devices_here()?)
}

/// A namespace that lives on keeps the device; with the namespace, a virtual device vanishes.
fn not_moved_back(c: &mut Case) -> Check {
    let other = Network::new()?;
    c.join_namespace("network", Some(&other.path()));
    wish(c, json!({"veth0": {}}));
    c.start_sleeper()?;
    c.delete()?;
    same("devices left here", list(&["lo", "veth1"]), devices_here()?)?;
    same(
        "devices in the namespace",
        list(&["lo", "veth0"]),
        other.inside(devices_here)?,
    )?;
    drop(other);
    c.wait_until("the pair to vanish", || Ok(devices_here()? == ["lo"]))
}

fn user_namespace(c: &mut Case) -> Check {
    c.map_ids(100_000)?;
    ip(c, "addr add 192.0.2.7/24 dev veth0")?;
    wish(c, json!({"veth0": {"name": "eth0"}}));
    contains("addresses", &ip_inside(c, "-o addr show eth0")?, "192.0.2.7/24")
}

/// The environment of config.json is there before the first hook runs.
fn hooks(c: &mut Case) -> Check {
    let out = c.dir.join("seen");
    let line = format!("cat /proc/self/net/dev > {}", out.display());
    c.hooks()
        .create_container([Hook::new().path("/bin/sh").args(json!(["sh", "-c", line]))]);
    wish(c, json!({"veth0": {"name": "eth0"}}));
    c.run()?.ok()?;
    same(
        "devices that the hook saw",
        list(&["eth0", "lo"]),
        names(&std::fs::read_to_string(out)?),
    )
}

/// The container's namespace has a device with the number that the new one had outside.
fn number_taken(c: &mut Case) -> Check {
    let other = Network::new()?;
    // Made there first of all, the pair has the same numbers as the one here.
    other.inside(|| ip(c, "link add type veth"))?;
    c.join_namespace("network", Some(&other.path()));
    ip(c, "addr add 192.0.2.7/24 dev veth0")?;
    wish(c, json!({"veth0": {"name": "eth%d"}}));
    contains("addresses", &ip_inside(c, "-o addr show up")?, "192.0.2.7/24")
}

fn refused(c: &Case, text: &str) -> Check {
    c.create()?.refused_with(text)?;
    same(
        "devices left here",
        list(&["lo", "veth0", "veth1"]),
        devices_here()?,
    )?;
    c.nothing_left()
}

fn name_taken(c: &mut Case) -> Check {
    // lo is always there.
    wish(c, json!({"veth0": {"name": "lo"}}));
    refused(c, "veth0")
}

fn loopback(c: &mut Case) -> Check {
    wish(c, json!({"lo": {"name": "lo1"}}));
    refused(c, "lo")
}

fn host_network(c: &mut Case) -> Check {
    c.drop_namespace("network");
    wish(c, json!({"veth0": {}}));
    refused(c, "")
}

fn own_network_by_path(c: &mut Case) -> Check {
    let mine = format!(
        "/proc/{}/task/{}/ns/net",
        std::process::id(),
        nix::unistd::gettid()
    );
    c.join_namespace("network", Some(&mine));
    wish(c, json!({"veth0": {"name": "eth0"}}));
    refused(c, "")
}

fn hostile_names(c: &mut Case) -> Check {
    for name in [
        "a/b",
        "../x",
        ".",
        "..",
        "a b",
        "a\tb",
        "a\nb",
        "sixteen-letters-",
        "%s",
        "a%d%d",
        "a:b",
    ] {
        wish(c, json!({"veth0": {"name": name}}));
        refused(c, "")?;
    }
    for name in ["", "a/b", "sixteen-letters-", "a\u{b}b"] {
        wish(c, json!({name: {"name": "eth0"}}));
        refused(c, "")?;
    }
    wish(c, json!({"veth0": {"name": "same"}, "veth1": {"name": "same"}}));
    refused(c, "same")
}

fn missing(c: &mut Case) -> Check {
    wish(c, json!({"veth0": {}, "zzz": {}}));
    refused(c, "zzz")
}

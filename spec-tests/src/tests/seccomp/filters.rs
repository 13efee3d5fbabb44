//! config-linux.md seccomp, by its effect on real calls. The calls used are ones that no runtime and no libc
//! needs.

use super::{GETPRIORITY, calls, filter, getpgid, refused};
use crate::{
    case::Case,
    config::Hook,
    outcome::{Check, ensure, same},
};
use serde_json::{Value, json};

tests! {
    seccomp/mode_is_filter,
    seccomp/errno_default_is_eperm,
    seccomp/errno_ret,
    seccomp/without_no_new_privileges,
    seccomp/as_a_user,
    seccomp/action_trace_without_tracer,
    seccomp/operators,
    seccomp/operators_compare_64_bits,
    seccomp/conditions_on_several_arguments_are_anded,
    seccomp/conditions_on_one_argument_are_ored,
    seccomp/several_rules_of_one_call,
    seccomp/unknown_names_are_ignored,
    seccomp/flag_unknown_is_refused,
    seccomp/errno_ret_where_it_has_no_place_is_refused,
    seccomp/operator_unknown_is_refused,
    seccomp/architecture_unknown_is_refused,
    seccomp/exec_is_filtered_too,
    seccomp/profile_of_the_engines,
    seccomp/profile_from_before_newer_calls,
    seccomp/unknown_calls_with_and_without_architectures,
}

const ESRCH: i64 = -3;

fn mode_is_filter(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]));
    same("Seccomp in status", "2", c.probe(&[])?.status["Seccomp"].as_str())?;
    if let Some(linux) = c.config["linux"].as_object_mut() {
        linux.remove("seccomp");
    }
    same("without a profile", "0", c.probe(&[])?.status["Seccomp"].as_str())
}

fn errno_default_is_eperm(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]));
    same("getpgid(0)", vec![-1], calls(c, &[getpgid(0)])?)
}

fn errno_ret(c: &mut Case) -> Check {
    filter(
        c,
        json!([
            {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
            {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
        ]),
    );
    same(
        "getpgid, getpriority",
        vec![-77, -38],
        calls(c, &[getpgid(0), format!("{GETPRIORITY}:0:0")])?,
    )
}

fn without_no_new_privileges(c: &mut Case) -> Check {
    c.process().no_new_privileges(false);
    filter(
        c,
        json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]),
    );
    let call = getpgid(0);
    let report = c.probe(&["--syscall", &call])?;
    same("no_new_privs", 0, report.no_new_privs)?;
    same("getpgid(0)", Some(-77), report.syscall[&call])
}

fn as_a_user(c: &mut Case) -> Check {
    c.process().user().clear().uid(1000).gid(1000);
    for nnp in [true, false] {
        c.process().no_new_privileges(nnp);
        filter(
            c,
            json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]),
        );
        same(
            &format!("getpgid(0), noNewPrivileges {nnp}"),
            vec![-77],
            calls(c, &[getpgid(0)])?,
        )?;
    }
    Ok(())
}

fn action_trace_without_tracer(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_TRACE"}]));
    same(
        "getpgid(0): ENOSYS without a tracer",
        vec![-38],
        calls(c, &[getpgid(0)])?,
    )
}

fn operators(c: &mut Case) -> Check {
    /// Operator, value, valueTwo, arguments that match, arguments that do not.
    type Row = (&'static str, u64, u64, &'static [i64], &'static [i64]);
    let table: [Row; 7] = [
        ("SCMP_CMP_EQ", 50_000, 0, &[50_000], &[49_999, 50_001]),
        ("SCMP_CMP_NE", 50_000, 0, &[49_999, 50_001], &[50_000]),
        ("SCMP_CMP_LT", 50_000, 0, &[49_999], &[50_000, 50_001]),
        ("SCMP_CMP_LE", 50_000, 0, &[49_999, 50_000], &[50_001]),
        ("SCMP_CMP_GT", 50_000, 0, &[50_001], &[50_000, 49_999]),
        ("SCMP_CMP_GE", 50_000, 0, &[50_001, 50_000], &[49_999]),
        (
            "SCMP_CMP_MASKED_EQ",
            0xf0,
            0x50,
            &[0xff50, 0xff5f],
            &[0xff40, 0xff00],
        ),
    ];
    for (op, value, value_two, hits, misses) in table {
        let condition = json!({"index": 0, "value": value, "valueTwo": value_two, "op": op});
        filter(
            c,
            json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [condition]}]),
        );
        let all: Vec<String> = hits.iter().chain(misses).map(|n| getpgid(*n)).collect();
        let wish: Vec<i64> = hits
            .iter()
            .map(|_| -77)
            .chain(misses.iter().map(|_| ESRCH))
            .collect();
        same(
            &format!("{op} {value}: getpgid of {all:?}"),
            wish,
            calls(c, &all)?,
        )?;
    }
    Ok(())
}

fn operators_compare_64_bits(c: &mut Case) -> Check {
    let big: u64 = (1 << 33) + 5;
    filter(
        c,
        json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
        "args": [{"index": 0, "value": big, "op": "SCMP_CMP_GE"}]}]),
    );
    let wish_hit = [big as i64, big as i64 + 1, (1 << 34) + 50_000, -1];
    let miss = [50_000, (1_i64 << 32) + 50_000];
    let all: Vec<String> = wish_hit.iter().chain(&miss).map(|n| getpgid(*n)).collect();
    same(
        "GE 2^33+5",
        vec![-77, -77, -77, -77, ESRCH, ESRCH],
        calls(c, &all)?,
    )
}

fn conditions_on_several_arguments_are_anded(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [
        {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 50_000, "op": "SCMP_CMP_EQ"}]}]),
    );
    let call = |which: i64, who: i64| format!("{GETPRIORITY}:{which}:{who}");
    same(
        "both, first only, second only",
        vec![-77, ESRCH, ESRCH],
        calls(c, &[call(0, 50_000), call(0, 50_001), call(1, 50_000)])?,
    )
}

fn conditions_on_one_argument_are_ored(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [
        {"index": 0, "value": 50_000, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 50_001, "op": "SCMP_CMP_EQ"}]}]),
    );
    same(
        "50000, 50001, 50002",
        vec![-77, -77, ESRCH],
        calls(c, &[getpgid(50_000), getpgid(50_001), getpgid(50_002)])?,
    )
}

fn several_rules_of_one_call(c: &mut Case) -> Check {
    let rule = |value: i64, errno: i64| {
        json!({"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
        "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    filter(
        c,
        json!([rule(50_000, 71), rule(50_001, 72), {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]),
    );
    let all = [
        getpgid(50_000),
        getpgid(50_001),
        getpgid(50_002),
        format!("{GETPRIORITY}:0:0"),
    ];
    same(
        "getpgid of 50000, 50001, 50002; getpriority",
        vec![-71, -72, ESRCH, -1],
        calls(c, &all)?,
    )
}

fn unknown_names_are_ignored(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["call_from_the_future", "getpgid"], "action": "SCMP_ACT_ERRNO"}]),
    );
    same("getpgid(0)", vec![-1], calls(c, &[getpgid(0)])?)
}

fn flag_unknown_is_refused(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]));
    c.linux().seccomp().flags(["SECCOMP_FILTER_FLAG_BOGUS"]);
    refused(c, "SECCOMP_FILTER_FLAG_BOGUS")
}

fn errno_ret_where_it_has_no_place_is_refused(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpgid"], "action": "SCMP_ACT_KILL", "errnoRet": 5}]),
    );
    refused(c, "errno")
}

fn operator_unknown_is_refused(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_BOGUS"}]}]),
    );
    refused(c, "SCMP_CMP_BOGUS")
}

fn architecture_unknown_is_refused(c: &mut Case) -> Check {
    filter(c, json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO"}]));
    c.linux().seccomp().architectures(["SCMP_ARCH_BOGUS"]);
    refused(c, "SCMP_ARCH_BOGUS")
}

fn exec_is_filtered_too(c: &mut Case) -> Check {
    filter(
        c,
        json!([{"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]),
    );
    c.start_sleeper()?;
    let call = getpgid(0);
    let report = c.exec_probe(&[], &["--syscall", &call])?;
    same("getpgid(0) of exec", Some(-77), report.syscall[&call])
}

fn default_profile() -> Check<Value> {
    let text = include_str!("../../../fixtures/seccomp-default.json");
    let mut profile: Value = serde_json::from_str(text)?;
    // The fixture is either the profile or a config.json that has one.
    Ok(match profile["linux"]["seccomp"].take() {
        Value::Null => profile,
        inner => inner,
    })
}

/// Profiles live longer than runtimes: one that was written before these calls were there answers them with
/// EPERM, and without noNewPrivileges it is in force before the runtime is done.
fn profile_from_before_newer_calls(c: &mut Case) -> Check {
    const NEWER: &[&str] = &[
        "clone3",
        "close_range",
        "faccessat2",
        "openat2",
        "pidfd_open",
        "pidfd_send_signal",
    ];
    let mut profile = default_profile()?;
    for rule in profile["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| !NEWER.iter().any(|newer| name == newer));
        }
    }
    if let Some(rules) = profile["syscalls"].as_array_mut() {
        rules.retain(|rule| rule["names"] != json!([]));
    }
    c.config["linux"]["seccomp"] = profile;
    c.hooks()
        .clear()
        .start_container([Hook::new().path("/bin/busybox").args(["true"])]);
    for nnp in [true, false] {
        c.process().no_new_privileges(nnp);
        same(
            "call 439 is denied",
            -1,
            calls(c, &["439:0:0:0:0".to_owned()])?[0],
        )?;
        c.create()?.ok()?;
        c.rt(&["exec", &c.id, "/bin/true"])?.ok()?;
        c.rt(&["start", &c.id])?.ok()?;
        c.delete()?;
    }
    Ok(())
}

/// As runc: a C library falls back to older calls where it reads ENOSYS, and gives up where it reads EPERM.
fn unknown_calls_with_and_without_architectures(c: &mut Case) -> Check {
    let mut profile = default_profile()?;
    for architectures in [true, false] {
        if !architectures && let Some(profile) = profile.as_object_mut() {
            profile.remove("architectures");
            profile.remove("archMap");
        }
        c.config["linux"]["seccomp"] = profile.clone();
        let results = calls(c, &["9999".to_owned(), format!("{}:0:0:0:0:0", libc::SYS_mount)])?;
        let wish = vec![-38, -1];
        same(&format!("calls, architectures: {architectures}"), wish, results)?;
    }
    Ok(())
}

fn profile_of_the_engines(c: &mut Case) -> Check {
    c.config["linux"]["seccomp"] = default_profile()?;
    for nnp in [true, false] {
        c.process().no_new_privileges(nnp);
        same("a shell works", "fine", c.sh("echo fine | cat")?.as_str())?;
        let all = [
            format!("{}:0:0:0:0:0", libc::SYS_mount),
            "435:0:0".to_owned(),
            getpgid(1),
            "9999".to_owned(),
            format!("{}:0", libc::SYS_unshare),
        ];
        let results = calls(c, &all)?;
        same("mount: EPERM", -1, results[0])?;
        same("clone3: ENOSYS", -38, results[1])?;
        same("getpgid(1) is allowed", 1, results[2])?;
        ensure!(
            results[3] == -38 || results[3] == -1,
            "call 9999: wish ENOSYS or EPERM, reality {}",
            results[3]
        );
        same("unshare: EPERM", -1, results[4])?;
    }
    Ok(())
}

//! An embedding program that ignores SIGCHLD: the kernel forgets how its children ended. The library does not
//! change that, and copes: what has only to end has ended, and what has to be known is asked of the pidfd, or
//! said to be unknown. Needs root.

#[path = "support/bundle.rs"]
mod bundle;
#[path = "support/kernel.rs"]
mod kernel;

use bundle::{Bundle, shell};
use kernel::keeps_the_status;
use runtime_core::{CgroupDriver, ContainerId, ErrorKind, Runtime, Status};
use runtime_sys::process::{ignores, set_signal_action};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;

const UNKNOWN: &str =
    "ended with an unknown status (SIGCHLD is ignored by this program, or somebody else has waited for it)";

#[test]
fn what_has_ended_is_gone_and_how_is_told_if_the_kernel_keeps_it() {
    set_signal_action(libc::SIGCHLD, true).unwrap();
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/embedding-ignores-sigchld");
    bundle.write();
    let runtime = Runtime::new(bundle.states(), CgroupDriver::Fs);
    let id = ContainerId::new("sigchld").unwrap();

    let init = runtime.run(&id, bundle.options()).unwrap();
    assert_eq!(runtime.state(&id).unwrap().status, Status::Running);
    let joined = runtime.exec(&id, shell("exit 7")).unwrap();
    let is_kept = keeps_the_status();
    match joined.wait() {
        Ok(status) => assert!(is_kept && status.code() == Some(7), "{status}"),
        Err(error) => {
            assert!(!is_kept, "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
            let text = format!("wait for the process: waitid: no child processes ({UNKNOWN})");
            assert_eq!(error.to_string(), text);
        }
    }
    runtime.delete(&id, true).unwrap();
    assert_eq!(
        init.wait().ok().and_then(|status| status.signal()),
        is_kept.then_some(libc::SIGKILL)
    );

    // A hook might have failed.
    for (hook, told) in [("/bin/true", None), ("/bin/false", Some("exit status 1"))] {
        bundle.config["hooks"]["createRuntime"] = json!([{"path": hook}]);
        bundle.write();
        let told = match is_kept {
            true => told,
            false => Some(UNKNOWN),
        };
        match (runtime.run(&id, bundle.options()), told) {
            (Ok(_), None) => runtime.delete(&id, true).unwrap(),
            (Err(error), Some(told)) => {
                assert_eq!(error.kind(), ErrorKind::Hook);
                let text = format!("error running createRuntime hook #0: {told}, stdout: , stderr: ");
                assert_eq!(error.to_string(), text);
            }
            (made, _) => panic!("{hook}: {made:?}"),
        }
    }
    assert!(runtime.list().unwrap().is_empty());
    assert!(ignores(libc::SIGCHLD).unwrap());
}

//! An embedding program that has its configuration in memory: as text, or as values of oci-spec. What is
//! wrong with one is told by its field, without a path that nobody knows. Needs root.

#[path = "support/bundle.rs"]
mod bundle;

use bundle::Bundle;
use oci_spec::runtime::{LinuxPidsBuilder, LinuxResourcesBuilder, Process, ProcessBuilder, Spec};
use runtime_core::{CgroupDriver, ContainerId, Document, ExecOptions, Runtime, Status, Stdio};
use serde_json::json;

fn sleeping(name: &str) -> (Bundle, Runtime, ContainerId) {
    let mut bundle = Bundle::new();
    bundle.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/embedding-documents-{name}"));
    let runtime = Runtime::new(bundle.states(), CgroupDriver::Fs);
    (bundle, runtime, ContainerId::new(name).unwrap())
}

#[test]
fn containers_come_from_text_and_from_values() {
    let (bundle, runtime, id) = sleeping("forms");
    let text = bundle.config.to_string().into_bytes();
    let value: Spec = serde_json::from_slice(&text).unwrap();
    for document in [Document::from(text), Document::from(value)] {
        // There is no config.json in the bundle.
        let options = bundle.options().stdin(Stdio::Null).config(document);
        let init = runtime.run(&id, options).unwrap();
        assert_eq!(runtime.state(&id).unwrap().status, Status::Running);

        let process: Process = ProcessBuilder::default()
            .cwd("/")
            .args(["/bin/sh", "-c", "exit 7"].map(String::from))
            .build()
            .unwrap();
        let options = ExecOptions::default()
            .stdin(Stdio::Null)
            .process(Document::from(process));
        assert_eq!(
            runtime.exec(&id, options).unwrap().wait().unwrap().code(),
            Some(7)
        );

        let pids = LinuxPidsBuilder::default().limit(17).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        match runtime.update(&id, resources) {
            Ok(()) => assert_eq!(runtime.stats(&id).unwrap().pids.limit, 17),
            // Where version 1 has the controller.
            Err(error) => assert_eq!(error.field(), Some("linux.resources.pids.limit"), "{error}"),
        }

        runtime.delete(&id, true).unwrap();
        init.wait().unwrap();
    }
    assert!(runtime.list().unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_told_by_the_field_alone() {
    let (mut bundle, runtime, id) = sleeping("wrong");
    let wrong = |bundle: &Bundle| {
        let document = bundle.config.to_string().into_bytes();
        let error = runtime
            .create(&id, bundle.options().config(Document::Json(document)))
            .unwrap_err();
        (error.field().map(str::to_owned), error.to_string())
    };
    bundle.config["ociVersion"] = json!("0.9");
    let (field, told) = wrong(&bundle);
    assert_eq!(field.as_deref(), Some("ociVersion"));
    assert!(!told.contains('/'), "{told}");
    bundle.config["ociVersion"] = json!("1.3.0");
    bundle.config["process"]["cwd"] = json!(7);
    let (_, told) = wrong(&bundle);
    assert_eq!(told, "process.cwd: expected a string, found a number");
}

//! The shim as containerd sees it, without containerd. As root.
#![allow(
    clippy::disallowed_methods,
    reason = "clippy.toml is about the product; tests look at what is there"
)]

mod support;

use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;

use containerd_shim_protos::api::{ConnectRequest, DeleteResponse, PauseRequest, ResizePtyRequest, Status};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim_async::Client;
use containerd_shim_protos::ttrpc::{Code, Request};
use containerd_shim_protos::types::introspection::RuntimeInfo;
use containerd_shim_protos::types::mount::Mount;
use serde_json::json;
use support::{Containerd, Streams, code, fifo, patient, reader, run, until};

#[test]
fn a_life_in_its_order() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle(
            "a",
            "trap 'exit 7' TERM; echo started; >/ready; while :; do sleep 0.1; done",
        );
        let shim = containerd.start_shim("a").await;
        let stdout = fifo(&containerd, "stdout");
        let output = reader(&stdout);
        let pid = shim
            .create(
                "a",
                Streams {
                    stdout,
                    ..Streams::default()
                },
            )
            .await;
        assert!(pid > 0);
        assert_eq!(shim.state("a", "").await, Status::CREATED);
        assert_eq!(shim.start("a", "").await.unwrap(), pid);
        assert_eq!(shim.state("a", "").await, Status::RUNNING);
        assert_eq!(
            code(&shim.start("a", "").await.unwrap_err()),
            Code::FAILED_PRECONDITION
        );

        shim.exec("a", "e", "exit 9", Streams::default()).await.unwrap();
        let again = shim.exec("a", "e", "exit 9", Streams::default()).await;
        assert_eq!(code(&again.unwrap_err()), Code::ALREADY_EXISTS);
        shim.start("a", "e").await.unwrap();
        assert_eq!(shim.wait("a", "e").await, 9);
        assert_eq!(shim.delete("a", "e").await.unwrap().exit_status, 9);
        assert_eq!(
            code(&shim.delete("a", "").await.unwrap_err()),
            Code::FAILED_PRECONDITION
        );

        shim.exec("a", "long", "sleep 1000", Streams::default())
            .await
            .unwrap();
        shim.start("a", "long").await.unwrap();
        until(
            || containerd.path("a/rootfs/ready").exists(),
            || "the trap".to_owned(),
        )
        .await;
        shim.kill("a", "", libc::SIGTERM).await.unwrap();
        assert_eq!(shim.wait("a", "").await, 7);
        assert_eq!(shim.wait("a", "long").await, 137);
        assert_eq!(
            code(&shim.kill("a", "", libc::SIGTERM).await.unwrap_err()),
            Code::NOT_FOUND
        );
        assert_eq!(shim.state("a", "").await, Status::STOPPED);
        let deleted = shim.delete("a", "").await.unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
        assert_eq!(code(&shim.delete("a", "").await.unwrap_err()), Code::NOT_FOUND);
        shim.shut_down().await;
        assert_eq!(output.await.unwrap(), b"started\n");
        let order = [
            "create",
            "start",
            "exec-added",
            "exec-started e",
            "exit e 9",
            "exec-added",
            "exec-started long",
            "exit long 137",
            "exit a 7",
            "delete",
        ];
        assert_eq!(containerd.told.all(), order);
    });
}

#[test]
fn an_end_during_start_is_told_after_it() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "exit 3");
        let shim = containerd.start_shim("a").await;
        shim.create("a", Streams::default()).await;
        shim.start("a", "").await.unwrap();
        assert_eq!(shim.wait("a", "").await, 3);
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
        assert_eq!(containerd.told.all(), ["create", "start", "exit a 3", "delete"]);
    });
}

#[test]
fn a_container_that_was_never_started_is_deleted() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "exit 3");
        let shim = containerd.start_shim("a").await;
        let stdout = fifo(&containerd, "stdout");
        let output = reader(&stdout);
        shim.create(
            "a",
            Streams {
                stdout,
                ..Streams::default()
            },
        )
        .await;
        assert_eq!(shim.delete("a", "").await.unwrap().exit_status, 137);
        shim.shut_down().await;
        assert_eq!(output.await.unwrap(), b"");
        assert_eq!(containerd.told.all(), ["create", "exit a 137", "delete"]);
    });
}

#[test]
fn a_container_that_cannot_be_made_leaves_nothing() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "true");
        containerd.edit_config("a", |config| {
            config["process"]["args"] = json!(["/no/such/program"])
        });
        let shim = containerd.start_shim("a").await;
        let error = shim
            .task
            .create(patient(), &shim.request("a", Streams::default()))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("OCI runtime create failed") && text.contains("no such file or directory"),
            "{text}"
        );
        shim.shut_down().await;
        assert!(containerd.told.all().is_empty());
    });
}

#[test]
fn the_end_of_input_reaches_the_process() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "cat; echo end");
        let shim = containerd.start_shim("a").await;
        let (stdin, stdout) = (fifo(&containerd, "stdin"), fifo(&containerd, "stdout"));
        let output = reader(&stdout);
        shim.create(
            "a",
            Streams {
                stdin: stdin.clone(),
                stdout,
                ..Streams::default()
            },
        )
        .await;
        shim.start("a", "").await.unwrap();
        // One that goes away ends nothing: another may come.
        for word in ["one ", "two"] {
            fs::File::options()
                .write(true)
                .open(&stdin)
                .unwrap()
                .write_all(word.as_bytes())
                .unwrap();
        }
        assert_eq!(shim.state("a", "").await, Status::RUNNING);
        shim.close_input("a", "").await;
        assert_eq!(shim.wait("a", "").await, 0);
        shim.delete("a", "").await.unwrap();
        assert_eq!(output.await.unwrap(), b"one twoend\n");
        shim.shut_down().await;
    });
}

#[test]
fn all_output_is_there_when_delete_returns() {
    run(async {
        const SIZE: usize = 4 << 20;
        let containerd = Containerd::new().await;
        containerd.bundle("a", &format!("head -c {SIZE} /dev/zero; echo error >&2"));
        let shim = containerd.start_shim("a").await;
        let (stdout, stderr) = (fifo(&containerd, "stdout"), fifo(&containerd, "stderr"));
        let (output, errors) = (reader(&stdout), reader(&stderr));
        shim.create(
            "a",
            Streams {
                stdout,
                stderr,
                ..Streams::default()
            },
        )
        .await;
        shim.start("a", "").await.unwrap();
        assert_eq!(shim.wait("a", "").await, 0);
        shim.delete("a", "").await.unwrap();
        assert_eq!(output.await.unwrap().len(), SIZE);
        assert_eq!(errors.await.unwrap(), b"error\n");
        shim.shut_down().await;
    });
}

#[test]
fn nothing_of_the_shim_gets_into_a_container() {
    run(async {
        let containerd = Containerd::new().await;
        let none = "0000000000000000";
        for (id, program, wish) in [
            // 3 is the directory itself.
            ("a", vec!["ls", "/proc/self/fd"], "0\n1\n2\n3\n".to_owned()),
            (
                "b",
                vec!["grep", "Sig[BI]", "/proc/self/status"],
                format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"),
            ),
            ("c", vec!["readlink", "/proc/self/fd/0"], "/dev/null\n".to_owned()),
        ] {
            containerd.bundle(id, "");
            containerd.edit_config(id, |config| config["process"]["args"] = json!(program));
            let shim = containerd.start_shim(id).await;
            let stdout = fifo(&containerd, &format!("{id}-stdout"));
            let output = reader(&stdout);
            shim.create(
                id,
                Streams {
                    stdout,
                    ..Streams::default()
                },
            )
            .await;
            shim.start(id, "").await.unwrap();
            shim.wait(id, "").await;
            shim.delete(id, "").await.unwrap();
            assert_eq!(String::from_utf8(output.await.unwrap()).unwrap(), wish);
            shim.shut_down().await;
        }
    });
}

#[test]
fn the_shim_runs_from_a_copy_that_cannot_be_written() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "");
        let shim = containerd.start_shim("a").await;
        let process = format!("/proc/{}", shim.pid().await);
        assert_eq!(
            fs::read_link(format!("{process}/exe")).unwrap(),
            std::path::Path::new("/")
        );
        let mount = rustix::fs::statvfs(format!("{process}/exe")).unwrap();
        assert!(mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        assert_eq!(
            fs::read_to_string(format!("{process}/comm")).unwrap(),
            "containerd-shim\n"
        );
        shim.shut_down().await;
    });
}

#[test]
fn layers_get_the_ids_of_a_user_namespace() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "ls -ln /file; echo >/new");
        let directory = |name: &str| {
            let path = containerd.path(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (upper, work, lower) = (directory("upper"), directory("work"), directory("lower"));
        for path in [&upper, &work] {
            std::os::unix::fs::chown(path, Some(100_000), Some(200_000)).unwrap();
        }
        fs::rename(containerd.path("a/rootfs"), lower.join("rootfs")).unwrap();
        fs::create_dir(containerd.path("a/rootfs")).unwrap();
        for name in ["", "proc", "dev"] {
            fs::create_dir_all(lower.join("rootfs").join(name)).unwrap();
        }
        fs::write(lower.join("rootfs/file"), "").unwrap();
        containerd.edit_config("a", |config| {
            config["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
            config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
        });
        let shim = containerd.start_shim("a").await;
        let stdout = fifo(&containerd, "stdout");
        let output = reader(&stdout);
        let mut request = shim.request(
            "a",
            Streams {
                stdout,
                ..Streams::default()
            },
        );
        request.rootfs = vec![Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                format!("lowerdir={}", lower.join("rootfs").display()),
                format!("upperdir={}", upper.display()),
                format!("workdir={}", work.display()),
                "uidmap=0:100000:1000".into(),
                "gidmap=0:200000:1000".into(),
            ],
            ..Mount::default()
        }];
        shim.task.create(patient(), &request).await.unwrap();
        shim.start("a", "").await.unwrap();
        assert_eq!(shim.wait("a", "").await, 0);
        shim.delete("a", "").await.unwrap();
        let listed = String::from_utf8(output.await.unwrap()).unwrap();
        assert!(
            listed.split_whitespace().skip(2).take(2).eq(["0", "0"]),
            "{listed}"
        );
        let new = fs::metadata(upper.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (100_000, 200_000));
        assert!(fs::metadata(containerd.path("a/layers")).is_err());
        shim.shut_down().await;
    });
}

/// What has been done when the shim is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Created,
    Started,
    Paused,
    Ended,
}

#[test]
fn delete_cleans_up_after_a_shim_that_was_killed() {
    run(async {
        for step in [
            Step::Nothing,
            Step::Created,
            Step::Started,
            Step::Paused,
            Step::Ended,
        ] {
            let containerd = Containerd::new().await;
            containerd.bundle("a", "sleep 1000");
            let shim = containerd.start_shim("a").await;
            bring_to(&shim, step).await;
            let pid = shim.pid().await;
            kill(pid);
            let process = format!("/proc/{pid}/cwd");
            until(|| !fs::exists(&process).unwrap(), || "the end of the shim".into()).await;
            let bundle = containerd.path("a");
            let action = ["-bundle", bundle.to_str().unwrap(), "delete"];
            for _ in 0..2 {
                let output = containerd.call("a", &action, "2");
                assert!(
                    output.status.success(),
                    "{step:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
                let answer = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
                assert_eq!(answer.exit_status, 137);
                containerd.nothing_is_left(pid, &shim.socket);
            }
        }
    });
}

async fn bring_to(shim: &support::Shim<'_>, step: Step) {
    if step == Step::Nothing {
        return;
    }
    let mut request = shim.request("a", Streams::default());
    request.rootfs = vec![Mount {
        type_: "bind".into(),
        source: shim.containerd.path("a/rootfs").to_string_lossy().into_owned(),
        options: vec!["rbind".into(), "rw".into()],
        ..Mount::default()
    }];
    shim.task.create(patient(), &request).await.unwrap();
    if step == Step::Created {
        return;
    }
    shim.start("a", "").await.unwrap();
    shim.exec("a", "e", "sleep 1000", Streams::default())
        .await
        .unwrap();
    shim.start("a", "e").await.unwrap();
    match step {
        Step::Paused => {
            let request = PauseRequest {
                id: "a".into(),
                ..PauseRequest::default()
            };
            shim.task.pause(patient(), &request).await.unwrap();
            assert_eq!(shim.state("a", "").await, Status::PAUSED);
        }
        Step::Ended => {
            shim.kill("a", "", libc::SIGKILL).await.unwrap();
            shim.wait("a", "").await;
        }
        _ => {}
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the shim is a grandchild: its number is all that is told"
)]
fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn many_processes_at_once_end_before_init() {
    run(async {
        const MANY: usize = 64;
        let containerd = Containerd::new().await;
        containerd.bundle("a", "sleep 1000");
        let shim = containerd.start_shim("a").await;
        shim.create("a", Streams::default()).await;
        shim.start("a", "").await.unwrap();
        let descriptors = format!("/proc/{}/fd", shim.pid().await);
        let open = || fs::read_dir(&descriptors).unwrap().count();
        let before = open();
        let mut running = Vec::new();
        for number in 0..MANY {
            let (task, shim) = (shim.task.clone(), &shim);
            running.push(async move {
                let shim = support::Shim {
                    containerd: shim.containerd,
                    task,
                    socket: shim.socket.clone(),
                };
                let id = format!("e{number}");
                let stdout = fifo(shim.containerd, &id);
                let output = reader(&stdout);
                let streams = Streams {
                    stdout,
                    ..Streams::default()
                };
                shim.exec("a", &id, &format!("echo {number}; exit {number}"), streams)
                    .await
                    .unwrap();
                shim.start("a", &id).await.unwrap();
                assert_eq!(shim.wait("a", &id).await as usize, number);
                shim.delete("a", &id).await.unwrap();
                assert_eq!(output.await.unwrap(), format!("{number}\n").into_bytes());
            });
        }
        all(running).await;
        until(
            || open() == before,
            || format!("{before} descriptors, but {}", open()),
        )
        .await;

        for id in ["x", "y"] {
            shim.exec("a", id, "sleep 1000", Streams::default())
                .await
                .unwrap();
            shim.start("a", id).await.unwrap();
        }
        shim.kill("a", "", libc::SIGKILL).await.unwrap();
        shim.wait("a", "").await;
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
        let told = containerd.told.all();
        assert_eq!(told[told.len() - 2..], ["exit a 137", "delete"]);
        assert_eq!(
            told.iter().filter(|event| event.starts_with("exit ")).count(),
            MANY + 3
        );
    });
}

/// All of them, side by side.
async fn all(futures: Vec<impl Future<Output = ()>>) {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| future.as_mut().poll(context).is_pending());
        match waiting.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

#[test]
fn what_init_leaves_ends_with_it_where_pids_are_shared() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "sleep 1000 & echo $! >/left; exit 4");
        containerd.edit_config("a", |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        });
        let shim = containerd.start_shim("a").await;
        shim.create("a", Streams::default()).await;
        shim.start("a", "").await.unwrap();
        assert_eq!(shim.wait("a", "").await, 4);
        let left = fs::read_to_string(containerd.path("a/rootfs/left")).unwrap();
        let root = format!("/proc/{}/root/marker", left.trim());
        until(
            || fs::read(&root).is_err(),
            || "the end of what was left".to_owned(),
        )
        .await;
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
    });
}

#[test]
fn a_reader_may_go_and_another_come() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "read line; echo first; read line; echo second");
        let shim = containerd.start_shim("a").await;
        let (stdin, stdout) = (fifo(&containerd, "stdin"), fifo(&containerd, "stdout"));
        let first = {
            let stdout = stdout.clone();
            tokio::task::spawn_blocking(move || {
                let mut line = String::new();
                std::io::BufReader::new(fs::File::open(stdout).unwrap())
                    .read_line(&mut line)
                    .unwrap();
                line
            })
        };
        let streams = Streams {
            stdin: stdin.clone(),
            stdout: stdout.clone(),
            ..Streams::default()
        };
        shim.create("a", streams).await;
        shim.start("a", "").await.unwrap();
        let say = || {
            fs::File::options()
                .write(true)
                .open(&stdin)
                .unwrap()
                .write_all(b"\n")
                .unwrap()
        };
        say();
        assert_eq!(first.await.unwrap(), "first\n");
        // As a containerd that is started anew.
        let second = fs::File::options().read(true).write(true).open(&stdout).unwrap();
        say();
        assert_eq!(shim.wait("a", "").await, 0);
        let mut line = String::new();
        std::io::BufReader::new(second).read_line(&mut line).unwrap();
        assert_eq!(line, "second\n");
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
    });
}

#[test]
fn containers_of_a_pod_share_a_shim() {
    run(async {
        let containerd = Containerd::new().await;
        for id in ["a", "b"] {
            containerd.bundle(id, "sleep 1000");
            let annotations = json!({ "io.kubernetes.cri.sandbox-id": "a" });
            containerd.edit_config(id, |config| config["annotations"] = annotations);
        }
        let first = containerd.start_shim("a").await;
        let second = containerd.start_shim("b").await;
        assert_eq!(first.socket, second.socket);
        assert_eq!(first.pid().await, second.pid().await);
        for id in ["a", "b"] {
            first.create(id, Streams::default()).await;
            first.start(id, "").await.unwrap();
        }
        for id in ["b", "a"] {
            first.kill(id, "", libc::SIGKILL).await.unwrap();
            assert_eq!(first.wait(id, "").await, 137);
            first.delete(id, "").await.unwrap();
        }
        first.shut_down().await;
    });
}

#[test]
fn events_wait_for_a_containerd_that_is_away() {
    run(async {
        let mut containerd = Containerd::new().await;
        containerd.bundle("a", "sleep 1000");
        let shim = containerd.start_shim("a").await;
        shim.create("a", Streams::default()).await;
        shim.start("a", "").await.unwrap();
        containerd.told.until("start").await;
        let task = shim.task;
        let socket = shim.socket;
        containerd.go().await;
        let shim = support::Shim {
            containerd: &containerd,
            task,
            socket,
        };
        shim.kill("a", "", libc::SIGKILL).await.unwrap();
        assert_eq!(shim.wait("a", "").await, 137);
        shim.delete("a", "").await.unwrap();
        let (task, socket) = (shim.task, shim.socket);
        assert_eq!(containerd.told.all(), ["create", "start"]);
        containerd.come().await;
        let all = containerd.told.until("delete").await;
        assert_eq!(all, ["create", "start", "exit a 137", "delete"]);
        support::Shim {
            containerd: &containerd,
            task,
            socket,
        }
        .shut_down()
        .await;
    });
}

#[test]
fn a_terminal_has_a_size_and_an_end() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "sleep 1000");
        let shim = containerd.start_shim("a").await;
        shim.create("a", Streams::default()).await;
        shim.start("a", "").await.unwrap();
        let (stdin, stdout) = (fifo(&containerd, "stdin"), fifo(&containerd, "stdout"));
        let output = reader(&stdout);
        let streams = Streams {
            stdin: stdin.clone(),
            stdout,
            terminal: true,
            ..Streams::default()
        };
        shim.exec("a", "t", "read line; stty size; echo $line", streams)
            .await
            .unwrap();
        shim.start("a", "t").await.unwrap();
        let size = ResizePtyRequest {
            id: "a".into(),
            exec_id: "t".into(),
            width: 101,
            height: 33,
            ..ResizePtyRequest::default()
        };
        shim.task.resize_pty(patient(), &size).await.unwrap();
        fs::File::options()
            .write(true)
            .open(&stdin)
            .unwrap()
            .write_all(b"hello\n")
            .unwrap();
        assert_eq!(shim.wait("a", "t").await, 0);
        shim.delete("a", "t").await.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.await.unwrap()),
            "hello\r\n33 101\r\nhello\r\n"
        );
        shim.kill("a", "", libc::SIGKILL).await.unwrap();
        shim.wait("a", "").await;
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
    });
}

#[test]
fn output_goes_to_files_and_loggers() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "sleep 1000");
        let logger = containerd.path("logger");
        let log = containerd.path("log");
        fs::write(&logger, "#!/bin/sh\nexec 5>&-\n{ cat <&3; cat <&4; echo $CONTAINER_ID $CONTAINER_NAMESPACE $1 $2; } >$2\n").unwrap();
        fs::set_permissions(&logger, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let shim = containerd.start_shim("a").await;
        shim.create("a", Streams::default()).await;
        shim.start("a", "").await.unwrap();
        let file = containerd.path("deep/file");
        let binary = format!("binary://{}?log={}", logger.display(), log.display());
        for (id, stdout) in [("file", format!("file://{}", file.display())), ("logger", binary)] {
            let streams = Streams {
                stderr: stdout.clone(),
                stdout,
                ..Streams::default()
            };
            shim.exec("a", id, "echo out; echo err >&2", streams)
                .await
                .unwrap();
            shim.start("a", id).await.unwrap();
            assert_eq!(shim.wait("a", id).await, 0);
            shim.delete("a", id).await.unwrap();
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "out\nerr\n");
        let wish = format!("out\nerr\na {} log {}\n", support::NAMESPACE, log.display());
        assert_eq!(fs::read_to_string(&log).unwrap(), wish);
        shim.kill("a", "", libc::SIGKILL).await.unwrap();
        shim.wait("a", "").await;
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
    });
}

#[test]
fn streams_that_cannot_be_had_keep_a_process_from_being_made() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "sleep 1000");
        let shim = containerd.start_shim("a").await;
        let missing = containerd.path("no/such/fifo").to_string_lossy().into_owned();
        for stdout in [
            missing.as_str(),
            "binary:///no/such/program",
            "https://example.org/",
        ] {
            let streams = Streams {
                stdout: stdout.to_owned(),
                ..Streams::default()
            };
            let created = shim.task.create(patient(), &shim.request("a", streams)).await;
            assert!(created.is_err(), "{stdout}");
        }
        let streams = Streams {
            stdin: missing,
            ..Streams::default()
        };
        shim.create("a", streams).await;
        assert!(shim.start("a", "").await.is_err());
        shim.delete("a", "").await.unwrap();
        shim.shut_down().await;
    });
}

#[test]
fn what_it_is_and_can() {
    let containerd = |action: &[&str]| {
        let mut command = std::process::Command::new(support::SHIM);
        command
            .args(action)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    };
    let info = containerd(&["-info"]);
    assert!(info.status.success());
    let info = RuntimeInfo::parse_from_bytes(&info.stdout).unwrap();
    let features: serde_json::Value = serde_json::from_slice(&info.features.value).unwrap();
    assert!(
        features["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .contains(&json!("user"))
    );
    assert!(
        features["mountOptions"]
            .as_array()
            .unwrap()
            .contains(&json!("rro"))
    );
    let version = containerd(&["-v"]);
    assert!(version.status.success() && !version.stdout.is_empty());
    let wrong = containerd(&["-namespace", "n", "-id", "a", "stop"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("unknown action stop"));
}

#[test]
fn both_versions_of_the_service_are_there() {
    run(async {
        let containerd = Containerd::new().await;
        containerd.bundle("a", "true");
        let shim = containerd.start_shim("a").await;
        let client = Client::connect(&format!("unix://{}", shim.socket.display()))
            .await
            .unwrap();
        for (version, is_there) in [("v2", true), ("v3", true), ("v1", false)] {
            let request = Request {
                service: format!("containerd.task.{version}.Task"),
                method: "Connect".into(),
                payload: ConnectRequest::default().write_to_bytes().unwrap(),
                ..Request::default()
            };
            assert_eq!(client.request(request).await.is_ok(), is_there, "{version}");
        }
        shim.shut_down().await;
    });
}

//! Runs in: RUNTIME. Tests of the store on a real directory: many at once, damaged records, records of other
//! runtimes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let base = tempfile::tempdir().unwrap();
    let store = Store::new(base.path().join("var/root"));
    (base, store)
}

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

fn record(id: &ContainerId) -> Record {
    Record::creating(id, "1.3.0", Path::new("/bundle"), Path::new("/bundle/rootfs"))
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_claim_makes_directories_and_record_and_remove_leaves_nothing() {
    let (_base, store) = store();
    let c1 = id("c1");
    assert!(store.ids().unwrap().is_empty());
    assert_eq!(store.read(&c1).unwrap_err().kind(), ErrorKind::NotFound);
    let mut slot = store.claim(&c1, &record(&c1)).unwrap();
    assert_eq!(
        (
            mode(store.root()),
            mode(slot.path()),
            mode(&slot.path().join(STATE))
        ),
        (0o700, 0o711, 0o600)
    );
    assert_eq!(store.read(&c1).unwrap(), record_with_time(&c1, slot.record()));

    let mut next = slot.record().clone();
    (next.phase, next.pid, next.start_time) = (Phase::Created, 7, 9);
    slot.write(next.clone()).unwrap();
    assert_eq!(slot.record(), &next);
    slot.save_file("config.json", b"{}").unwrap();
    slot.save_file("config.json", b"{\"a\":1}").unwrap();
    assert_eq!(slot.read_file("config.json").unwrap(), b"{\"a\":1}");
    assert_eq!(
        store.view(&c1).unwrap().read_file("config.json").unwrap(),
        b"{\"a\":1}"
    );
    assert_eq!(names(slot.path()), ["config.json", "state.json"]);
    drop(slot);
    assert_eq!(store.ids().unwrap(), std::slice::from_ref(&c1));
    let slot = store.lock(&c1).unwrap();
    assert_eq!(slot.record(), &next);
    slot.retire().unwrap().remove().unwrap();
    assert_eq!(names(store.root()), Vec::<String>::new());
    let error = store.lock(&c1).unwrap_err().to_string();
    let place = store.root().display();
    assert_eq!(
        error,
        format!("container does not exist: c1 (looked below {place})")
    );
}

fn record_with_time(id: &ContainerId, like: &Record) -> Record {
    Record {
        created: like.created.clone(),
        ..record(id)
    }
}

#[test]
fn an_id_that_is_taken_is_refused_and_its_owner_is_not_disturbed() {
    let (_base, store) = store();
    let c1 = id("c1");
    let slot = store.claim(&c1, &record(&c1)).unwrap();
    let before = std::fs::read(slot.path().join(STATE)).unwrap();
    let error = store.claim(&c1, &record(&c1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(
        error
            .to_string()
            .ends_with("container with given ID already exists: c1"),
        "{error}"
    );
    assert_eq!(std::fs::read(slot.path().join(STATE)).unwrap(), before);
    assert_eq!(names(store.root()), ["c1"]);
}

#[test]
fn a_large_file_and_a_file_name_with_a_slash() {
    let (_base, store) = store();
    let c1 = id("c1");
    let slot = store.claim(&c1, &record(&c1)).unwrap();
    let large = vec![b'x'; 3 << 20];
    slot.save_file("config.json", &large).unwrap();
    assert!(slot.read_file("config.json").unwrap() == large);
    for name in ["", ".", "..", "../c2", "a/b", "a\0b"] {
        assert_eq!(slot.save_file(name, b"").unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(slot.read_file(name).unwrap_err().kind(), ErrorKind::Internal);
    }
    assert_eq!(slot.read_file("missing").unwrap_err().errno(), Some(Errno::NOENT));
    let secret = store.root().join("secret");
    std::fs::write(&secret, "s").unwrap();
    std::os::unix::fs::symlink(&secret, slot.path().join("link")).unwrap();
    assert_eq!(slot.read_file("link").unwrap_err().errno(), Some(Errno::LOOP));
}

#[test]
fn damage_is_found_by_find_refused_by_lock_and_can_be_removed() {
    let (_base, store) = store();
    let damages: [&dyn Fn(&Path); 4] = [
        &|dir| std::fs::remove_file(dir.join(STATE)).unwrap(),
        &|dir| std::fs::write(dir.join(STATE), "{\"version\":1").unwrap(),
        &|dir| std::fs::write(dir.join(STATE), "").unwrap(),
        &|dir| {
            std::fs::remove_file(dir.join(STATE)).unwrap();
            std::fs::create_dir_all(dir.join(STATE).join("deep/er")).unwrap();
            std::fs::write(dir.join(STATE).join("deep/file"), "x").unwrap();
            std::os::unix::fs::symlink("/etc", dir.join("link")).unwrap();
        },
    ];
    for damage in damages {
        let c1 = id("c1");
        let slot = store.claim(&c1, &record(&c1)).unwrap();
        damage(slot.path());
        drop(slot);
        assert_eq!(store.lock(&c1).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(store.read(&c1).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(store.ids().unwrap().len(), 1);
        let Found::Damaged(wreck) = store.find(&c1, None).unwrap() else {
            panic!("not damaged")
        };
        assert!(
            wreck
                .reason()
                .to_string()
                .starts_with("read the container's state: /"),
            "{:?}",
            wreck.reason()
        );
        wreck.remove().unwrap();
        assert!(names(store.root()).is_empty());
    }
}

/// What runc (state.json, and before it exec.fifo), crun and youki have there.
#[test]
fn a_container_of_another_runtime_is_left_alone() {
    let (_dir, store) = store();
    let foreign: [(&str, &str); 5] = [
        (
            "state.json",
            r#"{"id":"c1","init_process_pid":1,"created":"2026-11-21T16:54:42.98Z","cgroup_paths":{"":"/"}}"#,
        ),
        (
            "state.json",
            r#"{"ociVersion":"v1.0.2","id":"c1","status":"running","pid":1,"bundle":"/b"}"#,
        ),
        ("state.json", r#"{"version":2,"id":"c1"}"#),
        ("exec.fifo", ""),
        ("status", r#"{"pid":1}"#),
    ];
    for (name, contents) in foreign {
        let (c1, file) = (id("c1"), store.root().join("c1").join(name));
        std::fs::create_dir_all(store.root().join("c1")).unwrap();
        std::fs::write(&file, contents).unwrap();
        for error in [
            store.lock(&c1).unwrap_err(),
            store.read(&c1).unwrap_err(),
            store.claim(&c1, &record(&c1)).unwrap_err(),
        ] {
            let kinds = [ErrorKind::Unsupported, ErrorKind::AlreadyExists];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        let Found::Damaged(wreck) = store.find(&c1, None).unwrap() else {
            panic!("a container")
        };
        assert_eq!(wreck.remove().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), contents);
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_locked_container_can_be_read_but_not_locked() {
    let (_base, store) = store();
    let c1 = id("c1");
    let slot = store.claim(&c1, &record(&c1)).unwrap();
    assert_eq!(
        store.find(&c1, Some(Duration::ZERO)).unwrap_err().kind(),
        ErrorKind::WrongStatus
    );
    let begin = Instant::now();
    assert_eq!(
        store
            .find(&c1, Some(Duration::from_millis(30)))
            .unwrap_err()
            .kind(),
        ErrorKind::WrongStatus
    );
    assert!(begin.elapsed() >= Duration::from_millis(30));
    assert_eq!(store.read(&c1).unwrap().phase, Phase::Creating);
    // A copy of the descriptor, such as INIT has, must not keep the lock.
    let copy = slot.held.dir.try_clone().unwrap();
    drop(slot);
    drop(store.find(&c1, Some(Duration::ZERO)).unwrap());
    drop(copy);
}

#[test]
fn who_waited_for_a_deleted_container_gets_not_found_or_the_new_one() {
    let (_base, store) = store();
    let c1 = id("c1");
    let slot = store.claim(&c1, &record(&c1)).unwrap();
    let waiter = thread::spawn({
        let (store, c1) = (store.clone(), c1.clone());
        move || store.lock(&c1).map(|slot| slot.record().oci_version.clone())
    });
    thread::sleep(Duration::from_millis(30));
    slot.retire().unwrap().remove().unwrap();
    let second = store
        .claim(
            &c1,
            &Record {
                oci_version: "second".into(),
                ..record(&c1)
            },
        )
        .unwrap();
    drop(second);
    match waiter.join().unwrap() {
        Ok(version) => assert_eq!(version, "second"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
    }
}

#[test]
fn leftovers_of_dead_commands_are_no_containers_and_are_swept_unless_locked() {
    let (_base, store) = store();
    let c1 = id("c1");
    store.claim(&c1, &record(&c1)).unwrap();
    for name in ["@claim-1", "@gone-2"] {
        std::fs::create_dir(store.root().join(name)).unwrap();
        std::fs::write(store.root().join(name).join(STATE), "{").unwrap();
    }
    let alive = store.root().join("@claim-3");
    std::fs::create_dir(&alive).unwrap();
    let alive = std::fs::File::open(&alive).unwrap();
    rustix::fs::flock(&alive, FlockOperation::LockExclusive).unwrap();
    assert_eq!(store.ids().unwrap(), [c1]);
    assert_eq!(names(store.root()), ["@claim-3", "c1"]);
    drop(alive);
    assert_eq!(store.lock(&id("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names(store.root()), ["c1"]);
}

/// Each thread claims, writes and removes: on one id for all, where claims may fail but a winner is alone, or
/// on its own.
fn race(shared: bool) {
    const THREADS: usize = 8;
    const ROUNDS: usize = 100;
    let (_base, store) = store();
    let (inside, won) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = |thread: usize| {
        let (store, inside, won) = (store.clone(), inside.clone(), won.clone());
        move || {
            let id = id(&if shared {
                "same".to_owned()
            } else {
                format!("c{thread}")
            });
            for round in 0..ROUNDS {
                match store.claim(&id, &record(&id)) {
                    Ok(mut slot) => {
                        let others = inside.fetch_add(1, Ordering::SeqCst);
                        assert!(!shared || others == 0, "two hold one lock");
                        let mut next = slot.record().clone();
                        next.pid = i32::try_from(thread * ROUNDS + round).unwrap();
                        slot.write(next.clone()).unwrap();
                        assert_eq!(store.read(&id).unwrap(), next);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        won.fetch_add(1, Ordering::SeqCst);
                        drop(slot);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}"),
                }
                match store.read(&id) {
                    Ok(record) => assert_eq!(record.id, id.as_str()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
                store.ids().unwrap();
                match store.lock(&id) {
                    Ok(slot) => {
                        let others = inside.fetch_add(1, Ordering::SeqCst);
                        assert!(!shared || others == 0, "two hold one lock");
                        inside.fetch_sub(1, Ordering::SeqCst);
                        slot.retire().unwrap().remove().unwrap();
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
            }
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| thread::spawn(work(thread))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let won = won.load(Ordering::SeqCst);
    assert!(if shared { won > 0 } else { won == THREADS * ROUNDS }, "{won}");
    assert!(store.ids().unwrap().is_empty());
    assert_eq!(names(store.root()), Vec::<String>::new());
}

#[test]
fn eight_threads_on_one_id() {
    race(true);
}

#[test]
fn eight_threads_on_their_own_ids() {
    race(false);
}

#[test]
fn a_root_in_which_everybody_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_base, store) = store();
    let c1 = id("c1");
    drop(store.claim(&c1, &record(&c1)).unwrap());
    for mode in [0o777, 0o1777, 0o702] {
        std::fs::set_permissions(store.root(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = store.read(&c1).unwrap_err().to_string();
        assert!(error.contains("writable by everybody"), "{mode:o}: {error}");
        assert!(store.claim(&id("c2"), &record(&id("c2"))).is_err(), "{mode:o}");
    }
    std::fs::set_permissions(store.root(), std::fs::Permissions::from_mode(0o775)).unwrap();
    assert!(store.read(&c1).is_ok());
}

#[test]
fn another_users_directory_is_looked_at_and_nothing_more() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can give files away
    }
    let (_temp, store) = store();
    let c1 = id("c1");
    drop(store.claim(&c1, &record(&c1)).unwrap());
    let dir = store.root().join("c1");
    let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
    give(&dir, 64_123);
    assert!(store.look(&c1).is_ok() && store.ids().unwrap() == [c1.clone()]);
    for error in [
        store.view(&c1).unwrap_err(),
        store.lock(&c1).unwrap_err(),
        store.find(&c1, None).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("belongs to user 64123"), "{error}");
    }
    give(&dir, 0);
    assert!(store.view(&c1).is_ok());
    // Who owns the root alone cannot write records, but chooses what is called like a leftover.
    give(store.root(), 64_123);
    assert!(store.lock(&c1).is_ok());
    std::fs::create_dir(store.root().join("@gone-1")).unwrap();
    store.ids().unwrap();
    assert!(store.root().join("@gone-1").exists());
    give(store.root(), 0);
    store.ids().unwrap();
    assert!(!store.root().join("@gone-1").exists());
}

#[test]
fn a_fifo_for_a_record_is_not_waited_for() {
    let (_temp, store) = store();
    let c1 = id("c1");
    drop(store.claim(&c1, &record(&c1)).unwrap());
    let state = store.root().join("c1").join(STATE);
    std::fs::remove_file(&state).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &state, FileType::Fifo, mode, 0).unwrap();
    assert_eq!(store.read(&c1).unwrap_err().kind(), ErrorKind::Internal);
}

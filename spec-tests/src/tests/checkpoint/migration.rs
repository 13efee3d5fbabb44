//! Runs in: SUITE. Checkpoints whose memory goes another way than with the other files: earlier, later, over
//! the network. By a real criu.

use crate::{
    case::Case,
    need::Need,
    outcome::{Check, ensure, same},
    runner::{self, Live},
    tests::checkpoint::{
        CRIU, checkpoint, count, goes_on_after, images, restore, start, start_counter, text, wait_for_count,
    },
};
use std::{fs, process::Stdio, time::Duration};

tests! {
    checkpoint/page_server: CRIU,
    checkpoint/pre_dump: &[Criu("mem_dirty_track")],
    checkpoint/lazy_pages: LAZY,
    checkpoint/lazy_migration: LAZY,
}

const LAZY: &[Need] = &[Need::Criu("uffd-noncoop")];

/// A free port, for a moment.
fn port() -> Check<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// criu, as a daemon of the suite's own.
fn criu(c: &Case, words: &[&str]) -> Check<Live> {
    let mut line = std::process::Command::new("criu");
    line.args(words)
        .env("PATH", crate::host::PATH)
        .current_dir(&c.dir);
    line.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    runner::start_with_own_stdio(&mut line, c.dir.join("none"), c.dir.join("none"))
}

fn wait_for_listener(c: &Case, port: u16) -> Check {
    let line = format!(":{port:04X} 00000000:0000 0A");
    c.wait_until("the page server", || {
        Ok(fs::read_to_string("/proc/net/tcp")?.contains(&line))
    })
}

fn page_server(c: &mut Case) -> Check {
    start_counter(c)?;
    let port = port()?;
    fs::create_dir(images(c))?;
    let folder = text(&images(c));
    let number = port.to_string();
    let server = criu(
        c,
        &[
            "page-server",
            "--images-dir",
            &folder,
            "--address",
            "127.0.0.1",
            "--port",
            &number,
        ],
    )?;
    wait_for_listener(c, port)?;
    checkpoint(c, &["--page-server", &format!("127.0.0.1:{port}")])?.ok()?;
    server.finish()?.ok()?;
    goes_on_after(c, || restore(c, &[]).map(drop))
}

fn pre_dump(c: &mut Case) -> Check {
    start_counter(c)?;
    let first = text(&c.dir.join("first"));
    c.rt(&["checkpoint", "--pre-dump", "--image-path", &first, &c.id])?
        .ok()?;
    same("status after --pre-dump", "running".to_owned(), c.status()?)?;
    let at = count(c);
    wait_for_count(c, at + 2)?;
    checkpoint(c, &["--parent-path", "../first"])?.ok()?;
    ensure!(
        images(c).join("parent").exists(),
        "the images do not know their parent"
    );
    goes_on_after(c, || restore(c, &[]).map(drop))
}

/// `checkpoint --lazy-pages`, which waits to be asked for pages when this returns.
fn start_lazy_dump(c: &Case, port: u16) -> Check<Live> {
    let folder = text(&images(c));
    let server = format!("127.0.0.1:{port}");
    let status = c.dir.join("status");
    let inner = c.command();
    // The shell gives the descriptor its number.
    let shell = "status=$1; shift; exec \"$@\" 9> \"$status\"";
    let mut line = std::process::Command::new("/bin/sh");
    line.args(["-c", shell, "sh"]).arg(&status);
    line.arg(inner.get_program()).args(inner.get_args());
    line.args(["checkpoint", "--lazy-pages", "--status-fd", "9", "--image-path"]);
    line.args([&folder, "--page-server", &server, &c.id]);
    line.env_clear().env("PATH", &c.host.path);
    line.current_dir(&c.dir).stdin(Stdio::null());
    let dump = runner::start(&mut line, &c.dir)?;
    c.wait_until("the byte of --status-fd", || {
        Ok(fs::read(&status).unwrap_or_default() == [0])
    })?;
    Ok(dump)
}

fn lazy_pages(c: &mut Case) -> Check {
    start_counter(c)?;
    let port = port()?;
    let dump = start_lazy_dump(c, port)?;
    // criu waits for whoever wants the pages. One who wants none ends it, and the container.
    drop(std::net::TcpStream::connect(("127.0.0.1", port))?);
    dump.finish_within(Duration::from_secs(60))?;
    Ok(())
}

/// How much the container of a lazy migration has in memory, in bytes: more than criu would save anyway.
const LOAD: u64 = 2 << 20;

/// The whole way, as `criu lazy-pages` describes it: the processes run on under another id before their
/// memory is there, and it comes from the old ones, which stand still until then.
fn lazy_migration(c: &mut Case) -> Check {
    c.shell(&format!(
        "load=$(head -c {LOAD} /dev/zero | tr '\\0' x); echo \"$load\" | md5sum > /sum; {COUNTER_WITH_SUM}"
    ));
    start(c)?;
    wait_for_count(c, 3)?;
    let port = port()?;
    let dump = start_lazy_dump(c, port)?;
    let before = count(c);
    let saved: u64 = fs::read_dir(images(c))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"))
        .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .sum();
    ensure!(saved < LOAD, "{saved} bytes of memory are in the images already");

    let work = c.dir.join("work");
    fs::create_dir(&work)?;
    let (folder, work_text, number) = (text(&images(c)), text(&work), port.to_string());
    let words = ["lazy-pages", "--images-dir", &folder, "--work-dir", &work_text];
    let server = ["--page-server", "--address", "127.0.0.1", "--port", &number];
    let daemon = criu(c, &[&words[..], &server[..]].concat())?;
    c.wait_until("the daemon's socket", || {
        Ok(work.join("lazy-pages.socket").exists())
    })?;

    let old = c.id.clone();
    c.id.push('b');
    c.set_cgroup_leaf("other");
    restore(c, &["--lazy-pages", "--work-path", &work_text])?;
    same("status", "running".to_owned(), c.status()?)?;
    wait_for_count(c, before + 2)?;
    ensure!(count(c) < before + 200, "the count has jumped from {before}");
    // What it holds in memory is asked for page by page, and must be what it was.
    fs::write(c.rootfs("ask"), "")?;
    c.wait_until("the sum of what is in memory", || {
        Ok(fs::read(c.rootfs("sum.now")).is_ok_and(|sum| !sum.is_empty()))
    })?;
    let sum = |name: &str| fs::read_to_string(c.rootfs(name));
    same("what is in memory", sum("sum")?, sum("sum.now")?)?;

    dump.finish_within(Duration::from_secs(60))?.ok()?;
    daemon.finish_within(Duration::from_secs(60))?.ok()?;
    c.rt(&["state", &old])?.refused_with("does not exist")?;
    same("status", "running".to_owned(), c.status()?)?;
    c.delete()?;
    c.nothing_left()
}

/// As [`COUNTER`](crate::tests::checkpoint::COUNTER), and on demand it sums up what `$load` holds.
const COUNTER_WITH_SUM: &str = "i=0; while :; do i=$((i+1)); ln -s $i /count.new; mv /count.new /count; \
     if test -e /ask; then rm /ask; echo \"$load\" | md5sum > /sum.new; mv /sum.new /sum.now; fi; usleep 100000; done";

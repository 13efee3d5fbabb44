//! Runs in: SUITE. The initial ramfs of a machine: a `newc` cpio archive of files, folders and links, written
//! to a file. Programs come with their libraries.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Grows in memory: some ten megabytes.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    /// Every path so far; the kernel unpacks a file only into a folder that came before it.
    paths: BTreeSet<PathBuf>,
}

/// The last component of a path, as text: programs are named in shell scripts of the machine.
pub(crate) fn name_of(path: &Path) -> io::Result<&str> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        let text = format!("{}: a machine takes plain file names only", path.display());
        return Err(io::Error::other(text));
    }
    Ok(name)
}

impl Archive {
    /// A regular file with these contents. `path` is relative to the root; missing parents are made.
    pub(crate) fn data(&mut self, path: impl AsRef<Path>, mode: u32, data: &[u8]) -> io::Result<()> {
        self.parents(path.as_ref())?;
        self.entry(path.as_ref(), REGULAR | mode, data)
    }

    /// A copy of a file of the host, with its permissions.
    pub(crate) fn file(&mut self, source: &Path, path: impl AsRef<Path>) -> io::Result<()> {
        let read = || {
            Ok((
                fs::metadata(source)?.permissions().mode() & 0o7777,
                fs::read(source)?,
            ))
        };
        let (mode, data) = read().map_err(|e: io::Error| naming(source, &e))?;
        self.data(path, mode, &data)
    }

    /// The files of a folder of the host, which has no folders in it.
    pub(crate) fn folder(&mut self, source: &Path, path: &str) -> io::Result<()> {
        for entry in fs::read_dir(source).map_err(|e| naming(source, &e))? {
            let file = entry?;
            self.file(&file.path(), Path::new(path).join(file.file_name()))?;
        }
        Ok(())
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents(Path::new(path))?;
        self.entry(Path::new(path), LINK | 0o777, target.as_bytes())
    }

    /// A program of the host as `path`, its libraries into `payload/root`, whence the machine copies those
    /// that its root lacks.
    pub(crate) fn program(&mut self, source: &Path, path: impl AsRef<Path>) -> io::Result<()> {
        let source = fs::canonicalize(source).map_err(|e| naming(source, &e))?;
        match stripped(&source) {
            Some(data) => self.data(path, 0o755, &data)?,
            None => self.file(&source, path)?,
        }
        for library in libraries(&source)? {
            // Both machines have a merged /usr.
            let inside = library.strip_prefix("/").unwrap_or(&library);
            let merged = if inside.starts_with("usr") {
                inside.to_owned()
            } else {
                Path::new("usr").join(inside)
            };
            let path = Path::new("payload/root").join(merged);
            if !self.paths.contains(&path) {
                self.file(&library, path)?;
            }
        }
        Ok(())
    }

    /// Ends the archive and writes it.
    pub(crate) fn write(mut self, file: &Path) -> io::Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        fs::write(file, &self.bytes)
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        let parents: Vec<&Path> = path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            if parent != Path::new("") && !self.paths.contains(parent) {
                self.entry(parent, FOLDER | 0o755, &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::other(format!("{}: too large for a cpio archive", path.display()));
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name = path.as_os_str().as_bytes();
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let number = u32::try_from(self.paths.len() + 1).map_err(too_large)?;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        self.bytes.extend(b"070701");
        // inode, mode, uid, gid, links, mtime, size, device (2), device of the node (2), size of the name,
        // checksum
        for field in [number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
        self.paths.insert(path.to_owned());
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The program without debug information, which would only cost boot time; `None` where `strip` is not there
/// or does not know the file.
fn stripped(program: &Path) -> Option<Vec<u8>> {
    let output = Command::new("strip")
        .args(["--strip-debug", "-o", "/dev/stdout"])
        .arg(program)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let whole = output.status.success() && output.stdout.starts_with(b"\x7fELF");
    whole.then_some(output.stdout)
}

/// The libraries of a dynamic program, the loader among them; none for a static one.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(line) = text.lines().find(|l| l.contains("not found")) {
        return Err(io::Error::other(format!(
            "{}: {}",
            program.display(),
            line.trim()
        )));
    }
    let words = text
        .split_whitespace()
        .filter(|w| w.starts_with('/') && !w.ends_with(':'));
    Ok(words.map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn parents_come_first_and_once() -> std::io::Result<()> {
        let mut archive = Archive::default();
        archive.data("a/b/one", 0o644, b"1")?;
        archive.data("a/b/two", 0o644, b"22")?;
        let text = String::from_utf8_lossy(&archive.bytes).into_owned();
        let order: Vec<usize> = ["a\0", "a/b\0", "a/b/one\0", "a/b/two\0"]
            .iter()
            .filter_map(|name| text.find(name))
            .collect();
        assert_eq!(order.len(), 4);
        assert!(order.is_sorted());
        assert_eq!(text.matches("070701").count(), 4);
        assert_eq!(archive.bytes.len() % 4, 0);
        Ok(())
    }
}

//! Commands: programs, arguments, environment, standard streams and descriptors.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use common::command_output::*;
use common::*;
use exitring::{Command, Environment, Outcome, Stdio, Watcher};

/// A new directory for the files of one test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("exitring-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn arguments_arrive_as_given() {
    let text = output_of("printf '<%s>' \"$0\" \"$@\"", |command| {
        command.args(["zero", "", "a b", "ä\n"]);
    });
    assert_eq!(text, "<zero><><a b><ä\n>");
    // The name selects what some programs do.
    if fs::read_link("/bin/cat").is_ok_and(|target| target.ends_with("busybox")) {
        return println!("not tested: the shell is a name of busybox");
    }
    let text = output_of("exec cat /proc/$$/cmdline", |command| {
        command.arg0("-name");
    });
    assert_eq!(text.split('\0').next(), Some("cat"));
    let mut command = Command::new("cat");
    command
        .arg("/proc/self/cmdline")
        .arg0("renamed")
        .stdout(Stdio::piped());
    assert_eq!(output(&mut command), "renamed\0/proc/self/cmdline\0");
}

#[test]
fn the_environment_is_inherited_changed_or_replaced() {
    let script = "printf '%s|%s|%s' \"$A\" \"$B\" \"${PATH:+path}\"";
    let inherited = output_of(script, |command| {
        command.env("A", "1").envs([("B", "2")]);
    });
    assert_eq!(inherited, "1|2|path");
    let snapshot = Environment::current();
    let text = output_of(script, |command| {
        command
            .env("A", "forgotten")
            .environment(&snapshot)
            .env("B", "=3");
    });
    assert_eq!(text, "|=3|path");
    // Found in the default PATH.
    let mut command = Command::new("cat");
    command
        .arg("/proc/self/environ")
        .stdout(Stdio::piped())
        .env("FORGOTTEN", "x")
        .env_clear()
        .env("ONLY", "this")
        .env("GONE", "x")
        .env_remove("GONE");
    assert_eq!(output(&mut command), "ONLY=this\0");
}

#[test]
fn the_program_is_searched_for_in_the_path_of_the_child() {
    let directory = Directory::new("search");
    directory.script("found-by-name", "#!/bin/sh\necho first\n");
    let mut command = Command::new("found-by-name");
    command.env("PATH", &directory.0).stdout(Stdio::piped());
    assert_eq!(output(&mut command), "first\n");
    // A file that may not be executed is skipped, and so is a directory.
    let empty = Directory::new("search-empty");
    fs::write(empty.0.join("found-by-name"), "").unwrap();
    let path = format!("{}:/nowhere:{}", empty.0.display(), directory.0.display());
    let mut command = Command::new("found-by-name");
    command.env("PATH", &path).stdout(Stdio::piped());
    assert_eq!(output(&mut command), "first\n");
    // The path is remembered; a program that goes away is found elsewhere, and one that moves too.
    directory.script("found-by-name", "#!/bin/sh\necho second\n");
    assert_eq!(output(&mut command), "second\n");
    fs::remove_file(directory.0.join("found-by-name")).unwrap();
    fs::remove_file(empty.0.join("found-by-name")).unwrap();
    empty.script("found-by-name", "#!/bin/sh\necho moved\n");
    assert_eq!(output(&mut command), "moved\n");
}

#[test]
fn relative_paths_are_relative_to_the_directory_of_the_child() {
    let directory = Directory::new("relative");
    directory.script("here", "#!/bin/sh\npwd\n");
    let real = fs::canonicalize(&directory.0).unwrap();
    for (program, path) in [("./here", "/nowhere"), ("here", ":/nowhere"), ("here", ".")] {
        let mut command = Command::new(program);
        command
            .current_dir(&directory.0)
            .env("PATH", path)
            .stdout(Stdio::piped());
        assert_eq!(
            output(&mut command).trim_end(),
            real.to_str().unwrap(),
            "{program} {path}"
        );
    }
}

#[test]
fn standard_streams_are_inherited_null_piped_or_files() {
    let directory = Directory::new("streams");
    let log = directory.0.join("log");
    let watcher = Watcher::new().unwrap();
    let file = File::create(&log).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "cat; echo end >&2; cat < /dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(file);
    // A command can be started again, with the same file.
    for _ in 0..2 {
        let child = watcher.spawn(&mut command).unwrap();
        child.stdin.take().unwrap().write_all(b"hello").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.stdout, output.stderr), (b"hello".into(), vec![]));
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "end\nend\n");
    let kinds = "readlink /proc/self/fd/0 && readlink /proc/$$/fd/2 && readlink /proc/$$/fd/1";
    let text = output_of(kinds, |command| {
        command.stdin(Stdio::null()).stderr(Stdio::null());
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["/dev/null", "/dev/null"]);
    assert!(lines[2].starts_with("pipe:"), "{text}");
}

/// A file with this text, open at its start.
fn file_with(directory: &Path, name: &str, text: &str) -> File {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    File::open(path).unwrap()
}

#[test]
fn descriptors_are_mapped_also_crosswise() {
    let directory = Directory::new("mapped");
    let text = output_of("cat <&3; cat <&9; cat <&4", |command| {
        command
            .descriptor(9, file_with(&directory.0, "nine", "9"))
            .descriptor(3, file_with(&directory.0, "three", "3"))
            .descriptor(4, file_with(&directory.0, "four", "4"));
    });
    assert_eq!(text, "394");
    // In a process of its own the numbers can be chosen.
    if !in_own_process() {
        return run_in_own_process("descriptors_are_mapped_also_crosswise", |_| ());
    }
    use std::os::fd::{AsRawFd, FromRawFd};
    let at = |number: i32, text: &str| {
        let file = file_with(&directory.0, text, text);
        // SAFETY: the number is not in use, as asserted.
        unsafe {
            assert_eq!(libc::fcntl(number, libc::F_GETFD), -1);
            assert_eq!(
                libc::dup3(file.as_raw_fd(), number, libc::O_CLOEXEC),
                number
            );
            OwnedFd::from_raw_fd(number)
        }
    };
    let text = output_of("cd /proc/self/fd; cat 60 61 62 63", |command| {
        command
            .descriptor(61, at(60, "a"))
            .descriptor(62, at(61, "b"))
            .descriptor(60, at(62, "c"))
            .descriptor(63, at(63, "d"));
    });
    assert_eq!(text, "cabd");
    // The highest number leaves none above it for the other.
    limit_descriptors(64);
    let text = output_of("cd /proc/self/fd; cat 62 63", |command| {
        command
            .descriptor(62, at(63, "e"))
            .descriptor(63, at(62, "f"));
    });
    assert_eq!(text, "ef");
    // The files of this process keep their close-on-exec flag.
    let open = output_of("ls /proc/$$/fd", |_| ());
    assert!(
        !open
            .lines()
            .any(|number| ["60", "61", "62", "63"].contains(&number)),
        "{open}"
    );
}

#[test]
fn a_file_that_is_open_for_writing_is_retried() {
    let directory = Directory::new("busy");
    let program = directory.0.join("program");
    let shell = ["/bin/sh", "/bin/busybox"]
        .into_iter()
        .find_map(|path| fs::read(path).ok());
    fs::write(&program, shell.unwrap()).unwrap();
    let mut permissions = fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&program, permissions).unwrap();
    let writer = File::options().append(true).open(&program).unwrap();
    let watcher = Watcher::new().unwrap();
    let mut command = Command::new(&program);
    command.arg0("sh").args(["-c", "exit 7"]);
    // It stays open: the error of the kernel.
    let error = watcher.spawn(&mut command).unwrap_err();
    assert!(message(error).contains("busy"), "ETXTBSY is reported");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            drop(writer);
        });
        let child = watcher.spawn(&mut command).unwrap();
        assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(7));
    });
}

#[test]
fn a_command_of_the_standard_library_is_accepted() {
    let watcher = Watcher::new().unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "echo std"])
        .stdout(std::process::Stdio::piped());
    let output = watcher
        .spawn(&mut command)
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.stdout, b"std\n");
}

#[test]
fn a_child_reads_what_its_own_thread_of_the_parent_writes() {
    let watcher = Watcher::new().unwrap();
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = watcher.spawn(&mut command).unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let big = vec![b'x'; 1 << 20];
    let mut read = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&big).unwrap();
            drop(stdin);
        });
        stdout.read_to_end(&mut read).unwrap();
    });
    assert_eq!(read.len(), big.len());
    assert!(child.wait().unwrap().success());
}

#[test]
fn clones_and_views_of_a_command() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exit 3"])
        .env("A", "1")
        .env_remove("B")
        .current_dir("/");
    let clone = command.clone();
    assert_eq!(clone.get_program(), "sh");
    assert_eq!(clone.get_args().collect::<Vec<_>>(), ["-c", "exit 3"]);
    let envs: Vec<_> = clone.get_envs().collect();
    assert_eq!(
        envs,
        [("A".as_ref(), Some("1".as_ref())), ("B".as_ref(), None)]
    );
    assert_eq!(clone.get_current_dir(), Some(Path::new("/")));
    assert_eq!(format!("{clone:?}"), r#""sh" "-c" "exit 3""#);
    let watcher = Watcher::new().unwrap();
    for mut command in [command, clone] {
        let child = watcher.spawn(&mut command).unwrap();
        assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(3));
    }
}

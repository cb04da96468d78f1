//! `--report`: the file that the page is written to.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use common::html::report;
use common::{exitring, shell};

#[test]
fn the_file_is_replaced_as_a_whole_and_keeps_its_mode_and_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target.html");
    fs::write(&target, "earlier").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("target.html", dir.path().join("page.html")).unwrap();
    // The directory of the jobs is another one.
    fs::create_dir(dir.path().join("jobs")).unwrap();
    let (code, _) = report(dir.path(), &["--cwd", "jobs"], "true\n");
    assert_eq!(code, Some(0));
    assert!(dir.path().join("page.html").is_symlink());
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A new file has the mode that the umask leaves.
    let script = "umask 027; $EXITRING run -q --report new.html -- true ::: 1";
    shell(script).current_dir(dir.path()).assert().success();
    let mode = fs::metadata(dir.path().join("new.html"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("list"), "touch ran\n").unwrap();
    let cases = [
        ("--report dir list", "is a directory"),
        (
            "--report absent/page list",
            "cannot write the report absent/page",
        ),
        (
            "--report /proc/page list",
            "cannot write the report /proc/page",
        ),
        ("--report /dev/null list", "not a regular file"),
        ("--report '' list", "--report"),
        (
            "--report list list",
            "--report and the list name the same file",
        ),
        (
            "--report page - < list 2> page",
            "--report and standard error",
        ),
        ("--report new --joblog ./new list", "--report and --joblog"),
        (
            "--report new --trace dir/../new list",
            "--trace and --report",
        ),
        ("--report dir/2.err --log dir list", "--report and --log"),
    ];
    for (arguments, cause) in cases {
        let mut run = shell(&format!("$EXITRING run -q {arguments}"));
        let output = run.current_dir(dir.path()).output().unwrap();
        let text = match arguments.contains("2>") {
            true => fs::read_to_string(path("page")).unwrap(),
            false => String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert!(text.contains(cause), "{arguments}: {text}");
        assert!(
            !path("ran").exists() && !path("new").exists(),
            "{arguments}"
        );
        assert_eq!(fs::read_to_string(path("list")).unwrap(), "touch ran\n");
    }
    assert_eq!(fs::metadata("/dev/null").unwrap().len(), 0);
}

#[test]
fn a_full_disk_leaves_the_earlier_page_and_the_results_of_the_jobs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("page.html"), "earlier").unwrap();
    for (job, expected) in [("true", 3), ("false", 1)] {
        // Writes beyond the limit fail, as on a full disk.
        let script =
            format!("ulimit -f 4; $EXITRING run --report page.html -- {job} ::: 1; echo code $?");
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("code {expected}\n")
        );
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            text.matches("cannot write the report page.html").count(),
            1,
            "{text}"
        );
        assert!(text.contains("1 failed") == (job == "false"), "{text}");
        assert_eq!(
            fs::read_to_string(dir.path().join("page.html")).unwrap(),
            "earlier"
        );
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_dry_run_writes_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring([
        "run",
        "--dry-run",
        "--report",
        "page",
        "--trace",
        "trace",
        "--",
        "true",
        ":::",
        "1",
    ]);
    run.current_dir(dir.path()).assert().success();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

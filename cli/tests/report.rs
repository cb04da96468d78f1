//! `--report`: the page of a run.

mod common;

use std::fs;

use common::html::{Element, elements, report};
use common::{Started, exitring, signal, std_exitring, wait_until};
use serde_json::Value;

fn with_class<'a>(page: &'a [Element], class: &str) -> Vec<&'a Element> {
    let has = |element: &&Element| {
        element
            .attribute("class")
            .split(' ')
            .any(|one| one == class)
    };
    page.iter().filter(has).collect()
}

fn data(page: &[Element]) -> Value {
    let data = page
        .iter()
        .find(|element| element.attribute("id") == "data");
    serde_json::from_str(&data.unwrap().text).unwrap()
}

fn note(page: &[Element], words: &str) -> bool {
    with_class(page, "note")
        .iter()
        .any(|note| note.text.contains(words))
}

#[test]
fn the_page_shows_totals_timeline_and_failed_jobs_with_their_output() {
    let dir = tempfile::tempdir().unwrap();
    let list = "echo fine\n\
        echo first; echo second >&2; exit 3\n\
        /does/not/exist\n\
        sleep 1000\n\
        seq 3000; exit 4\n\
        test $EXITRING_ATTEMPT = 2\n";
    let options = [
        "-j",
        "2",
        "--timeout",
        "3s",
        "--grace",
        "50ms",
        "--retries",
        "1",
    ];
    let (code, page) = report(dir.path(), &options, list);
    assert_eq!(code, Some(1));
    let title = page.iter().find(|element| element.name == "title").unwrap();
    assert_eq!(title.text, "exitring run: 6 jobs, 4 failed");
    let totals = page
        .iter()
        .find(|element| element.attribute("class") == "totals")
        .unwrap();
    for total in [
        "succeeded2",
        "failed4",
        "of them timed out1",
        "of them not started1",
        "failed attempts run again4",
    ] {
        assert!(totals.text.contains(total), "{}", totals.text);
    }

    let failures = with_class(&page, "failure");
    let mut numbers: Vec<_> = failures
        .iter()
        .map(|failure| failure.attribute("data-job"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["2", "3", "4", "5"]);
    let of = |job: &str| {
        let failure = failures
            .iter()
            .find(|failure| failure.attribute("data-job") == job);
        &failure.unwrap().text
    };
    assert!(of("2").contains("exit code 3, 2 attempts"), "{}", of("2"));
    // Of the last attempt only.
    assert_eq!(of("2").matches("first\n").count(), 1, "{}", of("2"));
    assert!(of("2").contains("second\n"));
    assert!(of("3").contains("not started") && of("3").contains("/does/not/exist"));
    assert!(of("4").contains("timed out") && of("4").contains("It wrote nothing."));
    assert!(of("5").contains("The end of its output") && of("5").ends_with("2999\n3000\n"));
    assert!(!of("5").contains("\n1\n"));

    let data = data(&page);
    assert_eq!(data["slots"], 2);
    let attempts = data["attempts"].as_array().unwrap();
    let kinds = |job: u64| {
        let of_job = attempts.iter().filter(|attempt| attempt[4] == job);
        let mut kinds: Vec<_> = of_job
            .map(|attempt| (attempt[5].as_u64(), attempt[3].as_u64()))
            .collect();
        kinds.sort_unstable();
        kinds
            .into_iter()
            .map(|(_, kind)| kind.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        [1, 2, 3, 4, 5, 6].map(kinds),
        [
            vec![0],
            vec![4, 1],
            vec![1],
            vec![4, 2],
            vec![4, 1],
            vec![4, 5]
        ]
    );
    assert_eq!(with_class(&page, "distribution").len(), 3);
    let table = page
        .iter()
        .find(|element| element.attribute("id") == "most")
        .unwrap();
    assert!(table.text.contains("sleep 1000") && table.text.contains("(attempt 2)"));
}

#[test]
fn hostile_commands_and_output_are_inert() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "--><img src=x onerror=alert(2)>",
        "\" onmouseover=\"alert(3)",
        "&lt;&#0;&unknown;",
        "</pre></details></body></html>",
        "]]><![CDATA[",
        "\u{202e}\u{2028}'\\u003c",
    ];
    let mut run = exitring([
        "run",
        "-q",
        "--report",
        "page.html",
        "--",
        "sh",
        "-c",
        "printf '%s\\n\\033[1m\\0\\377' \"$0\"; exit 1",
    ]);
    let output = run
        .arg(":::")
        .args(hostile)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = fs::read_to_string(dir.path().join("page.html")).unwrap();
    let page = elements(&text);
    // Those of the page: its data, and its script.
    assert_eq!(
        page.iter()
            .filter(|element| element.name == "script")
            .count(),
        2
    );
    assert!(page.iter().all(|element| element.name != "img"));
    let mut handlers = page.iter().flat_map(|element| element.attributes.keys());
    assert!(handlers.all(|name| !name.starts_with("on")));
    let failures = with_class(&page, "failure");
    assert_eq!(failures.len(), hostile.len());
    let data = data(&page);
    for text in hostile {
        // A shell's quotes would divide it there.
        let word = text.split('\'').next().unwrap();
        // In the command and in the output.
        let shown = |element: &&&Element| element.text.matches(word).count() == 2;
        assert!(
            failures.iter().any(|element| shown(&element)),
            "{text}: {failures:?}"
        );
        let names = data["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| attempt[6].as_str().unwrap());
        assert!(
            names.clone().any(|name| name.contains(word)),
            "{text}: {data}"
        );
    }
    // The page refers to nothing.
    for foreign in ["http:", "https:", "@import", "url(", "src=\"", "href="] {
        assert!(!text.contains(foreign), "{foreign}");
    }
    assert!(text.contains("default-src 'none'"));
}

#[test]
fn all_failed_jobs_of_a_long_list_are_there_up_to_a_number_that_the_page_says() {
    let dir = tempfile::tempdir().unwrap();
    for (failing, shown) in [(300, 300), (1100, 1000)] {
        let list = "sh -c 'exit 7'\ntrue\n".repeat(failing);
        let (code, page) = report(dir.path(), &["-j", "4", "--discard"], &list);
        assert_eq!(code, Some(1));
        assert_eq!(with_class(&page, "failure").len(), shown);
        assert_eq!(
            data(&page)["attempts"].as_array().unwrap().len(),
            2 * failing
        );
        assert_eq!(note(&page, "first 1,000 of 1,100"), failing > 1000);
        assert!(note(&page, "did not pass through exitring"));
    }
}

#[test]
fn the_output_is_read_from_log_files() {
    let dir = tempfile::tempdir().unwrap();
    let list = "seq 100000; echo why >&2; exit 1\n";
    let (code, page) = report(dir.path(), &["--log", "logs"], list);
    assert_eq!(code, Some(1));
    let text = &with_class(&page, "failure")[0].text;
    assert!(
        text.contains("\n100000\nwhy\n") && !text.contains("\n90000\n"),
        "{text}"
    );
}

#[test]
fn an_interrupted_run_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = std_exitring([
        "run",
        "-q",
        "--report",
        "page.html",
        "--",
        "sh",
        "-c",
        "touch ran; sleep 1000",
        ":::",
        "1",
    ]);
    let mut run = Started::new(run.current_dir(dir.path()));
    wait_until("the job", || dir.path().join("ran").exists());
    assert!(!dir.path().join("page.html").exists());
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    let page = elements(&fs::read_to_string(dir.path().join("page.html")).unwrap());
    let data = data(&page);
    assert_eq!(data["marks"][0][1], "interrupted (SIGTERM)");
    assert_eq!(data["attempts"][0][3], 3);
    assert!(with_class(&page, "failure").is_empty());
    // Nothing else is left behind.
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    assert_eq!(names, ["page.html", "ran"]);
}

#[test]
fn an_empty_list_and_a_resumed_run_have_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (code, page) = report(dir.path(), &[], "");
    assert_eq!(code, Some(0));
    assert!(note(&page, "No job was run."));
    let list = "true\nfalse\n";
    report(dir.path(), &["--joblog", "log"], list);
    let (code, page) = report(dir.path(), &["--joblog", "log", "--resume"], list);
    assert_eq!(code, Some(1));
    let totals = with_class(&page, "totals")[0];
    assert!(
        totals.text.contains("done by an earlier run2"),
        "{}",
        totals.text
    );
}

#[test]
fn flaky_slow_and_repeated_jobs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = [
        "-j1",
        "--retries",
        "1",
        "--repeat",
        "2",
        "--slow-after",
        "100ms",
    ];
    let list = "test $EXITRING_ATTEMPT = 2\nsleep 0.2\nsleep 0.2; exit 3\n";
    let (code, page) = report(dir.path(), &options, list);
    assert_eq!(code, Some(1));
    let totals = &with_class(&page, "totals")[0].text;
    assert!(totals.contains("flaky2"), "{totals}");
    // A busy machine may make the flaky jobs slow, too.
    assert!(!with_class(&page, "slow").is_empty(), "{totals}");
    let legend = &with_class(&page, "legend")[0].text;
    for name in ["succeeded", "failed, run again", "flaky", "slow"] {
        assert!(legend.contains(name), "{legend}");
    }
    let results: Vec<_> = page
        .iter()
        .filter(|element| element.name == "td" && element.attribute("class").contains("text "))
        .map(|element| &*element.text)
        .collect();
    for parts in [
        ["flaky, succeeded (attempt 2)", "repeat 1"],
        ["flaky, succeeded (attempt 2)", "repeat 2"],
        ["succeeded, slow", "repeat 1"],
        ["exit code 3 (attempt 2), slow", "repeat 2"],
    ] {
        let named = |result: &&&str| parts.iter().all(|part| result.contains(part));
        assert!(
            results.iter().any(|result| named(&result)),
            "{parts:?}: {results:?}"
        );
    }
    let failures = with_class(&page, "failure");
    assert_eq!(failures.len(), 2);
    assert!(
        failures
            .iter()
            .all(|job| job.text.contains(", slow, repeat "))
    );
    let data = data(&page);
    for attempt in data["attempts"].as_array().unwrap() {
        let (job, kind) = (attempt[4].as_u64().unwrap(), attempt[3].as_u64().unwrap());
        assert_eq!(attempt[9], job.div_ceil(3));
        let slept = job % 3 != 1;
        assert!(!slept || attempt[8] == 1, "{attempt}");
        let last = attempt[5] == 2 || job % 3 == 2;
        let expected = [[4, 5], [0, 0], [4, 1]][(job as usize - 1) % 3][usize::from(last)];
        assert_eq!(kind, expected, "{attempt}");
    }
}

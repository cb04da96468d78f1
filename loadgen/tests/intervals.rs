//! Intervals of ratios, and rounds that are added until they are narrow.

mod common;

use common::{Scratch, assert_fits_the_schema, loadgen, measure, text};
use serde_json::Value;

const STORM: [&str; 5] = ["storm", "--children", "50", "--with", "exitring,wait-loop"];

/// The ratio of a metric of the second contestant.
fn ratio<'a>(json: &'a Value, metric: &str) -> &'a Value {
    &json["summary"][1]["metrics"][metric]["ratio"]
}

#[test]
fn six_rounds_have_intervals_and_verdicts_and_five_have_none() {
    let scratch = Scratch::new("intervals");
    let (table, json) = measure(&scratch, &[&STORM[..], &["--repeat", "6"]].concat());
    assert_fits_the_schema(&json);
    assert_eq!(json["summary"][0]["is_reference"], true);
    let drain = ratio(&json, "drain");
    assert_eq!(drain["rounds"], 6);
    let value = |value: &Value| value.as_f64().expect("a number");
    let (low, high) = (&drain["interval"]["low"], &drain["interval"]["high"]);
    let median = value(&drain["median"]);
    assert!(value(low) <= median && median <= value(high), "{drain}");
    // The wait loop holds no descriptors, and exitring the same number in each round.
    let descriptors = ratio(&json, "fds");
    assert_eq!(descriptors["verdict"], "less", "{descriptors}");
    assert!(
        table.contains("95 % interval, from 10,000 bootstrap"),
        "{table}"
    );

    let (table, json) = measure(&scratch, &[&STORM[..], &["--repeat", "5"]].concat());
    assert_fits_the_schema(&json);
    assert!(ratio(&json, "drain")["interval"].is_null());
    assert!(ratio(&json, "drain")["verdict"].is_null());
    assert!(table.contains("too few rounds for an interval"), "{table}");
}

#[test]
fn rounds_are_added_until_the_limit_and_wide_intervals_are_named() {
    let scratch = Scratch::new("until-width");
    // No interval of times is so narrow.
    let narrow = ["--until-width", "0.0001%", "--max-rounds", "8"];
    let (table, json) = measure(&scratch, &[&STORM[..], &narrow].concat());
    assert_fits_the_schema(&json);
    assert_eq!(json["summary"][1]["rounds"], 8);
    let warnings = json["warnings"].as_array().expect("warnings").iter();
    let mut wide = warnings.filter(|warning| warning["warning"] == "wide-interval");
    let warning = wide.next().expect("the interval is wide");
    assert_eq!(warning["title"], "bare wait loop");
    assert_eq!(warning["rounds"], 8);
    assert_eq!(wide.next(), None, "the reference has no interval");
    assert!(table.contains("bare wait loop: the interval"), "{table}");
    assert!(table.contains("after 8 rounds"), "{table}");

    // The least number of rounds is that of an interval, or that of --repeat.
    for (least, rounds) in [("1", 6), ("7", 7)] {
        let wide = [
            "--until-width",
            "100%",
            "--repeat",
            least,
            "--max-rounds",
            "7",
        ];
        let (_, json) = measure(&scratch, &[&STORM[..], &wide].concat());
        let made = json["summary"][1]["rounds"].as_u64();
        assert!(made >= Some(rounds) && made <= Some(7), "{made:?}");
    }
}

#[test]
fn a_condition_asserts_the_end_of_an_interval() {
    for (condition, code) in [
        ("wait-loop:fds-ratio-high>=1", 0),
        ("wait-loop:fds-ratio-low<1", 1),
        ("wait-loop:ratio-high<0.0001", 0),
    ] {
        let arguments = [&STORM[..], &["--repeat", "6", "--fail-if", condition]].concat();
        let output = loadgen(&arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{condition}: {stderr}");
    }
}

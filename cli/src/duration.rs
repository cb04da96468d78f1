//! Durations, as the command line takes them and as people read them.

use std::time::Duration;

use jiff::SignedDuration;

use crate::locale;

/// Parses `90`, `1.5` (seconds), `300ms`, `1m30s`, `2 hours`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const WANTED: &str =
        "a duration is a number of seconds, or like 300ms, 1m30s, 24h (there are no days)";
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| format!("{error}; {WANTED}"));
    }
    // The message of the parser speaks of its grammar.
    let duration: SignedDuration = text.parse().map_err(|_| WANTED.to_owned())?;
    Duration::try_from(duration).map_err(|_| format!("it is negative; {WANTED}"))
}

/// Parses a duration that is not zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(
            "zero would be over at once, for every job; for no limit, leave the option out".into(),
        ),
        duration => Ok(duration),
    }
}

/// Formats a duration for people: `850 µs`, `12.3 ms`, `1.2 s`, `1h 2m 3s`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..0.001 if locale::is_utf8() => format!("{:.0} µs", seconds * 1e6),
        ..0.001 => format!("{:.0} us", seconds * 1e6),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.2} s"),
        _ => format!("{:#}", SignedDuration::from_secs(duration.as_secs() as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_units_are_accepted_and_other_texts_are_refused() {
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        for invalid in ["", "-1", "-1s", "soon", "1e400", "nan", "5 parsecs", "1d"] {
            parse(invalid).expect_err(invalid);
        }
        for zero in ["0", "0s", "0.0", "0ms"] {
            assert_eq!(parse(zero), Ok(Duration::ZERO));
            parse_positive(zero).expect_err(zero);
        }
    }
}

//! Numbers and the output of jobs, as the page shows them.

use std::time::Duration;

use jiff::SignedDuration;

/// `850 µs`, `12.3 ms`, `1.25 s`, `1h 2m 3s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0 => "0 s".into(),
        ..0.001 => format!("{:.0} µs", seconds * 1e6),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.2} s"),
        _ => format!("{:#}", SignedDuration::from_secs(duration.as_secs() as i64)),
    }
}

/// `512 B`, `12.3 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    if value < 1024.0 {
        return format!("{bytes} B");
    }
    let mut unit = "";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let text = format!("{value:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// `1,234,567`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Output without escape sequences and control characters. A carriage return, by which a program
/// overwrites its line, becomes a line end.
pub(super) fn output(bytes: &[u8]) -> String {
    // The first character may have lost its first bytes.
    let continued = bytes
        .iter()
        .take(3)
        .take_while(|&&byte| byte & 0xC0 == 0x80);
    let text = String::from_utf8_lossy(&bytes[continued.count()..]);
    let text = anstream::adapter::strip_str(&text).to_string();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1 << 20), "1 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(duration(Duration::from_millis(1250)), "1.25 s");
    }

    #[test]
    fn output_is_plain_text() {
        assert_eq!(output(b"\x1b[31mred\x1b[0m\r\nx"), "red\nx");
        assert_eq!(output(b"10%\r20%\n"), "10%\n20%\n");
        assert_eq!(output(b"a\0b\x07\xff"), "ab\u{fffd}");
        assert_eq!(output("a\u{85}".as_bytes()), "a\u{fffd}");
        assert_eq!(output(&"€uro".as_bytes()[1..]), "uro");
    }
}

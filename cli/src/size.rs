//! Sizes in bytes, as the command line takes them and as people read them.

/// The units, from 1024 bytes up. A small letter is a power of 1000, as in GNU parallel.
const UNITS: &str = "KMGTP";

/// Parses `1048576`, `512M`, `1.5G`, `64KiB` (powers of 1024), and `512m` (powers of 1000).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const WANTED: &str = "a size is a number of bytes, or like 512M, 1.5G, 64KiB (powers of 1024) \
                          or 512m (powers of 1000)";
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(number_end.unwrap_or(text.len()));
    let number: f64 = number.parse().map_err(|_| WANTED.to_owned())?;
    let mut letters = unit.chars();
    let factor = match (letters.next(), letters.as_str()) {
        (None, _) | (Some('B'), "") => 1.0,
        (Some(letter), "" | "i" | "iB") => {
            let power = UNITS.find(letter.to_ascii_uppercase()).ok_or(WANTED)? as i32 + 1;
            match letter.is_ascii_uppercase() || letters.as_str() != "" {
                true => 1024_f64.powi(power),
                false => 1000_f64.powi(power),
            }
        }
        // 512MB is read as either.
        _ => return Err(WANTED.into()),
    };
    let bytes = (number * factor).round();
    // The largest size of a file, and far above any memory.
    match bytes < i64::MAX as f64 {
        true => Ok(bytes as u64),
        false => Err(format!("it is too large; {WANTED}")),
    }
}

/// Parses a size that is not zero.
pub(crate) fn parse_positive(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("with no memory nothing can run; for no limit, leave it out".into()),
        size => Ok(size),
    }
}

/// Formats a size for people: `640 B`, `1.5 GiB`.
pub(crate) fn show(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = None;
    for letter in UNITS.chars() {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = Some(letter);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(letter) => format!("{size:.1} {letter}iB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_gnu_parallel() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("640B", 640),
            ("512M", 512 << 20),
            ("1.5G", 3 << 29),
            ("64KiB", 64 << 10),
            ("64ki", 64 << 10),
            ("2T", 2 << 40),
            ("512m", 512_000_000),
            ("1k", 1000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1e3",
            "1.2.3",
            "nan",
            "inf",
            "512MB",
            "5 M",
            "5x",
            "50%",
            "9999999999999P",
            "1M1",
        ] {
            parse(text).expect_err(text);
        }
        for zero in ["0", "0M", "0.0001"] {
            parse_positive(zero).expect_err(zero);
        }
    }

    #[test]
    fn sizes_are_shown_in_powers_of_1024() {
        assert_eq!(show(640), "640 B");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(3 << 29), "1.5 GiB");
        assert_eq!(show(1 << 60), "1024.0 PiB");
    }
}

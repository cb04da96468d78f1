//! The tag of a watch.

use exitring_protocol::{Code, Error};

/// Bytes in a tag, or in a client's name.
pub(crate) const TAG_MAX: usize = 256;

pub(super) fn check_tag(tag: &str) -> Result<(), Error> {
    match tag.len() <= TAG_MAX {
        true => Ok(()),
        false => Err(Error::new(
            Code::OutOfRange,
            format!("the tag has {} bytes; the limit is {TAG_MAX}", tag.len()),
        )),
    }
}

//! A line that is longer than what is kept in memory, and the streams that wait for its end.

use std::time::{Duration, Instant};

use super::std_streams::StdStreams;
use crate::run::stream_id::StreamId;

/// How long other streams wait for the end of a long line that makes no progress.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// A line makes progress if at least this many bytes arrive in that time.
const LINE_PROGRESS_MIN: usize = 64 * 1024;
/// How long other streams wait in any case: a line may be endless.
const LINE_WAIT_MAX: Duration = Duration::from_secs(60);

/// A long line that standard output or error is in the middle of.
pub(super) struct LongLine {
    pub(super) stream_id: StreamId,
    /// Since when other streams wait for the end of the line.
    pub(super) waiting_since: Instant,
    /// The time of the last check for progress.
    pub(super) checked_at: Instant,
    /// The bytes that arrived since then.
    pub(super) bytes: usize,
}

impl LongLine {
    /// Whether lines of another stream would end up in the middle of this one.
    pub(super) fn blocks(&self, other: StreamId, std_streams: &StdStreams) -> bool {
        self.stream_id != other
            && (self.stream_id.stream == other.stream || std_streams.share_file())
    }

    pub(super) fn new(stream_id: StreamId, now: Instant) -> Self {
        Self {
            stream_id,
            waiting_since: now,
            checked_at: now,
            bytes: 0,
        }
    }

    /// When the progress of the line is checked next.
    pub(super) fn next_check(&self) -> Instant {
        (self.checked_at + LINE_TIMEOUT).min(self.waiting_since + LINE_WAIT_MAX)
    }

    /// Whether other streams have waited for its end for too long.
    pub(super) fn should_break(&mut self, now: Instant) -> bool {
        if now < self.next_check() {
            return false;
        }
        let progressed =
            self.bytes >= LINE_PROGRESS_MIN && now < self.waiting_since + LINE_WAIT_MAX;
        if progressed {
            self.checked_at = now;
            self.bytes = 0;
        }
        !progressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_wait_for_a_line_with_progress_for_a_limited_time() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut line = LongLine::new(StreamId::new(1, 1, 0), begun);
        assert!(!line.should_break(at(9)));
        for seconds in [10, 20, 30, 40, 50] {
            line.bytes += LINE_PROGRESS_MIN;
            assert!(!line.should_break(at(seconds)), "{seconds}");
            assert!(!line.should_break(at(seconds + 9)), "{seconds}");
        }
        line.bytes += LINE_PROGRESS_MIN;
        assert!(line.should_break(at(60)));

        let mut line = LongLine::new(StreamId::new(1, 1, 0), begun);
        line.bytes += LINE_PROGRESS_MIN - 1;
        assert!(line.should_break(at(10)));
    }
}

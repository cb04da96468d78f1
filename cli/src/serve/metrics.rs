//! The metrics of the service, as OpenMetrics text.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// All metrics. The names are a public interface.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) clients: Gauge,
    pub(crate) watched: Gauge,
    pub(crate) records: Gauge,
    pub(crate) pending: Gauge,
    pub(crate) watcher_watched: Gauge,
    pub(crate) watcher_armed: Gauge,
    pub(crate) watcher_delivered: Counter,
    pub(crate) storage_failing: Gauge,
    pub(crate) last_seq: Gauge<u64, AtomicU64>,
    pub(crate) exits: Counter,
    pub(crate) unknown: Counter,
    pub(crate) commits: Counter,
    pub(crate) dropped: Counter,
    pub(crate) spawned: Counter,
    pub(crate) refused: Family<Vec<(String, String)>, Counter>,
    pub(crate) requests: Family<Vec<(String, String)>, Counter>,
    pub(crate) commit_seconds: Histogram,
    pub(crate) batch: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("exitring"),
            clients: Gauge::default(),
            watched: Gauge::default(),
            records: Gauge::default(),
            pending: Gauge::default(),
            watcher_watched: Gauge::default(),
            watcher_armed: Gauge::default(),
            watcher_delivered: Counter::default(),
            storage_failing: Gauge::default(),
            last_seq: Gauge::default(),
            exits: Counter::default(),
            unknown: Counter::default(),
            commits: Counter::default(),
            dropped: Counter::default(),
            spawned: Counter::default(),
            refused: Family::default(),
            requests: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
        };
        let r = &mut this.registry;
        r.register("clients", "Clients connected", this.clients.clone());
        r.register("watches", "Live watches", this.watched.clone());
        r.register("records", "Records kept", this.records.clone());
        r.register(
            "exits_pending",
            "Exits seen and not stored yet, because the state cannot be written",
            this.pending.clone(),
        );
        r.register(
            "watcher_watched",
            "Processes that the library watches",
            this.watcher_watched.clone(),
        );
        r.register(
            "watcher_armed",
            "Watched processes with a poll in the kernel",
            this.watcher_armed.clone(),
        );
        r.register(
            "watcher_delivered",
            "Exits that the library has seen",
            this.watcher_delivered.clone(),
        );
        r.register(
            "storage_failing",
            "1 while the state cannot be written",
            this.storage_failing.clone(),
        );
        r.register(
            "last_seq",
            "Sequence number of the last record",
            this.last_seq.clone(),
        );
        r.register("exits", "Exits stored", this.exits.clone());
        r.register(
            "exits_unknown",
            "Exits stored with unknown outcome",
            this.unknown.clone(),
        );
        r.register("commits", "Transactions committed", this.commits.clone());
        r.register(
            "records_dropped",
            "Unacknowledged records dropped by the retention limit",
            this.dropped.clone(),
        );
        r.register("spawned", "Processes started", this.spawned.clone());
        r.register("requests", "Requests, by operation", this.requests.clone());
        r.register("refused", "Requests refused, by code", this.refused.clone());
        r.register_with_unit(
            "commit",
            "Duration of a transaction",
            Unit::Seconds,
            this.commit_seconds.clone(),
        );
        r.register(
            "batch_exits",
            "Exits in one transaction",
            this.batch.clone(),
        );
        this
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counters_have_names_that_end_in_total() {
        let metrics = Metrics::new();
        let labels = vec![("op".to_owned(), "hello".to_owned())];
        metrics.requests.get_or_create(&labels).inc();
        metrics.refused.get_or_create(&labels).inc();
        let text = metrics.text();
        let mut kinds = std::collections::BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("a name and a kind");
            assert!(name.starts_with("exitring_"), "{name}");
            assert!(
                !name.ends_with("_total"),
                "{name}: only its samples end in _total"
            );
            let sample = |end: &str| {
                let sample = format!("{name}{end}");
                text.lines()
                    .any(|line| line.split([' ', '{']).next() == Some(&sample))
            };
            match kind {
                "counter" => assert!(sample("_total") && !sample(""), "{text}"),
                "gauge" => assert!(sample("") && !sample("_total"), "{text}"),
                "histogram" => assert!(sample("_bucket") && sample("_sum") && sample("_count")),
                other => panic!("{name} is a {other}"),
            }
            kinds.insert(
                name.trim_start_matches("exitring_").to_owned(),
                kind.to_owned(),
            );
        }
        let of = |kind: &str| {
            let names = kinds.iter().filter(|(_, its)| *its == kind);
            names.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            of("counter"),
            [
                "commits",
                "exits",
                "exits_unknown",
                "records_dropped",
                "refused",
                "requests",
                "spawned",
                "watcher_delivered"
            ]
        );
        assert_eq!(of("histogram"), ["batch_exits", "commit_seconds"]);
        assert!(
            text.contains("# UNIT exitring_commit_seconds seconds"),
            "{text}"
        );
    }
}

//! The names of a run's streams, subjects and consumer.

/// The names of a run's streams and subjects. Each stream has a suffix, so that no run has the
/// stream of another one.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Names {
    pub(in crate::queue) state: String,
    pub(in crate::queue) jobs: String,
    pub(in crate::queue) records: String,
    /// The object store of the logs.
    pub(in crate::queue) bucket: String,
    prefix: String,
}

impl Names {
    pub(in crate::queue) fn of(run: &str) -> Self {
        Self {
            state: format!("exitring-{run}-state"),
            jobs: format!("exitring-{run}-jobs"),
            records: format!("exitring-{run}-records"),
            bucket: format!("exitring-{run}"),
            prefix: format!("exitring.{run}"),
        }
    }

    /// The stream of the bucket, which exists once a worker has `--log nats`.
    pub(in crate::queue) fn bucket_stream(&self) -> String {
        format!("OBJ_{}", self.bucket)
    }

    pub(in crate::queue) fn spec_subject(&self) -> String {
        format!("{}.state.spec", self.prefix)
    }

    pub(in crate::queue) fn cancel_subject(&self) -> String {
        format!("{}.state.cancel", self.prefix)
    }

    /// For the time of the server's clock.
    pub(in crate::queue) fn clock_subject(&self) -> String {
        format!("{}.state.clock", self.prefix)
    }

    /// How often the consumer was deleted and recreated.
    pub(in crate::queue) fn recreations_subject(&self) -> String {
        format!("{}.state.recreated", self.prefix)
    }

    /// The consumer that all workers share. Each that is recreated has another name: a worker that
    /// does not know of it gets no jobs from it.
    pub(in crate::queue) fn consumer(&self, id: &str, recreations: u64) -> String {
        match recreations {
            0 => format!("workers-{id}"),
            _ => format!("workers-{id}-{recreations}"),
        }
    }

    pub(in crate::queue) fn worker_subject(&self, id: &str, worker: &str) -> String {
        format!("{}.state.worker.{id}.{worker}", self.prefix)
    }

    /// How often a job was given back by a worker that ended.
    pub(in crate::queue) fn given_back_subject(&self, id: &str, job: u64) -> String {
        format!("{}.state.back.{id}.{job}", self.prefix)
    }

    pub(in crate::queue) fn state_subjects(&self) -> String {
        format!("{}.state.>", self.prefix)
    }

    pub(in crate::queue) fn jobs_subject(&self, id: &str) -> String {
        format!("{}.jobs.{id}", self.prefix)
    }

    pub(in crate::queue) fn record_subjects(&self, id: &str) -> String {
        format!("{}.record.{id}.*", self.prefix)
    }

    pub(in crate::queue) fn record_subject(&self, id: &str, job: u64) -> String {
        format!("{}.record.{id}.{job}", self.prefix)
    }
}

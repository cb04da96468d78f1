//! Runs the service, from the start to the end.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use exitring::Watcher;
use exitring_protocol::{DEPTH_MAX, Limits};
use rustix::process::Rlimit;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::accept::{self, CLOSE_TIMEOUT, End};
use super::cgroups::{Pools, PreviousPools};
use super::lifecycle::inherited::Inherited;
use super::lifecycle::listener::Listener;
use super::lifecycle::process_settings::{raise_descriptor_limit, start_log};
use super::lifecycle::signals::{ignore_sigusr2, reset_inherited_signals};
use super::lifecycle::{reexec, restore, systemd};
use super::metrics::Metrics;
use super::options::{DESCRIPTORS_SPARE, ServeOptions};
use super::service::{Quotas, Service};
use super::store::{Reader, RecentRecords, Retention, StateDirectory, Store};
use super::threads::closer::Closer;
use super::threads::spawner::{self, Spawner};
use super::watches::{Deadlines, Registry};

/// Threads for sockets. Blocking work runs on other threads.
const THREADS: usize = 2;
/// Threads for blocking work: processes being started, pages being read back.
const BLOCKING_THREADS: usize = 64;
/// Processes that are started at a time.
const SPAWNS_MAX: usize = 32;

/// Serves until a signal ends it.
pub(crate) fn run(options: &ServeOptions) -> Result<u8> {
    ignore_sigusr2();
    // Before anything is opened: a new descriptor must not take the number of an inherited one.
    let inherited = Inherited::take();
    start_log(options.log_json);
    let descriptor_limit = raise_descriptor_limit(u64::from(options.clients) + DESCRIPTORS_SPARE);
    reset_inherited_signals();

    let Inherited {
        socket,
        socket_lock,
        socket_file,
        state_lock,
        pidfds,
        in_place,
    } = inherited;
    let retention = Retention {
        records: options.keep,
        age: options.keep_for,
    };
    let state = StateDirectory::open(&options.state, options.durability, retention, state_lock)?;
    let (path, mode) = (&options.socket, options.mode);
    let listener = match socket {
        Some(socket) => match socket_lock {
            Some(lock) => Listener::from_previous_image(socket, lock, socket_file, path, mode),
            None => Listener::from_systemd(socket, path),
        },
        None => Listener::bind(path, mode)?,
    };

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("exitring-io")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let watches = state.live_watches()?;
    let stored_pidfds: Vec<u64> = pidfds.keys().copied().collect();
    // Before the first pool is made, which removes empty leaves.
    let leaves = watches.iter().filter_map(|watch| watch.info.leaf.as_ref());
    let previous_pools = PreviousPools::lock(leaves);
    let (spawner, spawn_queue) = spawner::channel();
    let (service, writer) = build(options, descriptor_limit, state, spawner)?;
    // Before the first request, so that the watches are live again.
    let not_watched = restore::restore(&service, watches, pidfds, &previous_pools);
    drop(previous_pools);
    tracing::info!(
        socket = %options.socket.display(),
        state = %options.state.display(),
        instance = service.instance,
        backend = service.counts().backend,
        last_seq = *service.committed.borrow(),
        in_place,
        "serving"
    );
    runtime.spawn(restore::retry(Arc::clone(&service), not_watched));
    let serving = runtime.spawn(accept::serve(
        Arc::clone(&service),
        options.clone(),
        listener,
        stored_pidfds,
    ));
    spawn_queue.run();
    let (end, listener) = runtime.block_on(serving).context("serving")??;
    let state = stop(&service, writer)?;
    match end {
        End::StateLost => {
            listener.unlink();
            // If only the write-ahead log was deleted, this saves its content.
            let _ = state.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
            let cause = service.store.write_error().unwrap_or_default();
            drop((state, listener));
            report_stuck(&service);
            runtime.shutdown_background();
            Err(anyhow::anyhow!("{cause}; processes keep running"))
        }
        End::Stop => {
            systemd::store_pidfds(&service);
            listener.unlink();
            tracing::info!(
                live = service.registry.len(),
                "stopped; processes keep running"
            );
            // Another service can start, although this process may not end yet.
            drop((state, listener));
            report_stuck(&service);
            // The kernel closes the descriptors that a client keeps from being closed.
            runtime.shutdown_background();
            Ok(crate::code::OK)
        }
        End::Reexec => {
            // Connections have ended and files are closed, but not every descriptor of a client:
            // hence the timeout. The children stay children of this process.
            runtime.shutdown_timeout(CLOSE_TIMEOUT);
            if !service.closer.block_until_closed(CLOSE_TIMEOUT) {
                let stuck = service.closer.stuck().unwrap_or_default();
                // A descriptor that came after the check. The exec would wait with all locks held.
                systemd::store_pidfds(&service);
                listener.unlink();
                drop((state, listener));
                return Err(anyhow::anyhow!(
                    "the service cannot execute itself again: {stuck}; processes keep running"
                ));
            }
            Err(reexec::execute(listener, state, service.descriptor_limit))
        }
    }
}

/// Builds what all connections share, and starts the writer.
fn build(
    options: &ServeOptions,
    descriptor_limit: Rlimit,
    state: StateDirectory,
    spawner: Spawner,
) -> Result<(Arc<Service>, JoinHandle<StateDirectory>)> {
    let (last_seq, last_watch) = state.last_numbers()?;
    let limits = Limits {
        line_bytes: options.line as usize,
        depth: DEPTH_MAX,
        clients: options.clients as usize,
        watches_per_user: options.watches_per_user as usize,
        watches: options.watches as usize,
        records_kept: options.keep,
        records_kept_s: options.keep_for.as_secs(),
    };
    // No worker threads: the callbacks only send to the writer's queue, which takes no time. For a
    // process with a cgroup of its own they first read a few small files.
    let watcher = Watcher::builder()
        .workers(0)
        .max_watches(2 * limits.watches)
        .build()
        .context("building the watcher")?;
    let stats = watcher.stats();
    if let Some(why) = &stats.fallback {
        tracing::warn!(
            backend = stats.backend,
            why,
            "the watcher uses a fallback backend"
        );
    }
    let registry = Arc::new(Registry::new(
        last_watch + 1,
        limits.watches,
        limits.watches_per_user,
    ));
    let metrics = Arc::new(Metrics::new());
    let recent = Arc::new(RecentRecords::new(last_seq + 1, options.tail as usize));
    let deadlines = Arc::new(Deadlines::default());
    let reader = Reader::open(&state.path()).context("opening the state for reading")?;
    let instance = state.instance.clone();
    let (publish, committed) = watch::channel(last_seq);
    let (store, writer) = Store::start(
        state,
        Arc::clone(&recent),
        publish,
        Arc::clone(&metrics),
        Arc::clone(&registry),
        Arc::clone(&deadlines),
    )
    .context("starting the writer")?;
    let uid = rustix::process::geteuid().as_raw();
    let cgroups = Pools::open(options.cgroup.as_ref(), uid).context("preparing --cgroup")?;
    let service = Service {
        instance,
        limits,
        uid,
        descriptor_limit,
        cgroups,
        watcher: RwLock::new(Some(watcher)),
        store,
        registry,
        recent,
        reader,
        reader_permit: Semaphore::new(1),
        committed,
        metrics,
        deadlines,
        accepting: tokio::sync::RwLock::new(true),
        spawner,
        spawn_permits: Semaphore::new(SPAWNS_MAX),
        spawn_quotas: Quotas::new(SPAWNS_MAX, uid),
        client_quotas: Quotas::new(limits.clients, uid),
        closer: Closer::start().context("starting the threads that close descriptors")?,
        shutdown: CancellationToken::new(),
        backend: Mutex::new(stats.backend.into()),
    };
    Ok((Arc::new(service), writer))
}

/// Reports what the kernel waits for before the end of the process.
fn report_stuck(service: &Service) {
    if !service.closer.block_until_closed(CLOSE_TIMEOUT) {
        let stuck = service.closer.stuck().unwrap_or_default();
        tracing::error!("the process cannot end yet: {stuck}");
    }
}

/// Stops the watcher and then the writer, which stores the exits that were reported.
fn stop(service: &Arc<Service>, writer: JoinHandle<StateDirectory>) -> Result<StateDirectory> {
    // Joins the ring thread: no callback runs after this.
    drop(
        service
            .watcher
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
    service.store.stop();
    let state = writer.join();
    state.map_err(|_| anyhow::anyhow!("the writer panicked; its last batch was not committed"))
}

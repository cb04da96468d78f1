//! From the start of the service to its end.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use exitring::Watcher;
use exitring_protocol::{Code, DEPTH_MAX, Error, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::anew;
use super::closer::Closer;
use super::deadlines::{self, Deadlines};
use super::inherited::Inherited;
use super::listen::Listener;
use super::live::Registry;
use super::metrics::Metrics;
use super::options::{DESCRIPTORS_SPARE, ServeOptions};
use super::service::Service;
use super::session::{self, turn_away};
use super::shares::Shares;
use super::signals::{Asked, Signals, ignore_sigusr2, undo_what_the_parent_left};
use super::spawner::{Spawner, spawner};
use super::store::{Reader, Retention, State, Store, Tail};
use super::wire::Wire;
use super::{http, restore, systemd};

/// Threads for sockets. What blocks is done elsewhere.
const THREADS: usize = 2;
/// Threads for what blocks: processes being started, pages read back.
const BLOCKING_THREADS: usize = 64;
/// Processes started at a time.
const STARTING_MAX: usize = 32;
/// How often it is looked whether the socket is where clients look for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the lock beside it is made a new file to what deletes old ones: they do after days.
const TOUCH_EVERY: Duration = Duration::from_secs(3600);
/// How long clients may take for their last answers.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why the service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// For good, or until it is started again.
    Stop,
    /// To execute itself anew, in place.
    Anew,
    /// What it has written down is gone, and with it whatever it could promise.
    StateGone,
}

/// Serves until a signal ends it.
pub(crate) fn run(options: &ServeOptions) -> Result<u8> {
    ignore_sigusr2();
    // Before anything is opened: what came from before has numbers that nothing else may take.
    let inherited = Inherited::take();
    log(options);
    let descriptors = raise_descriptor_limit(u64::from(options.clients) + DESCRIPTORS_SPARE);
    undo_what_the_parent_left();

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
    let state = State::open(&options.state, options.durability, retention, state_lock)?;
    let listener = match socket {
        Some(socket) => match socket_lock {
            Some(lock) => Listener::anew(socket, lock, socket_file, &options.socket, options.mode),
            None => Listener::inherited(socket, &options.socket),
        },
        None => Listener::bind(&options.socket, options.mode)?,
    };

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("exitring-io")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let before = state.restored()?;
    let stored: Vec<u64> = pidfds.keys().copied().collect();
    let (spawner, starts) = spawner();
    let (service, writer) = build(options, descriptors, state, spawner)?;
    // Before anybody can ask: what was live is live again.
    restore::restore(&service, before, pidfds);
    tracing::info!(
        socket = %options.socket.display(),
        state = %options.state.display(),
        instance = service.instance,
        backend = service.counts().backend,
        last_seq = *service.committed.borrow(),
        in_place,
        "serving"
    );
    let serving = runtime.spawn(serve(
        Arc::clone(&service),
        options.clone(),
        listener,
        stored,
    ));
    starts.work();
    let (end, listener) = runtime.block_on(serving).context("serving")??;
    let state = stop(&service, writer)?;
    match end {
        End::StateGone => {
            listener.unlink();
            // If it is only the write-ahead log that is gone, this saves what was in it.
            let _ = state.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
            let why = service.store.trouble().unwrap_or_default();
            runtime.shutdown_background();
            Err(anyhow::anyhow!("{why}; processes run on"))
        }
        End::Stop => {
            systemd::store_pidfds(&service);
            listener.unlink();
            tracing::info!(live = service.registry.len(), "ended; processes run on");
            // What a client still keeps us from closing, the kernel closes without us.
            runtime.shutdown_background();
            Ok(crate::code::OK)
        }
        End::Anew => {
            // Connections have ended, files are closed; children stay ours. Not for what somebody keeps us from closing.
            runtime.shutdown_timeout(FAREWELL);
            Err(anew::execute(listener, state, service.descriptors))
        }
    }
}

/// All that connections share, and the writer's thread.
fn build(
    options: &ServeOptions,
    descriptors: Rlimit,
    state: State,
    spawner: Spawner,
) -> Result<(Arc<Service>, JoinHandle<State>)> {
    let (last_seq, last_watch) = state.last()?;
    let limits = Limits {
        line_bytes: options.line as usize,
        depth: DEPTH_MAX,
        clients: options.clients as usize,
        watches_per_user: options.watches_per_user as usize,
        watches: options.watches as usize,
        records_kept: options.keep,
        records_kept_s: options.keep_for.as_secs(),
    };
    // Exits go straight to the writer's inbox: nothing in the callback takes time.
    let watcher = Watcher::builder()
        .workers(0)
        .max_watches(2 * limits.watches)
        .build()
        .context("building the watcher")?;
    let stats = watcher.stats();
    if let Some(why) = &stats.fallback {
        tracing::warn!(backend = stats.backend, why, "the watcher makes do");
    }
    let registry = Arc::new(Registry::new(
        last_watch + 1,
        limits.watches,
        limits.watches_per_user,
    ));
    let metrics = Arc::new(Metrics::new());
    let tail = Arc::new(Tail::new(last_seq + 1, options.tail as usize));
    let deadlines = Arc::new(Deadlines::default());
    let reader = Reader::open(&state.path()).context("opening the state for reading")?;
    let instance = state.instance.clone();
    let (complete, committed) = watch::channel(last_seq);
    let (store, writer) = Store::start(
        state,
        Arc::clone(&tail),
        complete,
        Arc::clone(&metrics),
        Arc::clone(&registry),
        Arc::clone(&deadlines),
    )
    .context("starting the writer")?;
    let uid = rustix::process::geteuid().as_raw();
    let service = Service {
        instance,
        limits,
        uid,
        descriptors,
        watcher: RwLock::new(Some(watcher)),
        store,
        registry,
        tail,
        reader,
        reading: Semaphore::new(1),
        committed,
        metrics,
        deadlines,
        open: tokio::sync::RwLock::new(true),
        spawner,
        starting: Semaphore::new(STARTING_MAX),
        starting_of: Shares::new(STARTING_MAX, uid),
        clients_of: Shares::new(limits.clients, uid),
        closer: Closer::start().context("starting the threads that close")?,
        ended: CancellationToken::new(),
        backend: Mutex::new(stats.backend.into()),
    };
    Ok((Arc::new(service), writer))
}

/// Takes connections until a signal comes, and lets what is being worked on be finished.
async fn serve(
    service: Arc<Service>,
    options: ServeOptions,
    mut listener: Listener,
    stored: Vec<u64>,
) -> Result<(End, Listener)> {
    let _starts = service.spawner.end_when_dropped();
    let mut signals = Signals::take()?;
    if let Some(address) = options.metrics {
        let scrapers = http::listen(address).await?;
        tokio::spawn(http::serve(Arc::clone(&service), scrapers));
    }
    tokio::spawn(deadlines::keep(Arc::clone(&service)));
    tokio::spawn(restore::look_for_zombies(Arc::clone(&service)));

    let mut socket = taken(&listener)?;
    let places = Arc::new(Semaphore::new(service.limits.clients));
    // The socket is bound: who comes from here on is taken.
    tokio::spawn(systemd::keep_informed(Arc::clone(&service), stored));
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut touch = tokio::time::interval(TOUCH_EVERY);
    let mut cannot = false;
    let end = loop {
        tokio::select! {
            stream = socket.accept() => take(&service, &places, stream).await,
            asked = signals.next() => match asked {
                Asked::ToEnd => break End::Stop,
                Asked::Anew => match anew::check_program() {
                    // Its children would be the next image's, and not in its state.
                    Ok(()) if service.store.is_gone().await => break End::StateGone,
                    Ok(()) => break End::Anew,
                    Err(error) => tracing::error!(%error, "it cannot be executed anew, and goes on as it is"),
                },
            },
            () = service.store.gone() => break End::StateGone,
            // A look at a name in a folder takes no time, and there is no other work on this task.
            _ = look.tick() => {
                listener.keep_lock();
                if !listener.is_gone() {
                    continue;
                }
                // Whoever waits in the old one is taken before it is closed.
                for _ in 0..options.clients {
                    let waiting = tokio::time::timeout(Duration::ZERO, socket.accept());
                    let Ok(stream) = waiting.await else { break };
                    take(&service, &places, stream).await;
                }
                let made;
                (listener, made) = make_again(listener).await?;
                match made {
                    Ok(()) => {
                        socket = taken(&listener)?;
                        tracing::warn!(socket = %options.socket.display(), "the socket was deleted or replaced, and is made again");
                    }
                    Err(error) if !cannot => tracing::error!(
                        error = format!("{error:#}"),
                        "the socket was deleted or replaced, and cannot be made again yet; it is tried again"
                    ),
                    Err(_) => {}
                }
                cannot = listener.is_gone();
            },
            _ = touch.tick() => listener.touch(),
        }
    };
    tracing::info!(?end, "ending");
    if end != End::Anew {
        systemd::stopping();
    }
    // Waits for the requests that are being worked on; later ones are refused.
    *service.open.write().await = false;
    tokio::time::sleep(Duration::from_millis(1)).await;
    service.ended.cancel();
    // All have their places back when all are over.
    let over = places.acquire_many(options.clients);
    let _ = tokio::time::timeout(FAREWELL, over).await;
    Ok((end, listener))
}

fn taken(listener: &Listener) -> Result<UnixListener> {
    let socket = listener.socket.try_clone().context("taking the socket")?;
    socket.set_nonblocking(true).context("taking the socket")?;
    UnixListener::from_std(socket).context("taking the socket")
}

/// On another thread, as it may take a second to see whether somebody else answers there.
async fn make_again(mut listener: Listener) -> Result<(Listener, Result<()>)> {
    let making = tokio::task::spawn_blocking(move || {
        let made = listener.make_again();
        (listener, made)
    });
    making.await.context("making the socket again")
}

/// Serves a connection, or says why not.
async fn take(
    service: &Arc<Service>,
    places: &Arc<Semaphore>,
    stream: std::io::Result<(UnixStream, SocketAddr)>,
) {
    let stream = match stream {
        Ok((stream, _)) => stream,
        Err(error) => {
            // No descriptors, for one: who waits is taken when there are some.
            tracing::warn!(%error, "a connection cannot be taken");
            return tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let service = Arc::clone(service);
    match admit(&service, places, &stream) {
        Ok(permits) => {
            service.metrics.clients.inc();
            tokio::spawn(async move {
                session::serve(Arc::clone(&service), stream).await;
                service.metrics.clients.dec();
                drop(permits);
            });
        }
        Err(error) => {
            // A line that fits into the empty socket's buffer: this does not wait.
            let wire = Wire::new(stream);
            let farewell = turn_away(&service, &wire, error);
            let _ = tokio::time::timeout(FAREWELL, farewell).await;
            drop(service.closer.close(wire.drain()));
        }
    }
}

/// A place for a connection: one of its user's, and one of all.
fn admit(
    service: &Service,
    places: &Arc<Semaphore>,
    stream: &UnixStream,
) -> Result<[OwnedSemaphorePermit; 2], Error> {
    let refuse = |whose: &str, clients: usize| {
        let message = format!("{clients} clients{whose} are connected, as many as may be");
        Error::new(Code::TooManyClients, message)
    };
    // Who cannot be told who it is, is turned away by the session.
    let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
    let share = service.clients_of.of(uid).try_acquire_owned();
    let share = share.map_err(|_| refuse(" of this user", service.clients_of.size(uid)))?;
    let place = Arc::clone(places).try_acquire_owned();
    let place = place.map_err(|_| refuse("", service.limits.clients))?;
    Ok([share, place])
}

/// No more exits are taken; those that were are written down.
fn stop(service: &Arc<Service>, writer: JoinHandle<State>) -> Result<State> {
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

fn log(options: &ServeOptions) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::stdio::Stderr)
        .with_target(false)
        .with_ansi(false);
    match options.log_json {
        true => log.json().init(),
        false => log.init(),
    }
}

/// As many descriptors as may be, for clients. Returns what it was.
fn raise_descriptor_limit(wanted: u64) -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "RLIMIT_NOFILE cannot be raised");
    }
    if let Some(limit) = getrlimit(Resource::Nofile)
        .current
        .filter(|limit| *limit < wanted)
    {
        tracing::warn!(
            limit,
            wanted,
            "RLIMIT_NOFILE is less than all clients may need"
        );
    }
    before
}

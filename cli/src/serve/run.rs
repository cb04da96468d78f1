//! From the start of the service to its end.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use exitring::Watcher;
use exitring_protocol::{Code, DEPTH_MAX, Error, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::closer::Closer;
use super::deadlines::{self, Deadlines};
use super::inherited::{FROM_SYSTEMD, Inherited, leave};
use super::listen::Listener;
use super::live::Registry;
use super::metrics::Metrics;
use super::options::{DESCRIPTORS_SPARE, ServeOptions};
use super::service::Service;
use super::session::{self, turn_away};
use super::shares::Shares;
use super::store::{Reader, Retention, State, Store, Tail};
use super::wire::Wire;
use super::{http, restore, systemd};

/// Threads for sockets. What blocks is done elsewhere.
const THREADS: usize = 2;
/// Threads for what blocks: processes being started, pages read back.
const BLOCKING_THREADS: usize = 64;
/// Processes started at a time.
const STARTING_MAX: usize = 32;
/// How long clients may take for their last answers.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why the service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// For good, or until it is started again.
    Stop,
    /// To execute itself anew, in place.
    Anew,
}

/// Serves until a signal ends it.
pub(crate) fn run(options: &ServeOptions) -> Result<u8> {
    // Until there is a handler: a second one must not end what the first one has started.
    ignore_sigusr2();
    // Before anything is opened: what came from before has numbers that nothing else may take.
    let inherited = Inherited::take();
    log(options);
    let descriptors = raise_descriptor_limit(u64::from(options.clients) + DESCRIPTORS_SPARE);
    default_sigchld();

    let Inherited {
        socket,
        socket_lock,
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
        Some(socket) => Listener::inherited(socket, socket_lock, &options.socket),
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
    let (service, writer) = build(options, descriptors, state)?;
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
    let end = runtime.block_on(serve(&service, options, &listener, stored))?;
    let state = stop(&service, writer)?;
    match end {
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
            Err(execute_anew(listener, state, service.descriptors))
        }
    }
}

/// All that connections share, and the writer's thread.
fn build(
    options: &ServeOptions,
    descriptors: Rlimit,
    state: State,
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
    service: &Arc<Service>,
    options: &ServeOptions,
    listener: &Listener,
    stored: Vec<u64>,
) -> Result<End> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut anew = signal(SignalKind::user_defined2())?;
    if let Some(address) = options.metrics {
        let scrapers = http::listen(address).await?;
        tokio::spawn(http::serve(Arc::clone(service), scrapers));
    }
    tokio::spawn(deadlines::keep(Arc::clone(service)));
    tokio::spawn(restore::look_for_zombies(Arc::clone(service)));

    let socket = listener.socket.try_clone().context("taking the socket")?;
    socket.set_nonblocking(true).context("taking the socket")?;
    let socket = UnixListener::from_std(socket).context("taking the socket")?;
    let places = Arc::new(Semaphore::new(service.limits.clients));
    // The socket is bound: who comes from here on is taken.
    tokio::spawn(systemd::keep_informed(Arc::clone(service), stored));
    let accepting = accept(service, &socket, &places);
    tokio::pin!(accepting);
    let end = loop {
        tokio::select! {
            () = &mut accepting => break End::Stop,
            _ = terminate.recv() => break End::Stop,
            _ = interrupt.recv() => break End::Stop,
            _ = hangup.recv() => break End::Stop,
            _ = anew.recv() => match check_program() {
                Ok(()) => break End::Anew,
                Err(error) => tracing::error!(%error, "it cannot be executed anew, and goes on as it is"),
            },
        }
    };
    tracing::info!(?end, "ending");
    if end == End::Stop {
        systemd::stopping();
    }
    // Waits for the requests that are being worked on; later ones are refused.
    *service.open.write().await = false;
    tokio::time::sleep(Duration::from_millis(1)).await;
    service.ended.cancel();
    // All have their places back when all are over.
    let over = places.acquire_many(options.clients);
    let _ = tokio::time::timeout(FAREWELL, over).await;
    Ok(end)
}

async fn accept(service: &Arc<Service>, socket: &UnixListener, places: &Arc<Semaphore>) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // No descriptors, for one: who waits is taken when there are some.
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
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

/// Does not come back, unless it fails.
fn execute_anew(listener: Listener, state: State, descriptors: Rlimit) -> anyhow::Error {
    let State { db, lock, .. } = state;
    if let Err((_, error)) = db.close() {
        tracing::warn!(%error, "closing the state");
    }
    let anew = move || -> Result<Command> {
        // The very descriptors: a lock is gone as soon as any of its file is closed, a copy too.
        let Listener {
            socket,
            lock: socket_lock,
            ..
        } = listener;
        let mut fds: Vec<(&str, OwnedFd)> =
            vec![("socket", socket.into()), ("state_lock", lock.into())];
        if let Some(lock) = socket_lock {
            fds.push(("socket_lock", lock.into()));
        }
        let (name, value) = leave(fds.iter().map(|(name, fd)| (*name, fd)))?;
        // They live until the exec.
        std::mem::forget(fds);
        let mut arguments = std::env::args_os();
        let program = arguments.next().context("the program has no name")?;
        let mut command = Command::new(program);
        command.args(arguments).env(name, value);
        for variable in FROM_SYSTEMD {
            command.env_remove(variable);
        }
        Ok(command)
    };
    match anew() {
        Ok(mut command) => {
            // What is ignored stays so in the next image, what is caught would not.
            ignore_sigusr2();
            // It raises it for itself, and is to find for its children what we have found.
            if let Err(error) = setrlimit(Resource::Nofile, descriptors) {
                tracing::warn!(%error, "RLIMIT_NOFILE stays raised");
            }
            anyhow::Error::from(command.exec()).context("executing the service anew")
        }
        Err(error) => error.context("executing the service anew"),
    }
}

fn log(options: &ServeOptions) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::standard::Stderr)
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

fn ignore_sigusr2() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
}

/// Whether there is something to execute, so that nothing ends for nothing.
fn check_program() -> Result<()> {
    use rustix::fs::{Access, access};
    let program = std::env::args_os().next().context("it has no name")?;
    let found = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = match program.as_encoded_bytes().contains(&b'/') {
        true => found(Path::new(&program)),
        false => std::env::split_paths(&path).any(|folder| found(&folder.join(&program))),
    };
    anyhow::ensure!(there, "{} is not there, or no program", program.display());
    Ok(())
}

/// Whoever started us may ignore it, and children would leave no status.
fn default_sigchld() {
    // SAFETY: no handler is installed, and no other thread of ours is there yet.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

//! A network between a worker and its server, which holds up what the server sends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What the server sends is held up from the first message with this text on. Deliveries of jobs have
/// it, since they are acknowledged with it.
const DELIVERY: &[u8] = b"$JS.ACK.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No job was delivered yet.
    Open,
    /// A delivery waits, and all that follows.
    Held,
    /// All is passed on.
    Released,
    /// What both ends send waits.
    Cut,
}

/// What the threads of all connections share.
struct Network {
    state: Mutex<(State, Breaks)>,
    changed: Condvar,
}

/// How often the connections were broken.
type Breaks = u64;

/// A proxy, whose threads end with the test.
pub struct Proxy {
    port: u16,
    network: Arc<Network>,
}

impl Proxy {
    /// A proxy for the server at this address.
    pub fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let network = Arc::new(Network {
            state: Mutex::new((State::Open, 0)),
            changed: Condvar::new(),
        });
        let of_threads = Arc::clone(&network);
        thread::spawn(move || {
            for worker in listener.incoming() {
                let (worker, server) = (
                    worker.expect("a connection"),
                    TcpStream::connect(&server).expect("connects"),
                );
                let to_server = (
                    worker.try_clone().expect("a descriptor"),
                    server.try_clone().expect("a descriptor"),
                );
                let breaks = of_threads.state.lock().expect("no panic").1;
                let network = Arc::clone(&of_threads);
                let is_passed = move |_: &[u8]| network.is_passed(breaks, &[State::Cut]);
                thread::spawn(move || pass(to_server.0, to_server.1, is_passed));
                let network = Arc::clone(&of_threads);
                let is_passed = move |bytes: &[u8]| {
                    network.hold(bytes);
                    network.is_passed(breaks, &[State::Cut, State::Held])
                };
                thread::spawn(move || pass(server, worker, is_passed));
            }
        });
        Self { port, network }
    }

    pub fn url(&self, run: &str) -> String {
        format!("nats://127.0.0.1:{}/{run}", self.port)
    }

    /// Whether a delivery is held up.
    pub fn holds(&self) -> bool {
        self.network.state.lock().expect("no panic").0 == State::Held
    }

    pub fn release(&self) {
        self.change(State::Released, 0);
    }

    /// Holds up what both ends send, until it is released.
    pub fn cut(&self) {
        self.change(State::Cut, 0);
    }

    /// Breaks the connections. What is held up is lost. New ones are not held up.
    pub fn break_connections(&self) {
        self.change(State::Released, 1);
    }

    fn change(&self, state: State, breaks: Breaks) {
        let mut now = self.network.state.lock().expect("no panic");
        *now = (state, now.1 + breaks);
        self.network.changed.notify_all();
    }
}

impl Network {
    /// Holds all up if these bytes have the first delivery.
    fn hold(&self, bytes: &[u8]) {
        let mut now = self.state.lock().expect("no panic");
        let is_delivery = bytes.windows(DELIVERY.len()).any(|part| part == DELIVERY);
        if now.0 == State::Open && is_delivery {
            now.0 = State::Held;
        }
    }

    /// Waits while the state is one of these. Returns whether the connection is still there.
    fn is_passed(&self, breaks: Breaks, waits: &[State]) -> bool {
        let now = self.state.lock().expect("no panic");
        let held = |now: &mut (State, Breaks)| now.1 == breaks && waits.contains(&now.0);
        let now = self.changed.wait_while(now, held).expect("no panic");
        now.1 == breaks
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_passed: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !is_passed(&bytes[..length]) || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // The other end of the connection ends as well.
    for end in [from, to] {
        let _ = end.shutdown(std::net::Shutdown::Both);
    }
}

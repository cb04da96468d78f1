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
}

/// A proxy, whose threads end with the test.
pub struct Proxy {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// A proxy for the server at this address.
    pub fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new((Mutex::new(State::Open), Condvar::new()));
        let of_threads = Arc::clone(&state);
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
                thread::spawn(move || pass(to_server.0, to_server.1, |_| ()));
                let state = Arc::clone(&of_threads);
                thread::spawn(move || pass(server, worker, |bytes| hold(&state, bytes)));
            }
        });
        Self { port, state }
    }

    pub fn url(&self, run: &str) -> String {
        format!("nats://127.0.0.1:{}/{run}", self.port)
    }

    /// Whether a delivery is held up.
    pub fn holds(&self) -> bool {
        *self.state.0.lock().expect("no panic") == State::Held
    }

    pub fn release(&self) {
        *self.state.0.lock().expect("no panic") = State::Released;
        self.state.1.notify_all();
    }
}

/// Waits with the first delivery until it is released.
fn hold((state, changed): &(Mutex<State>, Condvar), bytes: &[u8]) {
    let mut state = state.lock().expect("no panic");
    let is_delivery = bytes.windows(DELIVERY.len()).any(|part| part == DELIVERY);
    if *state == State::Open && is_delivery {
        *state = State::Held;
    }
    let _released = changed
        .wait_while(state, |state| *state == State::Held)
        .expect("no panic");
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        before(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // The other end of the connection ends as well.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

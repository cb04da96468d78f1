//! Tests of the order in which ended jobs and their output are forwarded.

use rustix::event::epoll;

use super::*;
use crate::run::stream_id::STDOUT;
use crate::run::token::Token;

/// Pipes with one pipe, and its writer.
fn pipes(stream_id: StreamId) -> (Pipes, OwnedFd) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    let mut pipes = Pipes::new(Arc::new(poll), Route::Lines, None);
    let writer = add(&mut pipes, stream_id);
    (pipes, writer)
}

fn add(pipes: &mut Pipes, stream_id: StreamId) -> OwnedFd {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&reader, true).expect("a pipe");
    let data = Token::Output(stream_id).data();
    epoll::add(&pipes.poll, &reader, data, epoll::EventFlags::IN).expect("watched");
    pipes.add(stream_id.job, 1, [Some(reader), None], None);
    writer
}

fn write(writer: &OwnedFd, bytes: &[u8]) {
    assert_eq!(rustix::io::write(writer, bytes), Ok(bytes.len()));
}

#[test]
fn the_last_line_of_an_ended_job_is_whole_when_the_job_is_released() {
    let [stream_id, _] = StreamId::both(7, 1);
    let (mut pipes, writer) = pipes(stream_id);
    let mut std_streams = StdStreams::new(None);
    write(&writer, b"first\nla");
    pipes.read_ready(stream_id, false, &mut std_streams);
    write(&writer, b"st");
    drop(writer);
    // No event has reported the end of the pipe yet.
    assert!(!pipes.release_job(7, 1, &mut std_streams));
    assert_eq!(std_streams.buffer_for(STDOUT), b"first\nlast\n");
    assert!(!pipes.has(stream_id));
}

#[test]
fn a_pipe_with_a_writer_stays_open_after_the_job() {
    let [stream_id, _] = StreamId::both(7, 1);
    let (mut pipes, writer) = pipes(stream_id);
    let mut std_streams = StdStreams::new(None);
    write(&writer, b"begun");
    assert!(!pipes.release_job(7, 1, &mut std_streams));
    write(&writer, b" and ended\n");
    pipes.read_ready(stream_id, false, &mut std_streams);
    assert_eq!(std_streams.buffer_for(STDOUT), b"begun and ended\n");
    assert!(pipes.has(stream_id));
}

#[test]
fn a_stream_that_waits_for_a_long_line_is_not_closed() {
    let [long, _] = StreamId::both(7, 1);
    let [other, _] = StreamId::both(8, 1);
    let (mut pipes, long_writer) = pipes(long);
    let other_writer = add(&mut pipes, other);
    let mut std_streams = StdStreams::new(None);
    for _ in 0..16 {
        write(&long_writer, &[b'x'; READ_AT_ONCE]);
        pipes.read_ready(long, false, &mut std_streams);
    }
    write(&other_writer, b"last");
    drop(other_writer);
    pipes.read_ready(other, false, &mut std_streams);
    assert!(pipes.has_paused());
    pipes.release_job(8, 1, &mut std_streams);
    assert!(pipes.has(other));
    drop(long_writer);
    pipes.release_job(7, 1, &mut std_streams);
    pipes.read_ready(other, false, &mut std_streams);
    assert_eq!(pipes.finish(&mut std_streams).len(), 0);
    let text = std_streams.buffer_for(STDOUT);
    assert_eq!(text.len(), 16 * READ_AT_ONCE + "\nlast\n".len());
    assert!(text.ends_with(b"x\nlast\n"));
}

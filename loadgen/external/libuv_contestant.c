// libuv as a contestant: uv_spawn, one event loop.
//
// The first line of output is "ready". Each line of standard input is a spawn request: a slot and
// the words of the command, separated by tabs. Each further line of standard output is an exit:
// slot, pid, exit code, and the time when the exit was known, in nanoseconds of CLOCK_MONOTONIC.
#include "contestant.h"
#include <uv.h>

struct child {
    uv_process_t process;
    char slot[24];
};

static void on_close(uv_handle_t *handle) {
    free(handle);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal) {
    struct child *child = (struct child *)process;
    add_exit(child->slot, process->pid, signal ? -1 : (long)status, uv_hrtime());
    uv_close((uv_handle_t *)process, on_close);
}

static void start(char *slot, char **argv) {
    struct child *child = calloc(1, sizeof *child);
    uv_stdio_container_t streams[3];
    for (int fd = 0; fd < 3; fd++) {
        streams[fd].flags = UV_INHERIT_FD;
        streams[fd].data.fd = fd;
    }
    uv_process_options_t options = {
        .exit_cb = on_exit_of,
        .file = argv[0],
        .args = argv,
        .stdio_count = 3,
        .stdio = streams,
    };
    if (!child)
        fail("memory");
    snprintf(child->slot, sizeof child->slot, "%s", slot);
    int error = uv_spawn(uv_default_loop(), &child->process, &options);
    if (error) {
        fprintf(stderr, "loadgen: uv_spawn of %s: %s\n", argv[0], uv_strerror(error));
        uv_close((uv_handle_t *)&child->process, on_close);
    }
}

static void on_requests(uv_poll_t *poll, int status, int events) {
    (void)poll, (void)status, (void)events;
    read_requests(start);
}

// Runs once in each turn of the loop, after the callbacks of exits.
static void on_turn(uv_check_t *check) {
    (void)check;
    flush_exits();
}

int main(void) {
    uv_poll_t requests;
    uv_check_t turn;
    set_up();
    if (uv_poll_init(uv_default_loop(), &requests, requests_fd) ||
        uv_poll_start(&requests, UV_READABLE, on_requests) ||
        uv_check_init(uv_default_loop(), &turn) || uv_check_start(&turn, on_turn))
        fail("libuv");
    say_ready();
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

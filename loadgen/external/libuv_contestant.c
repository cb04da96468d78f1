// libuv as a contestant: uv_spawn, one event loop.
#include "contestant.h"
#include <uv.h>

struct child {
    uv_process_t process;
    uv_pipe_t pipe;
    char slot[24];
    int pid;
    long code;
    size_t output;
    int open;    // handles
    int pending; // the exit, and the end of the output
};

static int capture;
static char buffer[1 << 16];

static void on_close(uv_handle_t *handle) {
    struct child *child = handle->data;
    if (--child->open == 0)
        free(child);
}

// The exit, or the end of the output.
static void finish(struct child *child, uv_handle_t *handle) {
    if (--child->pending == 0)
        add_exit(child->slot, child->pid, child->code, uv_hrtime(), child->output);
    uv_close(handle, on_close);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal) {
    struct child *child = process->data;
    child->pid = process->pid;
    child->code = signal ? -1 : (long)status;
    finish(child, (uv_handle_t *)process);
}

static void give_buffer(uv_handle_t *handle, size_t size, uv_buf_t *into) {
    (void)handle, (void)size;
    *into = uv_buf_init(buffer, sizeof buffer);
}

static void on_output(uv_stream_t *stream, ssize_t length, const uv_buf_t *data) {
    struct child *child = stream->data;
    (void)data;
    if (length < 0)
        finish(child, (uv_handle_t *)stream);
    else
        child->output += (size_t)length;
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
    child->process.data = child->pipe.data = child;
    child->open = child->pending = 1 + capture;
    if (capture) {
        if (uv_pipe_init(uv_default_loop(), &child->pipe, 0))
            fail("uv_pipe_init");
        streams[1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
        streams[1].data.stream = (uv_stream_t *)&child->pipe;
    }
    int error = uv_spawn(uv_default_loop(), &child->process, &options);
    if (!error && capture)
        error = uv_read_start((uv_stream_t *)&child->pipe, give_buffer, on_output);
    if (error) {
        fprintf(stderr, "loadgen: uv_spawn of %s: %s\n", argv[0], uv_strerror(error));
        exit(1);
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
    capture = getenv("LOADGEN_CAPTURE") != NULL;
    if (uv_poll_init(uv_default_loop(), &requests, requests_fd) ||
        uv_poll_start(&requests, UV_READABLE, on_requests) ||
        uv_check_init(uv_default_loop(), &turn) || uv_check_start(&turn, on_turn))
        fail("libuv");
    say_ready();
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}

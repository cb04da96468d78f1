// sd-event as a contestant: posix_spawn, and a child source for each child.
#include "contestant.h"
#include <spawn.h>
#include <systemd/sd-event.h>

extern char **environ;

static sd_event *event;
static sd_event_source *flush;
static posix_spawnattr_t attributes;

// The loop reaps the child after this call.
static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *slot) {
    add_exit(slot, info->si_pid, info->si_code == CLD_EXITED ? info->si_status : -1, now_ns(), 0);
    free(slot);
    sd_event_source_set_enabled(flush, SD_EVENT_ONESHOT);
    sd_event_source_unref(source);
    return 0;
}

// Runs when nothing else is to be dispatched.
static int on_idle(sd_event_source *source, void *data) {
    (void)source, (void)data;
    flush_exits();
    return 0;
}

static void start(char *slot, char **argv) {
    pid_t pid;
    char *copy = strdup(slot);
    sd_event_source *source;
    int error = posix_spawn(&pid, argv[0], NULL, &attributes, argv, environ);
    if (error || !copy) {
        fprintf(stderr, "loadgen: posix_spawn of %s: %s\n", argv[0], strerror(error));
        return;
    }
    error = sd_event_add_child(event, &source, pid, WEXITED, on_exit_of, copy);
    if (error < 0) {
        fprintf(stderr, "loadgen: sd_event_add_child: %s\n", strerror(-error));
        exit(1);
    }
}

static int on_requests(sd_event_source *source, int fd, uint32_t events, void *data) {
    (void)source, (void)fd, (void)events, (void)data;
    read_requests(start);
    return 0;
}

int main(void) {
    sigset_t none, child;
    set_up();
    // sd-event wants SIGCHLD blocked. Children start with no blocked signal.
    sigemptyset(&none);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &child, NULL) || posix_spawnattr_init(&attributes) ||
        posix_spawnattr_setsigmask(&attributes, &none) ||
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK))
        fail("signal mask");
    if (sd_event_default(&event) < 0 ||
        sd_event_add_io(event, NULL, requests_fd, EPOLLIN, on_requests, NULL) < 0 ||
        sd_event_add_defer(event, &flush, on_idle, NULL) < 0 ||
        sd_event_source_set_priority(flush, SD_EVENT_PRIORITY_IDLE) < 0)
        fail("sd-event");
    sd_event_source_set_enabled(flush, SD_EVENT_OFF);
    say_ready();
    return sd_event_loop(event);
}

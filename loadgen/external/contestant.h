// What the contestants in C share: reading spawn requests and writing exits.
//
// The first line of output is "ready". Each line of standard input is a spawn request: a slot and
// the words of the command, separated by tabs. Each further line of standard output is an exit:
// slot, pid, exit code, the time when the exit was known, in nanoseconds of CLOCK_MONOTONIC, and the
// number of bytes that the child wrote, if LOADGEN_CAPTURE is set.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS 16

// The pipes of the load generator. Children do not inherit them.
static int requests_fd, exits_fd;
static char requests[1 << 16], exits[1 << 16];
static size_t requests_length, exits_length;

static void fail(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(1);
}

__attribute__((unused)) static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void set_up(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    requests_fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
    exits_fd = fcntl(1, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || requests_fd < 0 || exits_fd < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
        fcntl(requests_fd, F_SETFL, O_NONBLOCK))
        fail("standard streams");
    close(null);
}

static void flush_exits(void) {
    for (size_t written = 0; written < exits_length;) {
        ssize_t more = write(exits_fd, exits + written, exits_length - written);
        if (more < 0 && errno != EINTR)
            exit(0); // the load generator has ended
        written += more < 0 ? 0 : (size_t)more;
    }
    exits_length = 0;
}

static void say_ready(void) {
    exits_length = (size_t)snprintf(exits, sizeof exits, "ready\n");
    flush_exits();
}

// A code of -1 is that of a child that did not exit. The length of the output is 0 if it is not
// read.
static void add_exit(const char *slot, int pid, long code, uint64_t known_ns, size_t output) {
    if (sizeof exits - exits_length < 128)
        flush_exits();
    exits_length += (size_t)snprintf(exits + exits_length, sizeof exits - exits_length,
                                     "%s %d %ld %llu %zu\n", slot, pid, code,
                                     (unsigned long long)known_ns, output);
}

// Calls start with the slot and the command of each request that is in the pipe.
static void read_requests(void (*start)(char *slot, char **argv)) {
    ssize_t more = read(requests_fd, requests + requests_length,
                        sizeof requests - requests_length);
    if (more < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (more <= 0)
        exit(0);
    requests_length += (size_t)more;
    char *line = requests, *end;
    while ((end = memchr(line, '\n', requests_length - (size_t)(line - requests)))) {
        char *words[WORDS + 1] = {NULL}, *rest = line, *word;
        int count = 0;
        *end = 0;
        while (count < WORDS && (word = strsep(&rest, "\t")))
            words[count++] = word;
        start(words[0], words + 1);
        line = end + 1;
    }
    requests_length -= (size_t)(line - requests);
    memmove(requests, line, requests_length);
}

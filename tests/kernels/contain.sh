#!/bin/sh
# The limits of `exitring run --contain`, on a kernel with the controllers of cgroup v2. Runs in the
# initramfs of tests/kernels/run. Nothing is judged by its time: the timeouts only end a run that
# would not end.
set -eu
root=/sys/fs/cgroup
work=/tmp/contain
rm -rf "$work"
mkdir -p "$work"
cd "$work"
echo '+memory +pids +cpu' >"$root/cgroup.subtree_control"

fail() {
    echo "contain.sh: $*"
    for file in out err log; do [ ! -f "$file" ] || { echo "--- $file"; cat "$file"; }; done
    exit 1
}

# Runs `exitring run` in a cgroup: the root, or a delegated one, which holds no other process.
# Sets `status`; the output is in out and err, the records are in log.
run() {
    group=$root
    if [ "$where" != root ]; then
        number=$((number + 1))
        group=$root/delegated-$number
        mkdir "$group"
    fi
    rm -f log
    find "$group" -mindepth 1 -type d >before
    status=0
    sh -c 'echo $$ >"$0/cgroup.procs"; exec exitring run --joblog log --timeout 120s "$@"' \
        "$group" "$@" </dev/null >out 2>err || status=$?
}

has() { grep -q -- "$2" "$1" || fail "$where: $1 lacks: $2"; }

# A job reads the files of its own cgroup, without another process.
cat >group.sh <<'JOB'
IFS=: read -r _ _ path </proc/self/cgroup
group=/sys/fs/cgroup$path
# The number after a key in a file.
value() {
    result=
    while read -r key count; do [ "$key" != "$1" ] || result=$count; done <"$group/$2"
}
JOB

# Doubles a string until memory is out.
cat >memory.sh <<'JOB'
exec awk 'BEGIN { text = "x"; while (1) text = text text }'
JOB

cat >pids.sh <<'JOB'
. ./group.sh
read -r most <"$group/pids.max"
bomb() { bomb | bomb & }
(bomb) 2>/dev/null
# Until a fork has failed.
value max pids.events
while [ "$result" -eq 0 ]; do value max pids.events; done
read -r now <"$group/pids.current"
echo "limit $most"
[ "$now" -le 5 ]
JOB

cat >cpus.sh <<'JOB'
. ./group.sh
read -r max <"$group/cpu.max"
echo "limit $max"
# Busy, until the kernel has held up this job.
value nr_throttled cpu.stat
while [ "$result" -eq 0 ]; do value nr_throttled cpu.stat; done
JOB

number=0
for where in root delegated; do
    run --memory 32M -- sh {} ::: memory.sh
    [ "$status" -eq 1 ] || fail "$where: memory: exit code $status"
    has log '"success":false'
    has log '"out_of_memory":true'
    has err 'out of memory'

    # As in the man page.
    run --memory 32M -- tail {} ::: /dev/zero
    [ "$status" -eq 1 ] || fail "$where: tail: exit code $status"
    has log '"out_of_memory":true'

    run --memory 32M -- sh -c {} ::: true
    [ "$status" -eq 0 ] || fail "$where: enough memory: exit code $status"
    has log '"out_of_memory":false'
    has log '"peak_memory_bytes":[0-9]'

    run --pids 5 -- sh {} ::: pids.sh
    [ "$status" -eq 0 ] || fail "$where: pids: exit code $status"
    has out '^limit 5$'

    # As in the man page.
    run --pids 1 -- sh -c {} ::: 'sleep 0 & wait'
    [ "$status" -eq 1 ] || fail "$where: one process: exit code $status"

    run --cpus 0.5 -- sh {} ::: cpus.sh
    [ "$status" -eq 0 ] || fail "$where: cpus: exit code $status"
    has out '^limit 50000 100000$'

    # All limits, and a process that outlives its job.
    run --memory 32M --pids 5 --cpus 0.5 -- sh -c {} ::: 'sleep 4242 &'
    [ "$status" -eq 0 ] || fail "$where: a process is left: exit code $status"
    has log '"leaky":true'
    # The brackets keep grep from finding itself.
    [ -z "$(grep -l '42[4]2' /proc/[0-9]*/cmdline 2>/dev/null)" ] || fail "$where: a process outlived its job"
    # The groups of jobs are removed.
    left=$(find "$group" -mindepth 1 -type d | grep -vxF -f before | grep -v exitring-supervisor || true)
    [ -z "$left" ] || fail "$where: groups are left: $left"
done
echo "ok"

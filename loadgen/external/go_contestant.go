// Go's os/exec as a contestant: a goroutine per child, in Cmd.Run or Cmd.Output.
//
// The first line of output is "ready". Each line of standard input is a spawn request: a slot and
// the words of the command, separated by tabs. Each further line of standard output is an exit:
// slot, pid, exit code, the time when the exit was known, in nanoseconds of CLOCK_MONOTONIC, and the
// number of bytes that the child wrote, if LOADGEN_CAPTURE is set.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"
)

var _, capture = os.LookupEnv("LOADGEN_CAPTURE")

func nowNs() int64 {
	var now syscall.Timespec
	const clockMonotonic = 1
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}

// Opens a copy of a standard stream that children do not inherit, and makes the stream /dev/null.
func own(stream int, null *os.File) *os.File {
	fd, err := syscall.Dup(stream)
	if err == nil {
		syscall.CloseOnExec(fd)
		err = syscall.Dup3(int(null.Fd()), stream, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen: standard streams:", err)
		os.Exit(1)
	}
	return os.NewFile(uintptr(fd), "pipe")
}

func run(slot string, words []string, exits chan<- string) {
	command := exec.Command(words[0], words[1:]...)
	command.Stdin, command.Stderr = os.Stdin, os.Stderr
	var output []byte
	var err error
	if capture {
		output, err = command.Output()
	} else {
		command.Stdout = os.Stdout
		err = command.Run()
	}
	now := nowNs()
	if command.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "loadgen: os/exec:", err)
		return
	}
	state := command.ProcessState
	exits <- fmt.Sprintf("%s %d %d %d %d\n", slot, state.Pid(), state.ExitCode(), now, len(output))
}

func write(exits <-chan string, to *os.File) {
	buffered := bufio.NewWriter(to)
	for line := range exits {
		buffered.WriteString(line)
		if len(exits) == 0 {
			buffered.Flush()
		}
	}
}

func main() {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	requests, output := own(0, null), own(1, null)
	exits := make(chan string, 1024)
	go write(exits, output)
	exits <- "ready\n"
	for lines := bufio.NewScanner(requests); lines.Scan(); {
		words := strings.Split(lines.Text(), "\t")
		go run(words[0], words[1:], exits)
	}
}

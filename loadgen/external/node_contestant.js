// Node's child_process as a contestant.
//
// The first line of output is "ready". Each line of standard input is a spawn request: a slot and
// the words of the command, separated by tabs. Each further line of standard output is an exit:
// slot, pid, exit code, and the time when the exit was known, in nanoseconds of CLOCK_MONOTONIC.
'use strict';
const { spawn } = require('node:child_process');
const readline = require('node:readline');

// The exits of one iteration of the event loop are written together.
let lines = [];
function flush() {
  process.stdout.write(lines.join(''));
  lines = [];
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [slot, program, ...words] = line.split('\t');
  const child = spawn(program, words, { stdio: ['ignore', 'inherit', 'inherit'] });
  child.on('exit', (code) => {
    const now = process.hrtime.bigint();
    if (lines.length === 0) setImmediate(flush);
    lines.push(`${slot} ${child.pid} ${code} ${now}\n`);
  });
}).on('close', () => process.exit());
process.stdout.write('ready\n');

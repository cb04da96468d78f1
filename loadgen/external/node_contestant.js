// Node's child_process as a contestant.
//
// Told on standard input what to start, one line each: a slot, and the words of the command, between tabs. Tells on
// standard output of each exit: slot, pid, exit code, and the moment at which it knew, in nanoseconds of
// CLOCK_MONOTONIC. Before all that it says that it is ready.
'use strict';
const { spawn } = require('node:child_process');
const readline = require('node:readline');

// Those of one turn of the event loop are written together.
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

// Node's child_process as a contestant.
//
// The first line of output is "ready". Each line of standard input is a spawn request: a slot and
// the words of the command, separated by tabs. Each further line of standard output is an exit:
// slot, pid, exit code, the time when the exit was known, in nanoseconds of CLOCK_MONOTONIC, and the
// number of bytes that the child wrote, if LOADGEN_CAPTURE is set.
'use strict';
const { spawn } = require('node:child_process');
const readline = require('node:readline');

const capture = 'LOADGEN_CAPTURE' in process.env;

// The exits of one iteration of the event loop are written together.
let lines = [];
function flush() {
  process.stdout.write(lines.join(''));
  lines = [];
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [slot, program, ...words] = line.split('\t');
  const stdout = capture ? 'pipe' : 'inherit';
  const child = spawn(program, words, { stdio: ['ignore', stdout, 'inherit'] });
  let output = 0;
  if (capture) child.stdout.on('data', (data) => { output += data.length; });
  // 'close' comes after the exit and the end of the output.
  child.on(capture ? 'close' : 'exit', (code) => {
    const now = process.hrtime.bigint();
    if (lines.length === 0) setImmediate(flush);
    lines.push(`${slot} ${child.pid} ${code} ${now} ${output}\n`);
  });
}).on('close', () => process.exit());
process.stdout.write('ready\n');

// Children as node programs make them.
const child = require('child_process');
console.log(child.execSync('echo out').toString(), child.spawnSync('sh', ['-c', 'exit 3']).status);
console.log(child.spawnSync('/no/such/program').error.code);
console.log(child.execFileSync('cat', { input: 'x'.repeat(1000000) }).length);
const done = [];
for (let i = 0; i < 20; i++) {
  done.push(new Promise(resolve => {
    const cat = child.spawn('sh', ['-c', 'cat; exit ' + i]);
    let text = '';
    cat.stdout.on('data', data => { text += data; });
    cat.on('close', (code, signal) => resolve([text, code, signal]));
    cat.stdin.end('line ' + i);
  }));
}
done.push(new Promise(resolve => {
  const sleep = child.spawn('sleep', ['100']);
  sleep.on('close', (code, signal) => resolve([code, signal]));
  setTimeout(() => sleep.kill(), 30);
}));
done.push(new Promise(resolve => {
  const forked = child.fork(__filename.replace('node_processes', 'node_forked'));
  forked.on('message', message => { resolve(message); forked.disconnect(); });
  forked.send({ number: 21 });
}));
done.push(new Promise(resolve => child.exec('sleep 100', { timeout: 50 }, error => resolve([error.killed, error.signal]))));
process.on('SIGUSR2', () => console.log('a signal'));
process.kill(process.pid, 'SIGUSR2');
Promise.all(done).then(all => console.log(JSON.stringify(all)));

// A server with four workers on one port, and sixty requests.
const cluster = require('cluster');
const http = require('http');
if (cluster.isPrimary) {
  let listening = 0, exits = 0;
  for (let i = 0; i < 4; i++) cluster.fork();
  cluster.on('listening', (worker, address) => {
    if (++listening < 4) return;
    let answers = 0, good = 0;
    for (let i = 0; i < 60; i++) {
      http.get({ port: address.port, path: '/' + i, agent: false }, response => {
        let text = '';
        response.on('data', data => { text += data; });
        response.on('end', () => {
          good += text === 'answer to /' + i;
          if (++answers === 60) { console.log('good', good); for (const id in cluster.workers) cluster.workers[id].kill(); }
        });
      });
    }
  });
  cluster.on('exit', (worker, code, signal) => { if (++exits === 4) console.log('all workers have ended', signal); });
} else {
  http.createServer((request, response) => response.end('answer to ' + request.url)).listen(0);
}

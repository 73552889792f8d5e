//! Servers and their clients, both inside: microseconds a request.

use crate::work::{self, Value, Work};
use crate::{Table, Way};
use anyhow::Result;

macro_rules! redis {
    ($port:literal, $socket:literal, $connect:literal, $test:literal) => {
        concat!(
            "redis-server --port ",
            $port,
            " ",
            $socket,
            " --save '' --appendonly no --logfile redis.log >/dev/null 2>&1 & server=$!; ",
            "for i in $(seq 100); do redis-cli ",
            $connect,
            " ping >/dev/null 2>&1 && break; sleep 0.05; done; ",
            "redis-benchmark ",
            $connect,
            " -c 20 -n 60000 --csv -t ",
            $test,
            " | tr -d '\"' | awk -F, '/^(GET|SET)/ { print 1e6 / $2 }'; kill $server; wait $server"
        )
    };
}

/// A cluster of its own, then pgbench with `$options` as a user who is not root.
macro_rules! pgbench {
    ($listen:literal, $host:literal, $options:literal) => {
        concat!(
            "export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; chmod 777 .; as=; [ $(id -u) -ne 0 ] || as='setpriv --reuid=1000 --regid=1000 --clear-groups'; $as bash -ec '",
            "mkdir s; export PGHOST=", $host, " PGPORT=17713 PGDATABASE=postgres PGUSER=owner; initdb -D data -U owner -A trust --no-sync >/dev/null 2>&1; ",
            "pg_ctl -D data -l log -w -o \"-c port=17713 -c listen_addresses=", $listen, " -c unix_socket_directories=$PWD/s -c fsync=off\" start >/dev/null; ",
            "pgbench -q -i -s 1 >/dev/null 2>&1; pgbench -c 4 -j 2 -T 2 ", $options,
            " 2>/dev/null | sed -n \"s/^tps = \\([0-9.]*\\).*/\\1/p\" > tps; pg_ctl -D data -w -m fast stop >/dev/null; ",
            "awk \"{ print 1e6 / \\$1 }\" tps; rm -rf data s log tps'"
        )
    };
}

const fn printed(name: &'static str, needs: &'static [&'static str], command: &'static str) -> Work {
    Work { name, needs, prepare: "", command, value: Value::Printed, aim: None }
}

const REDIS: &[&str] = &["redis-server", "redis-benchmark", "redis-cli"];

/// Nine tenths of the requests that are answered natively.
const RATE: f64 = 1.11;

const SERVERS: &[Work] = &[
    printed(
        "Redis, GET, unix socket",
        REDIS,
        redis!("0", "--unixsocket $PWD/r.sock", "-s $PWD/r.sock", "get"),
    )
    .aim(RATE),
    printed(
        "Redis, SET, unix socket",
        REDIS,
        redis!("0", "--unixsocket $PWD/r.sock", "-s $PWD/r.sock", "set"),
    )
    .aim(RATE),
    printed("Redis, GET, loopback TCP", REDIS, redis!("17711", "--bind 127.0.0.1", "-p 17711", "get")).aim(RATE),
    printed(
        "nginx with wrk, a small file, loopback TCP",
        &["nginx", "wrk"],
        "export PATH=$PATH:/usr/sbin; mkdir -p html logs; head -c 600 /dev/zero > html/index.html; \
         echo 'daemon off; master_process off; pid n.pid; error_log e.log; events {} http { access_log off; client_body_temp_path t1; proxy_temp_path t2; \
         fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5; server { listen 127.0.0.1:17712; root html; } }' > n.conf; \
         nginx -p $PWD/ -c n.conf -e e.log >/dev/null 2>&1 & server=$!; \
         for i in $(seq 100); do (echo > /dev/tcp/127.0.0.1/17712) 2>/dev/null && break; sleep 0.05; done; \
         wrk -t1 -c20 -d2s http://127.0.0.1:17712/ | awk '/^Requests\\/sec/ { print 1e6 / $2 }'; kill $server; wait $server; true",
    )
    .aim(RATE),
    printed("PostgreSQL with pgbench, unix socket", &["initdb", "pgbench"], pgbench!("", "$PWD/s", "")),
    printed(
        "PostgreSQL with pgbench, reads, unix socket",
        &["initdb", "pgbench"],
        pgbench!("", "$PWD/s", "-S"),
    ),
    printed(
        "PostgreSQL with pgbench, reads, loopback TCP",
        &["initdb", "pgbench"],
        pgbench!("127.0.0.1", "127.0.0.1", "-S"),
    ),
    printed(
        "fio, random 4 KiB reads and writes, tmpfs",
        &["fio"],
        "fio --name=r --directory=/dev/shm --size=64M --bs=4k --rw=randrw --ioengine=psync --runtime=2 --time_based --minimal \
         | awk -F';' '{ print 1e6 / ($8 + $49) }'; rm -f /dev/shm/r.0.0",
    ),
];

/// Microseconds a request.
pub fn measure(ways: &[Way]) -> Result<Table> {
    work::measure("Servers with their clients, all inside", "µs a request", SERVERS, ways, 3)
}

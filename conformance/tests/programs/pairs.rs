//! Servers with clients of their own: what a client prints is what it prints between two native ends.

use crate::have;
use conformance::ways::{self, Meeting, SANDBOXED, Server, Way};
use conformance::{Outcome, scratch};

/// A server and its client: scripts for bash, of which each is given an address and a port. A client prints what is the same each time,
/// and ends well if all of it has worked.
struct Pair {
    /// Programs that are to be installed.
    needs: &'static [&'static str],
    server: &'static str,
    client: &'static str,
}

/// Before each script: where Debian has what is not for everybody, a directory for the server, and somebody that is not root.
const BEFORE: &str = r#"set -euo pipefail
PATH=$(echo /usr/lib/postgresql/*/bin):/usr/sbin:$PATH
as=; [ "$(id -u)" -ne 0 ] || as="setpriv --reuid=1000 --regid=1000 --clear-groups"
fresh() { cd "$(mktemp -d -p "$PWD")"; chmod 777 .; }
"#;

const REDIS: Pair = Pair {
    needs: &["redis-server", "redis-cli", "redis-benchmark"],
    server: "exec redis-server --bind $1 --port $2 --save '' --daemonize no --protected-mode no",
    client: r#"cli="redis-cli -h $1 -p $2"
[ "$($cli ping)" = PONG ]; $cli flushall; $cli set key value; $cli get key
redis-benchmark -h $1 -p $2 -n 3000 -c 20 -q -t set,get,incr,lpush,lrange_100,mset | tr '\r' '\n' |
  sed -nE 's/^([A-Z].*): [0-9.]+ requests per second.*/\1: done/p; /[Ee]rror/p'
$cli get counter:__rand_int__; $cli llen mylist; seq 2000 | sed 's/.*/SET k& &/' | $cli --pipe | tail -1; $cli dbsize"#,
};

const NGINX: Pair = Pair {
    needs: &["nginx", "wrk", "curl"],
    server: r#"fresh; mkdir html; seq 200000 >html/numbers; echo small >html/small; chmod 755 html
cat >n.conf <<CONF
daemon off; worker_processes 2; pid n.pid; error_log e.log; events {}
http { access_log off; sendfile on; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
  scgi_temp_path t5; server { listen $1:$2; root html; } }
CONF
exec nginx -p "$PWD" -c n.conf -e e.log"#,
    client: r#"url=http://$1:$2; get() { curl -sSf --noproxy '*' -m 60 "$@"; }
get $url/numbers | md5sum; get -r 100-199 $url/numbers | md5sum; get $url/small
some() { awk '/requests in/ && $1 > 0 { print "some"; some = 1 } /Socket errors|Non-2xx/ { print } END { exit !some }'; }
for header in 'Connection: keep-alive' 'Connection: close'; do
  wrk --timeout 60s -t 2 -c 20 -d 1 -H "$header" $url/small | some
done
wrk --timeout 60s -t 1 -c 4 -d 1 $url/numbers | some"#,
};

const POSTGRESQL: Pair = Pair {
    needs: &["initdb", "postgres", "psql", "pgbench"],
    server: r#"fresh; $as initdb -D data -U owner -A trust --no-sync >/dev/null
echo 'host all all all trust' >>data/pg_hba.conf
exec $as postgres -D data -h $1 -p $2 -c unix_socket_directories= -c fsync=off"#,
    client: r#"export PGHOST=$1 PGPORT=$2 PGDATABASE=postgres PGUSER=owner PGCONNECT_TIMEOUT=60
psql -Atc 'select 6 * 7'; pgbench -q -i -s 1 2>/dev/null
for more in '' '-C' '-S -M prepared'; do
  pgbench -n -c 4 -j 2 -t 50 $more 2>&1 | grep -E 'actually processed|failed transactions|aborted'
done
psql -Atc 'select count(*), (select sum(abalance) from pgbench_accounts) = sum(delta) from pgbench_history'
psql -Atc "copy (select repeat('x', 99) from generate_series(1, 50000)) to stdout" | md5sum"#,
};

fn check(pair: &Pair) {
    if !have(pair.needs) {
        return;
    }
    let place = scratch().expect("a directory");
    let script = |text: &str| format!("{BEFORE}{text}");
    let (server, client) = (script(pair.server), script(pair.client));
    let argv = ["bash", "-c", &server, "server"];
    let server = Server { place: place.path(), options: &[], argv: &argv, v6: false };
    let outcome = |way: Way| -> Option<Outcome> {
        let mut outcome = None;
        let ask = |meeting: &Meeting<'_>| {
            outcome = Some(meeting.ask(&["bash", "-c", &client, "client", meeting.at, meeting.port]));
        };
        ways::meet(way, &server, ask).expect("a server");
        outcome
    };
    let native = outcome(Way::Natively).expect("native ends always meet");
    assert_eq!(native.status, 0, "{}{}", native.stdout, native.stderr);
    for way in SANDBOXED {
        if let Some(outcome) = outcome(way) {
            assert_eq!(
                (&*outcome.stdout, outcome.status),
                (&*native.stdout, 0),
                "{way:?}: {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn redis_serves_its_benchmark_each_way() {
    check(&REDIS);
}

#[test]
fn nginx_serves_wrk_each_way() {
    check(&NGINX);
}

#[test]
fn postgresql_serves_pgbench_each_way() {
    check(&POSTGRESQL);
}

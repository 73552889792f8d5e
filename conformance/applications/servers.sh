#!/usr/bin/env bash
# servers.sh NAME: a server and its clients, all over loopback TCP in one place. Prints what must be the same on every run.
set -uo pipefail
export HOME=$PWD LC_ALL=C no_proxy='*'
ended() { kill "$@" 2>/dev/null; wait "$@" 2>/dev/null; }
trap 'ended $(jobs -p)' EXIT
answering() { for _ in $(seq 200); do (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.05; done; echo "nobody at port $1"; }

redis() {
  redis-server --port 7001 --save '' --daemonize no --logfile redis.log --unixsocket "$PWD/redis.sock" &
  answering 7001
  local way
  for way in "-p 7001" "-s redis.sock"; do
    redis-cli $way set key "value $way"; redis-cli $way get key
    redis-benchmark $way -n 5000 -c 20 -q -t set,get,incr,lpush,lrange_100,mset 2>/dev/null | tr '\r' '\n' | grep -oE '^[A-Z].*: [0-9.]+ requests' | sed 's/:.*/ done/'
  done
  redis-cli -p 7001 dbsize; redis-cli -p 7001 --pipe < <(for i in $(seq 2000); do echo "SET k$i $i"; done) | tail -1
  redis-cli -p 7001 subscribe channel >heard & local listener=$!
  for _ in $(seq 100); do [ "$(redis-cli -p 7001 pubsub numsub channel | tail -1)" = 1 ] && break; sleep 0.05; done
  redis-cli -p 7001 publish channel hello; sleep 0.3; ended $listener; cat heard
  redis-cli -p 7001 shutdown nosave; wait
}

nginx() {
  mkdir -p www logs; seq 200000 >www/numbers; echo small >www/small
  cat >nginx.conf <<CONF
daemon off; worker_processes 2; pid $PWD/nginx.pid; error_log $PWD/logs/error; ${as_nginx:-}
events { worker_connections 256; }
http { access_log off; sendfile on; client_body_temp_path $PWD/body; proxy_temp_path $PWD/proxy; fastcgi_temp_path $PWD/f;
  uwsgi_temp_path $PWD/u; scgi_temp_path $PWD/s;
  server { listen 127.0.0.1:7002; listen [::1]:7002; root $PWD/www; location /to/ { proxy_pass http://127.0.0.1:7002/; } } }
CONF
  [ "$(id -u)" -ne 0 ] || { chmod 755 . www; chmod 777 .; }
  /usr/sbin/nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
  answering 7002
  curl -s http://127.0.0.1:7002/numbers | md5sum; curl -s 'http://[::1]:7002/small'; curl -s http://127.0.0.1:7002/to/numbers | md5sum
  curl -s -r 100-199 http://127.0.0.1:7002/numbers | md5sum; curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:7002/none
  curl -s --no-progress-meter --parallel $(for i in $(seq 40); do echo "http://127.0.0.1:7002/small"; done) | sort | uniq -c
  wget -q -O - http://127.0.0.1:7002/numbers | md5sum
  wrk -t 2 -c 20 -d 2 http://127.0.0.1:7002/small | grep -cE 'Socket errors|Non-2xx'
  wrk -t 1 -c 10 -d 1 http://127.0.0.1:7002/to/numbers | grep -cE 'Socket errors|Non-2xx'
  kill -QUIT "$(cat nginx.pid)"; wait; wc -l <logs/error
}

postgresql() {
  export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGHOST=127.0.0.1 PGPORT=7003 PGDATABASE=postgres PGUSER=owner
  initdb -D data -U owner -A trust --no-sync >initdb.log 2>&1 || { cat initdb.log; exit 1; }
  pg_ctl -D data -l log -w -o "-p 7003 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off" start >/dev/null || cat log
  psql -Atc "select 6 * 7, inet_server_addr(), inet_client_addr()"; pgbench -q -i -s 1 2>/dev/null
  pgbench -c 4 -j 2 -T 3 2>&1 | grep -E "failed|number of (clients|threads)"
  psql -Atc "select count(*), sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts"
  pg_ctl -D data -w -m fast stop
}

iperf() {
  iperf3 -s -p 7004 >server.log 2>&1 & answering 7004
  # The server may still be busy with the connection that asked whether it answers.
  for try in {1..20}; do iperf3 -c 127.0.0.1 -p 7004 -t 1 -J >first && break; sleep 0.2; done
  grep -c bits_per_second first | sed 's/[1-9][0-9]*/some/'
  iperf3 -c 127.0.0.1 -p 7004 -t 1 -R -P 4 | grep -c receiver; iperf3 -c ::1 -p 7004 -t 1 | grep -c receiver
  iperf3 -c 127.0.0.1 -p 7004 -u -b 50M -t 1 | grep -c receiver; iperf3 -c 127.0.0.1 -p 7004 -n 10M | grep -oE ' 10\.0 MBytes .*sender' | wc -l
}

ssh() {
  ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user; cp user.pub authorized; chmod 600 authorized
  mkdir -p /run/sshd; chmod 755 /run/sshd
  /usr/sbin/sshd -D -e -p 7005 -f /dev/null -h "$PWD/host" -o ListenAddress=127.0.0.1 -o AuthorizedKeysFile="$PWD/authorized" \
    -o StrictModes=no -o UsePAM=yes -o PidFile=none 2>sshd.log & answering 7005
  local options=(-p 7005 -i user -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=known -o LogLevel=ERROR)
  command ssh "${options[@]}" 127.0.0.1 'echo in; exit 3'; echo "status $?"
  seq 100000 | command ssh "${options[@]}" 127.0.0.1 md5sum
  command ssh "${options[@]}" -tt 127.0.0.1 'tty | sed s/[0-9]*$/N/; stty size' </dev/null | tr -d '\r'
  command ssh "${options[@]}" -f -N -L 7006:127.0.0.1:7005 127.0.0.1; answering 7006
  command ssh "${options[@]}" -p 7006 127.0.0.1 echo through a tunnel
  kill $(pgrep -f 'L 7006') ; grep -c 'Accepted publickey' sshd.log
}

dig() {
  python3() { /usr/bin/python3 "$@"; }
  python3 -c "
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 7007)); open('ready', 'w').close()
for _ in range(3):
    q, c = s.recvfrom(2000); end = q.index(b'\0', 12) + 5
    s.sendto(q[:2] + b'\x85\x80' + struct.pack('>HHHH', 1, 1, 0, 0) + q[12:end] + b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + bytes([192, 0, 2, 7]), c)
" & for _ in $(seq 100); do [ -e ready ] && break; sleep 0.05; done
  command dig @127.0.0.1 -p 7007 +short +tries=1 a.test; command dig @127.0.0.1 -p 7007 +noedns +short b.test; command dig @127.0.0.1 -p 7007 c.test | grep -E 'status|192'  | sed 's/id: .*//'
  command dig @127.0.0.1 -p 7008 +tries=1 +time=1 a.test | grep -oE 'connection refused|no servers could be reached' | sort -u
}

sockets() {
  /usr/bin/python3 -m http.server -b 127.0.0.1 7009 2>/dev/null & answering 7009
  ss -Htnl | awk '{ print $1, $4, $5 }'; ss -Htnlp | grep -oE '"[a-z0-9.]+"'; ss -Hxl | wc -l; netstat -tln | tail -n +3 | awk '{ print $1, $4, $5, $6 }'
  ping -c 2 -i 0.2 127.0.0.1 | grep -oE '^[0-9]+ packets transmitted, [0-9]+ received'; ping -6 -c 1 ::1 | grep -oE '^64 bytes from ::1'
  ip -br addr show lo | awk '{ print $1, $2, $3, $4 }'
}

"$1"

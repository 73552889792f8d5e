#!/usr/bin/env bash
# rebinding.sh SANDBOX-EXEC: in fresh namespaces, with a name server on loopback whose names point at first outside, then inside.
# The broker must tell the program no inner address, and connect it to none.
set -euo pipefail
command=$1
ip link set lo up
ip address add 9.9.9.9/32 dev lo
ip address add 9.9.9.10/32 dev lo
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
echo 'nameserver 127.0.0.1' >"$work/resolv.conf"
mount --bind "$work/resolv.conf" "$(realpath /etc/resolv.conf)"
cat >"$work/names.py" <<'PYTHON'
import socket, struct, sys
# Answers in turn: each query for a name gets the next address of its list, and from then on the last.
LISTS = {b'flip': ['9.9.9.10', '127.0.0.1'], b'metadata': ['169.254.169.254'], b'private': ['10.0.0.1', '192.168.1.1'],
         b'mapped': ['0.0.0.0'], b'plain': ['9.9.9.10']}
asked = {}
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 53))
print('ready', flush=True)
while True:
    query, client = server.recvfrom(2000)
    length = query[12]
    label = query[13:13 + length].lower()
    end = query.index(b'\0', 12) + 5
    kind = struct.unpack('>H', query[end - 4:end - 2])[0]
    answers = b''
    if kind == 1 and label in LISTS:
        places = LISTS[label]
        turn = asked.get(label, 0)
        asked[label] = turn + 1
        ip = places[min(turn, len(places) - 1)]
        # Dead at once, so that the next look asks again.
        answers = b'\xc0\x0c' + struct.pack('>HHIH', 1, 1, 0, 4) + socket.inet_aton(ip)
    head = query[:2] + b'\x85\x80' + struct.pack('>HHHH', 1, 1 if answers else 0, 0, 0)
    server.sendto(head + query[12:end] + answers, client)
PYTHON
/usr/bin/python3 "$work/names.py" >"$work/ready" &
for address in 127.0.0.1 9.9.9.10; do
  mkdir -p "$work/$address"
  echo "at $address" >"$work/$address/page"
  (cd "$work/$address" && exec /usr/bin/python3 -m http.server 8080 --bind "$address" >/dev/null 2>&1) &
done
for _ in $(seq 100); do
  grep -q ready "$work/ready" && curl -s --noproxy '*' http://127.0.0.1:8080/page >/dev/null &&
    curl -s --noproxy '*' http://9.9.9.10:8080/page >/dev/null && break
  sleep 0.1
done
cat >"$work/program.py" <<'PYTHON'
import socket, urllib.request, time
def look(name):
    try: return sorted({place[4][0] for place in socket.getaddrinfo(name, 8080, type=socket.SOCK_STREAM)})
    except socket.gaierror: return 'no address'
for name in ('plain.test', 'flip.test', 'flip.test', 'flip.test', 'metadata.test', 'private.test', 'mapped.test', 'other.net'):
    print(name, look(name))
    time.sleep(1.1)
for place in ('127.0.0.1', '10.0.0.1', '169.254.169.254', '9.9.9.9'):
    s = socket.socket(); s.settimeout(5)
    print(place, s.connect_ex((place, 8080)) != 0)
PYTHON
# 9.9.9.9 and 9.9.9.10 are this host's own addresses: the latter is named.
"$command" --allow-net '*.test:8080' --allow-net 9.9.9.10:8080 --net-log "$work/log" -- \
  /usr/bin/python3 -c "$(cat "$work/program.py")" >"$work/seen"
diff "$work/seen" - <<'SEEN' || { cat "$work/log"; exit 1; }
plain.test ['9.9.9.10']
flip.test ['9.9.9.10']
flip.test no address
flip.test no address
metadata.test no address
private.test no address
mapped.test no address
other.net no address
127.0.0.1 True
10.0.0.1 True
169.254.169.254 True
9.9.9.9 True
SEEN
grep -q '"withheld":\["127.0.0.1"\]' "$work/log"
grep -q '"withheld":\["169.254.169.254"\]' "$work/log"
grep -q '"address":"9.9.9.9".*"decision":"deny"' "$work/log"

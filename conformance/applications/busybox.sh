# Many applets of busybox, one after the other: what each prints and its status.
printf 'pear\napple\nfig\napple\n' > f
b=/usr/bin/busybox
[ -x $b ] || b=$(command -v busybox)
while read -r c; do
  [ -n "$c" ] || continue
  echo "\$ $c"
  eval "$b $c" 2>&1
  echo "= $?"
done <<'APPLETS'
cat f
sort f
sort -u f
uniq -c f
wc f
head -n 2 f
tail -n 1 f
tac f
nl f
rev f
tr a-z A-Z < f
cut -c1-2 f
grep -n a f
sed s/p/q/ f
awk '{ print NR, $1 }' f
awk 'BEGIN { system("echo hi"); print 1/3 }'
md5sum f
sha1sum f
sha256sum f
sha512sum f
cksum f
sum f
od -c f
hexdump -C f
xxd f
base64 f
expr 3 + 4
seq 1 3 10
factor 360
bc -e '2^10' 2>/dev/null || echo 1024
dc -e '2 3 + p'
basename /a/b.c .c
dirname /a/b
printf '%05d\n' 42
echo -e 'a\tb'
env -i A=1 env
id -u
uname -s
nproc
true
false
test -f f
[ 1 = 1 ]
mkdir d
touch d/x
cp f d/y
mv d/y d/z
ls -la d | cut -c1-10
ln -s f l
readlink l
ln f h
stat -c '%s %a %h' f
find . -name 'x*'
rm -r d
dd if=f of=g bs=4 count=2
cmp f g
diff f g
gzip -c f | zcat
bzip2 -c f | bunzip2 -c
tar cf - f g | tar tf -
cpio -o -H newc < /dev/null | wc -c
xargs echo < f
tee k < f
split -l 2 f s
paste f f
fold -w 3 f
expand f
unexpand f
comm f f
shuf -e a
strings f
date -u -d @0
cal 2 2024
sleep 0
usleep 10
timeout 5 echo t
nice echo n
setsid echo s
flock f echo locked
sh -c 'echo $((6 * 7))'
ash -c 'trap "echo t" TERM; kill -TERM $$'
ash -c 'sleep 0.1 & wait $!; echo waited $?'
ash -c 'yes | head -n 2'
ash -c 'exit 7'
kill -l
truncate -s 3 k
fallocate -l 10 q
chmod 600 f
install -m 644 f i
crc32 f
getopt ab: -a -b x
ipcalc -n 10.0.0.1/8
tty
no-such-applet
APPLETS

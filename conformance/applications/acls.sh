# Access control lists of a directory's files: made outside beforehand (`make`), shown and changed (`use`), shown again (`show`).
#   acls.sh make|use|show DIRECTORY [own]      own: the caller may name nobody but itself
cd "$2" || exit 1
umask 027
me=$(id -u) other=1001 group=1002
[ "$3" != own ] || { other=$me; group=$(id -g); }
show() { for name in $(find "$@" | LC_ALL=C sort); do getfacl -n "$name" 2>&1; stat -c %A "$name"; done; }
as() { setpriv --reuid "$1" --regid 4242 --clear-groups --inh-caps=-all sh -c "$2" 2>&1; echo "as $1, $2: $?"; }
case $1 in
make)
  mkdir -m 755 below below/deep below/plain
  echo old >below/f && echo old >below/g && echo old >below/deep/f
  setfacl -m u:$other:rw,g:$group:r below/f && setfacl -m u:$other:r,m::r below/g
  setfacl -m u:$other:rwx,d:u:$other:rwx,d:g:$group:r,d:o::- below/deep
  ;;
use)
  show below
  # What is below an overlay comes up with its lists, and with no others.
  echo new >>below/f && chmod 640 below/g && setfacl -m g:$group:x below/deep/f && mkdir below/deep/made && mv below/f below/deep/moved
  ln below/g below/linked
  setfacl -m d:u:$other:rwx below && echo new >>below/linked && touch below/plain/f && show below
  setfacl -k below
  echo hi >a && setfacl -m u:$other:rw,g:$group:r a && show a && ls -l a | cut -c1-11
  mkdir d && setfacl -d -m u:$other:rwx,g:$group:rx d && show d
  touch d/file && mkdir d/directory && ln -s nowhere d/link && (umask 0; touch d/open) && (umask 077; touch d/closed) && show d/file d/directory d/open d/closed
  cp -a a b && cp -a d c && show b && show c
  chmod 600 a && show a && setfacl -x u:$other a && show a && setfacl -b a && show a && setfacl -k d && show d
  tar --acls -cf t.tar c b && rm -rf c b && tar --acls -xf t.tar && show c b && rm t.tar
  getfacl c/file >list && setfacl -b c/file && setfacl --restore=list && show c/file
  python3 -c 'import os; print(sorted(os.listxattr("b")), sorted(os.listxattr("d")), os.listxattr("c"))'
  setfacl -m u:$other:rw,o::- nowhere 2>&1; setfacl -d -m u:$other:rw,o::- b 2>&1
  if [ "$3" != own ]; then
    setfacl -m u:1001:rw,g:1002:r,o::- b && mkdir -m 700 in && setfacl -m u:1001:x in && echo in >in/f && chmod 644 in/f
    for who in 1001 4243; do as $who 'cat b'; as $who 'echo more >>b'; as $who 'test -w b'; as $who 'cat in/f'; as $who 'ls in'; as $who 'setfacl -b b'; done
    setpriv --reuid 4243 --regid 1002 --clear-groups --inh-caps=-all sh -c 'cat b; test -w b; echo $?' 2>&1
  fi
  ;;
show) show . ;;
esac

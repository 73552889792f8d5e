# Every kind of file, copied by tar, cp or rsync: what arrives is what was there.
#   kinds.sh tar|cp|rsync
# The files lie outside of the working directory, because bound directories have no named pipes.
umask 022
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" && mkdir "$work/t" && cd "$work/t" || exit
seq 3000 >plain; ln plain second; ln -s plain soft; ln -s /no/where dangling; mkfifo pipe; mkdir -m 1751 d; mkdir -m 700 d/e
truncate -s 1M sparse; printf end >>sparse; printf x >'a name with blanks'; chmod 1755 'a name with blanks'; : >empty; chmod 0 empty
printf y >"d/e/$(printf 'n%.0s' {1..250})"; chmod 640 plain
touch -h -d @1000000 soft dangling
# Times that are the same in every run.
settle() { touch -c -d @1234567 plain d/e/* sparse pipe empty 'a name with blanks' d/e d . 2>/dev/null; }
settle

# Kind, mode, owner, target, time, links and contents of each; links and sizes of directories are not compared. What its mode
# keeps shut is not read: in a bound directory not even root may.
show() { (cd "$1" && find . -printf '%p %y %m %U:%G %l %T@\n' | sort && find . -type f -printf '%p %n\n' | sort && find . -type f ! -name empty -exec sh -c 'stat -c "%n %s" "$1"; md5sum <"$1"' _ {} \; | sort); }
same() { diff <(show "$work/t") <(show "$1") && echo "the same"; }

case $1 in
  tar)
    tar -C "$work" -cSf "$work/t.tar" t && tar -tf "$work/t.tar" | sort | md5sum
    mkdir "$work/u" && tar -C "$work/u" -xpf "$work/t.tar" && same "$work/u/t"
    tar -C "$work/u" -df "$work/t.tar"; echo $?
    tar --exclude pipe -C "$here" -xpf "$work/t.tar" && rm pipe && settle; touch -d @1234567 "$here/t" && same "$here/t"
    ;;
  cp)
    cp -a --reflink=auto . "$work/u" && same "$work/u"
    rm pipe; settle; cp -a --reflink=auto . "$here/t" && same "$here/t"
    cp -al . "$work/v" && find "$work/v" -links +1 -type f | wc -l
    ;;
  rsync)
    rsync -aHS ./ "$work/u" && same "$work/u"
    rsync -aHSi ./ "$work/u"
    rm d/e/n*; echo more >>plain; touch -d @1234599 plain; touch -d @1234567 d/e
    rsync -aHSi --delete ./ "$work/u" && same "$work/u"
    rm pipe; settle; rsync -aHS ./ "$here/t" && same "$here/t"
    ;;
esac
# Where it was written through it is compared from outside, too.

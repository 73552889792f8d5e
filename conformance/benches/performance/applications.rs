//! Real programs doing real work, and programs that only compute.

use crate::work::{self, Work};
use crate::{Table, Way};
use anyhow::Result;

const APPLICATIONS: &[Work] = &[
    Work::timed(
        "Python, importing 30 modules",
        "",
        "/usr/bin/python3 -c 'import json, asyncio, email, http.client, unittest, sqlite3, decimal, ctypes, logging, xml.dom.minidom'",
    ),
    Work::timed(
        "Lua 5.4, `make -j2` with gcc",
        "cp -r \"$($SOURCE lua5.4)/src\" .",
        "cd src && make -s clean >/dev/null; make -s -j2 linux CC=gcc MYLIBS= MYCFLAGS=-O1",
    )
    .needs(&["gcc", "make"]),
    Work::timed(
        "gcc, 12 C files with `make -j2`",
        "for i in $(seq 12); do { echo '#include <stdio.h>'; echo '#include <stdlib.h>'; echo '#include <string.h>'; for f in $(seq 40); do \
         echo \"int f${i}_$f(int n) { int s = 0; for (int i = 0; i < n; i++) s += i * $f % (n + 1); char b[64]; snprintf(b, sizeof b, \\\"%d\\\", s); return atoi(b) + (int)strlen(b); }\"; done; } > m$i.c; done; \
         { echo 'OBJECTS = $(patsubst %.c,%.o,$(wildcard m*.c))'; echo 'all: $(OBJECTS)'; } > Makefile",
        "rm -f *.o; make -s -j2 CFLAGS=-O1",
    )
    .needs(&["gcc", "make"]),
    Work::timed(
        "`cargo build` of a small crate",
        "mkdir -p small/src; printf '[package]\\nname = \"small\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n' > small/Cargo.toml; \
         for i in $(seq 60); do echo \"pub fn f$i(x: &str) -> Vec<String> { x.split(' ').map(|w| format!(\\\"{w}-$i\\\")).collect() }\"; done > small/src/lib.rs; \
         echo 'fn main() { println!(\"{:?}\", small::f1(\"a b\")); }' > small/src/main.rs; rustc --print sysroot > toolchain",
        "unset CARGO_TARGET_DIR; PATH=$(cat toolchain)/bin:$PATH; cd small && rm -rf target && cargo build -q --offline",
    )
    .needs(&["cargo", "rustc"]),
    Work::timed(
        "`git status` of 20,000 files",
        "mkdir r; cd r; git init -q .; for d in $(seq 200); do mkdir d$d; for f in $(seq 100); do echo $d $f > d$d/f$f; done; done; \
         git -c core.safecrlf=false add . && git -c user.name=a -c user.email=a@b commit -q -m all && git status --short",
        "cd r && git -c safe.directory='*' status --short",
    )
    .needs(&["git"])
    .aim(1.0),
    Work::timed("`find /usr`", "", "find /usr -name '*.so' >/dev/null; true").aim(1.0),
    Work::timed("`du -s /usr`", "", "du -s /usr >/dev/null; true"),
    Work::timed("`tar` of `/usr/include`", "", "rm -f t.tar; tar -cf t.tar -C / usr/include"),
    Work::timed(
        "untar of `/usr/include`",
        "tar -cf t.tar -C / usr/include",
        "rm -rf t; mkdir t; tar -xf t.tar -C t",
    ),
    Work::timed(
        "`xz -1` of 16 MiB",
        "cat /usr/bin/python3.* /usr/bin/git /usr/lib/x86_64-linux-gnu/libc.so.6 | head -c 12582912 > data; head -c 4194304 /dev/zero >> data",
        "xz -1 -k -f data",
    )
    .needs(&["xz"]),
    Work::timed(
        "ImageMagick, PNG to JPEG at half the size",
        "convert -seed 1 -size 1200x900 plasma:fractal in.png",
        "convert in.png -resize 50% -quality 85 out.jpg",
    )
    .needs(&["convert"]),
    Work::timed(
        "SQLite, 20,000 inserts, then selects",
        "{ echo 'pragma synchronous=off; create table t(a integer primary key, b text);'; for i in $(seq 20000); do echo \"insert into t(b) values('row $i');\"; done; \
         for i in $(seq 2000); do echo \"select b from t where a = $i;\"; done; } > s.sql",
        "rm -f x.db; sqlite3 x.db < s.sql >/dev/null",
    )
    .needs(&["sqlite3"]),
    Work::timed("shell, 300 processes", "", "for i in $(seq 300); do /bin/true; done"),
];

/// They hardly ever call the kernel.
const COMPUTING: &[Work] = &[
    Work::timed(
        "Python, a loop of arithmetic",
        "",
        "/usr/bin/python3 -c 's = 0\nfor i in range(4000000): s += i * i % 7'",
    )
    .aim(1.01),
    Work::timed(
        "C, a sieve and floating point",
        "cat > c.c <<'.'\n#include <math.h>\n#include <stdio.h>\nstatic char s[8 << 20];\nint main(void) { double x = 0; long n = 0;\n\
         for (int r = 0; r < 6; r++) { for (long i = 2; i < sizeof s; i++) s[i] = 0; for (long i = 2; i * i < (long)sizeof s; i++) if (!s[i]) for (long j = i * i; j < (long)sizeof s; j += i) s[j] = 1;\n\
         for (long i = 2; i < (long)sizeof s; i++) n += !s[i]; for (int i = 1; i < 6000000; i++) x += sqrt(i) / (i + r); }\nprintf(\"%ld %f\\n\", n, x); }\n.\ngcc -O2 -o c c.c -lm",
        "./c",
    )
    .needs(&["gcc"])
    .aim(1.01),
    Work::timed(
        "`xz -6` of 3 MiB",
        "cat /usr/bin/python3.* /usr/bin/git /usr/lib/x86_64-linux-gnu/libc.so.6 | head -c 3145728 > data",
        "xz -6 -k -f -T1 data",
    )
    .needs(&["xz"])
    .aim(1.01),
];

/// Milliseconds.
pub fn measure(ways: &[Way]) -> Result<Table> {
    // The toolchain of `cargo build` may lie in a home directory, which a sandbox does not show.
    let toolchain = std::process::Command::new("rustc").args(["--print", "sysroot"]).output();
    let toolchain =
        toolchain.map_or_else(|_| String::new(), |out| String::from_utf8_lossy(&out.stdout).into());
    let ways: Vec<Way> = ways
        .iter()
        .map(|way| match toolchain.trim() {
            "" => way.clone(),
            toolchain => way.with_options(&["--ro-bind", toolchain]),
        })
        .collect();
    work::measure("Applications, second run in one sandbox", "ms", APPLICATIONS, &ways, 3)
}

/// Milliseconds of programs that compute.
pub fn measure_computing(ways: &[Way]) -> Result<Table> {
    work::measure("Programs that only compute", "ms", COMPUTING, ways, 5)
}

//! Web servers, each asked by each of several clients.

use crate::have;
use conformance::ways::{self, Meeting, SANDBOXED, Server};
use conformance::{run, scratch};
use std::path::Path;
use std::process::Command;

/// A program with a server, a client or both.
struct Program {
    name: &'static str,
    needs: &'static [&'static str],
    /// A script that makes it of its source, which lies in `$1`.
    build: &'static str,
    /// Serves one page, whatever is asked for, and says nothing; an address and a port follow.
    server: Option<&'static [&'static str]>,
    /// Tells the length of the page `$1`.
    client: &'static str,
}

const PROGRAMS: [Program; 6] = [
    Program {
        name: "curl",
        needs: &["curl"],
        build: "",
        server: None,
        client: "exec curl -sS --noproxy '*' -m 30 -o /dev/null -w '%{size_download}\\n' \"$1\"",
    },
    Program {
        name: "wget",
        needs: &["wget"],
        build: "",
        server: None,
        client: "wget -q --no-proxy -T 30 -t 1 -O - \"$1\" | wc -c; exit ${PIPESTATUS[0]}",
    },
    Program {
        name: "python",
        needs: &["/usr/bin/python3"],
        build: "",
        server: Some(&[
            "/usr/bin/python3",
            "-c",
            "import http.server as h, sys
class Page(h.BaseHTTPRequestHandler):
    log_message = lambda *rest: None
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '5000000'); self.end_headers(); self.wfile.write(b'x' * 5000000)
h.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Page).serve_forever()",
        ]),
        client: "exec /usr/bin/python3 -c 'import sys, urllib.request as r; print(len(r.build_opener(r.ProxyHandler({})).open(sys.argv[1]).read()))' \"$1\"",
    },
    Program {
        name: "node",
        needs: &["node"],
        build: "",
        server: Some(&[
            "node",
            "-e",
            "require('http').createServer((q, r) => r.end('x'.repeat(5000000))).listen(+process.argv[2], process.argv[1])",
        ]),
        client: "exec node -e 'require(\"http\").get(process.argv[1], (r) => { let n = 0; r.on(\"data\", (d) => n += d.length); r.on(\"end\", () => console.log(n)) })' \"$1\"",
    },
    Program {
        name: "go",
        needs: &["go"],
        build: "GO111MODULE=off CGO_ENABLED=0 GOCACHE=$PWD/cache go build -o web \"$1/web.go\" && rm -rf cache",
        server: Some(&["./web", "serve"]),
        client: "exec ./web fetch \"$1\"",
    },
    Program {
        name: "java",
        needs: &["java", "javac"],
        build: "javac -d . \"$1/Web.java\"",
        server: Some(&["java", "-cp", ".", "Web", "serve"]),
        client: "exec java -cp . Web fetch \"$1\"",
    },
];

/// What of it is installed, made in `place`.
fn made(place: &Path) -> Vec<Program> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let mut programs = Vec::from(PROGRAMS);
    programs.retain(|program| have(program.needs));
    for program in &programs {
        let mut build = Command::new("bash");
        build.args(["-c", program.build, program.name]).arg(&sources).current_dir(place);
        let built = run(&mut build).expect("runs");
        assert_eq!(built.status, 0, "{}: {}{}", program.name, built.stdout, built.stderr);
    }
    programs
}

#[test]
fn web_clients_fetch_from_web_servers_each_way() {
    let place = scratch().expect("a directory");
    let programs = made(place.path());
    for (serves, argv) in programs.iter().filter_map(|program| Some((program.name, program.server?))) {
        let fetch = |meeting: &Meeting<'_>| {
            let url = format!("http://{}:{}/page", meeting.at, meeting.port);
            for Program { name, client, .. } in &programs {
                let outcome = meeting.ask(&["bash", "-c", client, name, &url]);
                assert_eq!(
                    (outcome.status, &*outcome.stdout),
                    (0, "5000000\n"),
                    "{name} from {serves}, {:?}: {}",
                    meeting.way,
                    outcome.stderr
                );
            }
        };
        let server = Server { place: place.path(), options: &[], argv, v6: false };
        for way in SANDBOXED {
            ways::meet(way, &server, fetch).expect("a server");
        }
    }
}

//! Over an interface of its own (`--network=stack`), to native servers at the other end of a cable: microseconds a MiB, or a request.

use crate::ways::runs;
use crate::work::{self, Value, Work};
use crate::{Table, Way};
use anyhow::{Context, Result};
use conformance::cable::{Cable, INSIDE, OUTSIDE};
use conformance::{Background, sandbox_exec, scratch};
use std::net::SocketAddr;
use std::process::Stdio;

macro_rules! iperf {
    ($options:literal) => {
        concat!(
            "for i in $(seq 100); do iperf3 -c 10.77.0.1 -p 17714 -t 2 -J ",
            $options,
            " > iperf.json && break; sleep 0.1; done; /usr/bin/python3 -c 'import json; \
             print(8e6 * (1 << 20) / json.load(open(\"iperf.json\"))[\"end\"][\"sum_received\"][\"bits_per_second\"])'"
        )
    };
}

/// A request of its own connection each.
const REQUESTS: &str = "wrk -t1 -c20 -d2s -H 'Connection: close' http://10.77.0.1:17715/ | awk '/^Requests\\/sec/ { print 1e6 / $2 }'";
const KEPT: &str = "wrk -t1 -c20 -d2s http://10.77.0.1:17715/ | awk '/^Requests\\/sec/ { print 1e6 / $2 }'";

const fn printed(name: &'static str, needs: &'static [&'static str], command: &'static str) -> Work {
    Work { name, needs, prepare: "", command, value: Value::Printed, aim: None }
}

const WORKS: &[Work] = &[
    printed("iperf3, a MiB to the other end", &["iperf3"], iperf!("")),
    printed("iperf3, a MiB from the other end", &["iperf3"], iperf!("-R")),
    printed("iperf3, a MiB to the other end, four connections", &["iperf3"], iperf!("-P 4")),
    printed("wrk to nginx, a request and its connection", &["wrk", "nginx"], REQUESTS),
    printed("wrk to nginx, a request", &["wrk", "nginx"], KEPT),
];

const NGINX: &str = "daemon off; master_process off; pid n.pid; error_log e.log; events {} http { access_log off; client_body_temp_path t1; \
    proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5; server { listen 17715; root html; } }";

/// Microseconds each. Native is from one network namespace to another, too.
pub fn measure(ways: &[Way]) -> Result<Table> {
    const TITLE: &str = "Over an interface of its own";
    const UNIT: &str = "µs";
    let Some(cable) = Cable::new()? else {
        return Ok(Table::new(TITLE, UNIT, Vec::new()));
    };
    let directory = scratch()?;
    std::fs::create_dir(directory.path().join("html"))?;
    std::fs::write(directory.path().join("html/index.html"), [b'x'; 600])?;
    std::fs::write(directory.path().join("n.conf"), NGINX)?;
    // What is not installed is left out, and so is what would ask it.
    let iperf = Background::start(&mut cable.outside(&["iperf3", "-s", "-p", "17714"]));
    let place = directory.path().to_str().context("its name")?;
    let nginx = ["/usr/sbin/nginx", "-p", place, "-c", "n.conf", "-e", "e.log"];
    let nginx = Background::start(cable.outside(&nginx).current_dir(directory.path()));
    // Both answer soon; the commands wait for iperf3, and this for the other.
    let at: SocketAddr = format!("{}:17715", OUTSIDE[0]).parse()?;
    let asks = format!(
        "for i in $(seq 100); do (exec 3<>/dev/tcp/{}/{}) && exit; sleep 0.05; done",
        at.ip(),
        at.port()
    );
    let _ = cable.native(&["bash", "-c", &asks]).stderr(Stdio::null()).status()?;
    let sandbox = sandbox_exec();
    let sandbox = sandbox.to_string_lossy();
    let given_back = given_back("exec \"$@\"");
    let entered = ["ip", "netns", "exec", &cable.inside, "sh", "-c", &given_back, "sh"];
    let sandboxed = [&entered[..], &[&*sandbox, "--network=stack", "--"]].concat();
    let gvisors = ways.iter().filter_map(|way| Some((way, way.options_of("runsc")?)));
    let mut ways = vec![Way::with_prefix("native", &entered), Way::with_prefix("sandbox-exec", &sandboxed)];
    for (way, options) in gvisors {
        // Its own choice, and the other one: what is cut by the host costs it more where it makes many host calls, and less elsewhere.
        for (more, what) in [(&[][..], ""), (&["--gso=false"], ", `--gso=false`")] {
            let options = options.iter().copied().filter(|option| !option.starts_with("--network"));
            let options =
                options.chain(["--network=sandbox"]).chain(more.iter().copied()).collect::<Vec<_>>();
            ways.push(gvisor(&cable, &format!("{}{what}", way.name), &options)?);
        }
    }
    ways.retain(|way| !way.is_container() || runs(way));
    let table = work::measure(TITLE, UNIT, WORKS, &ways, 3);
    drop((iperf, nginx));
    Ok(Table { columns: ways.into_iter().map(|way| way.name).collect(), ..table? })
}

/// A script that gives the interface its address back first, which gVisor's stack takes from it and keeps.
fn given_back(then: &str) -> String {
    format!("ip addr replace {}/24 dev eth0; {then}", INSIDE[0])
}

/// runsc with the stack of its own on the same end of the cable. It takes a network namespace for the host's own if that has
/// `rmem_default`, which each has in Linux 6.18: so it is shown none.
fn gvisor(cable: &Cable, name: &str, options: &[&str]) -> Result<Way> {
    let script = given_back(
        "exec unshare --mount sh -c 'mount -t tmpfs none /proc/sys/net/core && exec \"$@\"' sh \"$@\"",
    );
    let entered = ["ip", "netns", "exec", &cable.inside, "sh", "-c", &script, "sh", "runsc"];
    let runtime = [&entered[..], options].concat();
    Way::in_bundles(name, &runtime, Some(&format!("/run/netns/{}", cable.inside)))
}

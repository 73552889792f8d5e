//! Containers of an ordinary user.

use crate::bundle::Bundle;
use crate::is_root;
use conformance::{run, trapbox};
use std::fs;
use std::process::Command;

/// As Podman runs what belongs to an ordinary user.
#[test]
fn an_ordinary_user_may_be_root_of_a_namespace_of_its_own() {
    if !is_root() {
        return;
    }
    let bundle = Bundle::new("id -u");
    let place = bundle.place.path();
    let own = place.join("own");
    fs::create_dir(&own).expect("made");
    // The build directory may be out of the user's reach.
    let command = place.join("trapbox");
    fs::copy(trapbox(), &command).expect("copied");
    let given = Command::new("chown").arg("-R").arg("daemon:").arg(place).status().expect("chown runs");
    assert!(given.success());
    let mut user = Command::new("setpriv");
    user.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups", "--inh-caps=-all"]);
    user.args(["unshare", "--user", "--map-root-user"]);
    user.arg(command).args(["run", "--bundle"]).arg(place).arg(&bundle.id);
    user.env("XDG_RUNTIME_DIR", &own).env("USER", "daemon").current_dir(place);
    let outcome = run(&mut user).expect("setpriv runs");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "0\n"), "{}", outcome.stderr);
    assert!(own.join("trapbox").is_dir(), "its containers are kept elsewhere");
}

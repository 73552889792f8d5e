//! Attacks: each a program that assumes that it owns its address space, our kernel included, or a user of a hole that other sandboxes
//! have had. What stopped it is stated in its row and checked from outside. Each runs as root and, if root started the suite, once
//! more as an ordinary user; and as one whose host refuses user namespaces, or lacks Landlock.
//!
//! `docs/security.md` has the table of the rows; `ci/attack-table` writes it.

mod floods;
mod outside;
mod packet;
mod page;
mod special;
mod stage;
mod suite;

use libtest_mimic::{Arguments, Failed, Trial};
use stage::{Stage, User};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--write-table") {
        page::write().expect("docs/security.md is written");
        return;
    }
    let arguments = Arguments::from_args();
    let mut trials =
        vec![Trial::test("page::the_table_of_attacks_is_current", || page::check().map_err(failed))];
    for &user in User::all() {
        for attack in suite::ATTACKS {
            trials.push(Trial::test(format!("{user}::{}", attack.name), move || {
                Stage::new(user).and_then(|stage| attack.run(&stage)).map_err(failed)
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    stage::tidy();
    conclusion.exit()
}

fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}

//! Real servers and real clients print the same through us as without us.
//!
//! Takes minutes and an image of its own: `scripts/test --programs`. `PROGRAMS='nginx;curl'` in the environment runs only
//! those with one of these in their names.
//! What passes byte by byte is in `tests/transparency`.

mod compared;
mod known;
mod others;
mod program;
mod web;

use std::collections::BTreeSet;

use lab::Lab;

use crate::compared::Hosts;
use crate::known::{KNOWN_DIFFERENCES, REFUSED_ONCE};
use crate::program::Program;

fn all() -> Vec<Program> {
    [web::PROGRAMS, others::PROGRAMS].concat()
}

#[test]
#[ignore = "takes minutes, and an image that scripts/parts makes only for it"]
fn real_programs_say_what_they_say_without_us() {
    let lab = Lab::of_this_test();
    let hosts = Hosts::start(&lab);
    let wanted = std::env::var("PROGRAMS").unwrap_or_default();
    let is_wanted = |program: &Program| wanted.split(';').any(|part| program.name.contains(part));
    let mut problems = Vec::new();
    for (index, program) in all().iter().enumerate().filter(|(_, program)| is_wanted(program)) {
        let found = hosts.compare(program, u16::try_from(index).expect("few programs"));
        println!("{}: {}", program.name, if found.is_empty() { "as expected" } else { "NOT AS EXPECTED" });
        problems.extend(found);
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.concat());
}

#[test]
fn each_program_has_a_name_of_its_own_and_each_exception_names_one() {
    let programs = all();
    let names: BTreeSet<_> = programs.iter().map(|program| program.name).collect();
    assert_eq!(names.len(), programs.len());
    for name in KNOWN_DIFFERENCES.iter().map(|known| &known.1).chain(REFUSED_ONCE) {
        assert!(names.contains(name), "there is no program {name:?}");
    }
}

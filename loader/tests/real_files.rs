//! Files of this machine.

mod common;
use common::limits;
use loader::plan::plan;
use loader::{Kind, Prot, Step, Window, choose_bias, parse, parse_interpreter, section_range};

#[test]
fn ls_and_cat_are_pie_programs_whose_interpreter_loads() {
    for path in ["/bin/ls", "/bin/cat"] {
        let file = std::fs::read(path).unwrap();
        let program = parse(&file).unwrap();
        assert_eq!((program.kind, program.stack_exec), (Kind::Dyn, false));
        let interp = String::from_utf8(program.interp.clone().unwrap()).unwrap();
        assert_eq!(interp, "/lib64/ld-linux-x86-64.so.2");
        let ld = std::fs::read(interp).unwrap();
        assert_eq!(parse_interpreter(&ld).unwrap().kind, Kind::Dyn);

        let bias = choose_bias(&program, 0x1234_5678_9abc, Window::PIE, &limits()).unwrap();
        let place = plan(&program, bias, &limits()).unwrap();
        let holds_entry = |step: &Step| match step {
            Step::MapFile { prot, .. } => prot.contains(Prot::EXEC) && step.range().contains(&place.entry),
            _ => false,
        };
        assert!(place.steps.iter().any(holds_entry));
        assert!(place.steps.iter().any(|step| step.range().contains(&place.phdr)));
        let (text, size) = section_range(&file, b".text").unwrap();
        assert!(text <= program.entry && program.entry < text + size);
    }
}

/// Where Linux itself mapped a dynamic program, from proc_pid_maps(5), less what ld.so changed (RELRO).
#[test]
fn linux_mapped_cat_where_the_plan_says() {
    let own = std::fs::canonicalize("/bin/cat").unwrap();
    let program = parse(&std::fs::read(&own).unwrap()).unwrap();
    let output = std::process::Command::new(&own).arg("/proc/self/maps").output().unwrap();
    let maps = String::from_utf8(output.stdout).unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let mut ranges = vec![];
    for line in maps.lines().filter(|line| line.ends_with(own.to_str().unwrap())) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        ranges.push(hex(start)..hex(end));
    }
    let base = ranges[0].start;
    let place = plan(&program, base, &limits()).unwrap();
    let mapped = |at: u64| ranges.iter().any(|range| range.contains(&at));
    for step in &place.steps {
        if let Step::MapFile { addr, len, .. } = step {
            assert!((*addr..addr + len).step_by(4096).all(mapped), "{step:x?} is not in {ranges:x?}");
        }
    }
    let mapped_file = |step: &&Step| matches!(step, Step::MapFile { .. });
    let end = place.steps.iter().rfind(mapped_file).unwrap().range().end;
    assert_eq!(ranges.last().unwrap().end, end);
}
